"""The list of deliberate faults: each still finds the one place in the code that it breaks."""

import pytest

from tests.mutations import FAULTS, ROOT, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.law}: {fault.what}" for fault in FAULTS])
def test_a_fault_finds_its_place(fault: Fault) -> None:
    """A fault whose text stands nowhere, or twice, would never be put in, and nobody would see its law tested."""
    assert (ROOT / "shared" / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    assert fault.old != fault.new
