"""Hypothesis profiles: `faults` looks for a failure without making it small, `thorough` looks long (make test-all)."""

import pytest
from hypothesis import Phase, settings

from tests.engine.world import World

settings.register_profile("faults", phases=(Phase.explicit, Phase.generate))
settings.register_profile("thorough")


@pytest.fixture
def world() -> World:
    """Return a world with nothing in it."""
    return World()
