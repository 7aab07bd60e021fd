"""Hypothesis profiles: `thorough` looks long and makes what it finds small (make test-all); the others only look."""

import pytest
from hypothesis import Phase, settings

from tests.engine.world import World

settings.register_profile("faults", phases=(Phase.explicit, Phase.generate))
settings.register_profile("thorough")


@pytest.fixture
def world() -> World:
    """Return a world with nothing in it."""
    return World()
