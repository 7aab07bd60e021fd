"""Law 14: whatever users, crashes, lost replies and queues do, the sides become equal once they rest, and then nothing is written.

A Hypothesis state machine over the real engine with fake ports. Each rule is something that happens in production; what must hold
at rest stands in agreement.py.
"""

from hypothesis import HealthCheck, settings

from tests.engine.rules_of_people import OperatorsAtWork, PeopleAtWork
from tests.engine.rules_of_trouble import TroubleAtWork


class Sync(PeopleAtWork, OperatorsAtWork, TroubleAtWork):
    """Two systems, an app that may die at any step, and users who never stop."""


EXAMPLES = {"faults": 300, "thorough": 20_000}
TestSync = Sync.TestCase
TestSync.settings = settings(
    max_examples=EXAMPLES.get(settings.get_current_profile_name(), 500),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
