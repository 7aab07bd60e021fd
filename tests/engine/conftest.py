"""Hypothesis profiles: `faults` looks for a failure without making it small, `thorough` looks long (make test-all)."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.engine.world import World

_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile("default", max_examples=500, stateful_step_count=25, **_COMMON)
settings.register_profile("faults", max_examples=300, stateful_step_count=25, phases=(Phase.explicit, Phase.generate), **_COMMON)
settings.register_profile("thorough", max_examples=20_000, stateful_step_count=30, **_COMMON)
settings.load_profile("default")


@pytest.fixture
def world() -> World:
    """Return a world with nothing in it."""
    return World()
