"""The seed is hard but valid, and the comparison that ends the demo sees what differs."""

from types import SimpleNamespace

import pytest

from sandbox.compare import Difference, compare
from sandbox.control_client import Control
from sandbox.creatio.app import create_app as create_creatio
from sandbox.dataverse.server import create_app as create_dataverse
from sandbox.seed import seed
from sandbox.serve import running
from shared.core.binding import Binding, BindingState
from shared.core.records import Side
from tests.unit.mapped_world import account_context, mappings

FLOW = "sales.account"


@pytest.fixture
async def sides():
    """Serve both stand-ins and give their control APIs by side."""
    async with running(create_creatio()) as creatio, running(create_dataverse(token_key="k" * 32)) as dataverse:
        controls = {Side.CREATIO: Control("creatio", creatio), Side.DYNAMICS: Control("dataverse", dataverse)}
        yield SimpleNamespace(urls=(creatio, dataverse), controls=controls)
        for control in controls.values():
            await control.close()


class Described:
    """A system that only tells its metadata."""

    def __init__(self, side):
        self._side = side

    async def describe(self, entity, columns, options):
        return account_context().entities[self._side]

    async def users(self):
        return {}


def services_of(pairs):
    """Return what the comparison asks of the app: metadata and the given pairs of ids."""
    bindings = {left: Binding(FLOW, BindingState.BOUND, left, right) for left, right in pairs}
    other = {binding.dynamics_id: binding for binding in bindings.values()}

    async def read(flow, side, ids):
        kept = bindings if side is Side.CREATIO else other
        return {key: kept[key] for key in ids if key in kept}

    flows = mappings().flows
    return SimpleNamespace(
        mapping=lambda flow: flows[flow],
        mappings=mappings(),
        keyring=None,
        ledger=SimpleNamespace(bindings=read),
        system=lambda mapping, side: Described(side),
    )


async def compared(sides, pairs):
    """Compare both stand-ins under the account mapping."""
    return await compare(services_of(pairs), FLOW, sides.controls[Side.CREATIO], sides.controls[Side.DYNAMICS])


async def one_pair(sides, **changes):
    """Put one account on both sides that is equal but for the changes of its Dynamics row; return its ids."""
    (left,) = await sides.controls[Side.CREATIO].seed("Account", [{"Name": "Whitfield Ltd", "Phone": "+44 20 1234", "UsrEmployees": 5}])
    row = {"name": "Whitfield Ltd", "telephone1": "+44-20-1234", "numberofemployees": 5, "tandem_creatioid": left, **changes}
    (right,) = await sides.controls[Side.DYNAMICS].seed("account", [row])
    return left, right


async def test_an_equal_pair_has_no_difference(sides) -> None:
    """Equal under the mapping is equal: another spelling of a phone, an absent credit stop, an owner without partner."""
    found = await compared(sides, [await one_pair(sides)])
    assert (found.records, found.fields, found.differences) == (1, 27, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"telephone1": "+44-20-1235"}, "Phone=telephone1"),
        ({"numberofemployees": 6}, "UsrEmployees=numberofemployees"),
        ({"numberofemployees": None}, "UsrEmployees=numberofemployees"),
        ({"creditonhold": True}, "UsrCreditHold=creditonhold"),
        ({"tandem_creatioid": None}, "Id=tandem_creatioid"),
        ({"statecode": 1}, "UsrActive=statecode"),
        ({"address1_city": "Atlantis"}, "CityId=address1_city"),
        ({"revenue": 0.01}, "UsrAnnualRevenue=revenue"),
    ],
)
async def test_every_difference_is_seen(sides, change, field) -> None:
    """One field that was changed behind the app's back is found, and nothing else is."""
    found = await compared(sides, [await one_pair(sides, **change)])
    assert [difference.field for difference in found.differences] == [field]


async def test_a_record_without_partner_is_a_difference(sides) -> None:
    """Two equal accounts that nobody bound are two differences: each is in one system only."""
    left, right = await one_pair(sides)
    found = await compared(sides, [])
    assert set(found.differences) == {Difference(f"creatio {left}", ""), Difference(f"dynamics {right}", "")}


async def test_the_seed_is_what_was_promised(sides) -> None:
    """More than 500 accounts, pairs among them, many scripts, very long texts, empty and double e-mails, parents, inactive ones."""
    result = await seed(*sides.urls)
    left, right = (await sides.controls[Side.CREATIO].rows("Account"), await sides.controls[Side.DYNAMICS].rows("account"))
    assert (result.accounts, len(left), len(right)) == (520, 400, 260)
    text = " ".join([row["Name"] for row in left] + [row["name"] for row in right])
    for letter in "éößαдשاशส山日한ł'&\"<%#\N{ROCKET}":
        assert letter.casefold() in text.casefold(), letter
    assert max(len(row["Name"]) for row in left) >= 200
    assert max(len(row["Notes"]) for row in left) == 5_000
    emails = [row["UsrEmail"] for row in left]
    assert emails.count("") > 20
    assert emails.count("office@shared.example") > 1
    assert any(row["ParentId"] for row in left)
    assert any(row["parentaccountid"] for row in right)
    assert any(not row["UsrActive"] for row in left)


async def test_the_seed_can_be_matched_without_doubt(sides) -> None:
    """No two accounts of one side share a number, or a name with its postal code: every pair is found, none is asked about."""
    await seed(*sides.urls)
    left, right = (await sides.controls[Side.CREATIO].rows("Account"), await sides.controls[Side.DYNAMICS].rows("account"))
    for keys in (
        [row["Code"] for row in left if row["Code"]],
        [row["accountnumber"] for row in right if row["accountnumber"]],
        [(row["Name"].casefold(), row["Zip"]) for row in left],
        [(row["name"].casefold(), row["address1_postalcode"]) for row in right],
    ):
        assert len(set(keys)) == len(keys)


async def test_the_same_seed_makes_the_same_accounts() -> None:
    """Two people who run the demo see the same companies; another seed makes others."""
    found = []
    for number in (7, 7, 8):
        async with running(create_creatio()) as creatio, running(create_dataverse(token_key="k" * 32)) as dataverse:
            await seed(creatio, dataverse, accounts=60, seed=number)
            control = Control("creatio", creatio)
            found.append([(row["Id"], row["Name"], row["UsrAnnualRevenue"]) for row in await control.rows("Account")])
            await control.close()
    assert found[0] == found[1]
    assert found[0] != found[2]
