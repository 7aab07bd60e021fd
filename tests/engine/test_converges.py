"""Law 14: whatever users, crashes, lost replies and queues do, the sides become equal once they rest, and then nothing is written.

Hypothesis state machines over the real engine with fake ports. Each rule is something that happens in production; what must hold
at rest stands in agreement.py. A machine of its own for each kind of trouble meets more of it than one for all.
"""

from hypothesis import HealthCheck, Phase, settings

from tests.engine.rules_of_clerks import ClerksAtWork
from tests.engine.rules_of_operators import OperatorsAtWork
from tests.engine.rules_of_people import PeopleAtWork
from tests.engine.rules_of_trouble import TroubleAtWork


class Documents(ClerksAtWork, TroubleAtWork):
    """Documents with lines and the accounts and contacts that they refer to, and everything that can go wrong."""


class Everything(PeopleAtWork, OperatorsAtWork, ClerksAtWork, TroubleAtWork):
    """Two systems, an app that may die at any step, servers that fail, and people who never stop."""


PROFILE = settings.get_current_profile_name()
EXAMPLES = {"faults": 80, "thorough": 5_000}
"""Of each of the machines."""
SETTINGS = settings(
    max_examples=EXAMPLES.get(PROFILE, 150),
    # To make a history small takes minutes, which a test of the daily suite does not have.
    phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if PROFILE == "thorough" else ())),
    stateful_step_count=30,
    # The daily suite meets the same histories each time, so that it is red only for a change; the long look meets new ones.
    derandomize=PROFILE != "thorough",
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestPeople, TestOperators = PeopleAtWork.TestCase, OperatorsAtWork.TestCase
TestTrouble, TestEverything, TestDocuments = TroubleAtWork.TestCase, Everything.TestCase, Documents.TestCase
TestPeople.settings = TestOperators.settings = TestTrouble.settings = TestEverything.settings = SETTINGS
TestDocuments.settings = settings(SETTINGS, max_examples=EXAMPLES.get(PROFILE, 500))
