"""The seed is hard but valid, and the comparison that ends the demo sees what differs."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from sandbox.compare import Difference, compare
from sandbox.control_client import Control
from sandbox.creatio.app import create_app as create_creatio
from sandbox.dataverse.server import create_app as create_dataverse
from sandbox.seed import seed
from sandbox.serve import running
from shared.core.binding import Binding, BindingState
from shared.core.document import line_id
from shared.core.records import Side
from shared.engine.services import Limits
from tests.unit.mapped_world import flow_context, line_context, mappings

FLOW = "sales.account"
PEOPLE = "sales.contact"


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

    def __init__(self, flow, side):
        self._flow, self._side = flow, side

    async def describe(self, entity, columns, options):
        lines = mappings().flows[self._flow].lines
        own = lines is not None and entity == lines.end(self._side).entity
        return (line_context if own else flow_context)(self._flow).entities[self._side]

    async def users(self):
        return {}


def services_of(pairs, ended):
    """Return what the comparison asks of the app: metadata, and the pairs of ids that each flow has bound, or bound once."""
    bindings = [Binding(flow, BindingState.BOUND, *ids) for flow, found in pairs.items() for ids in found]
    bindings += [Binding(flow, BindingState.ENDED, *ids) for flow, found in ended.items() for ids in found]

    async def read(flow, side, ids):
        return {binding.id_on(side): binding for binding in bindings if binding.flow == flow and binding.id_on(side) in ids}

    flows = mappings().flows
    return SimpleNamespace(
        mapping=lambda flow: flows[flow],
        mappings=mappings(),
        keyring=None,
        limits=Limits(),
        clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        ledger=SimpleNamespace(bindings=read),
        system=lambda mapping, side: Described(mapping.flow, side),
    )


async def compared(sides, pairs, *, flow=FLOW, accounts=(), ended=()):
    """Compare both stand-ins under a flow's mapping; `pairs` and `ended` are that flow's, `accounts` what the account flow has bound."""
    services = services_of({FLOW: accounts, flow: pairs}, {flow: ended})
    return await compare(services, flow, sides.controls[Side.CREATIO], sides.controls[Side.DYNAMICS])


async def one_pair(sides, **changes):
    """Put one account on both sides that is equal but for the changes of its Dynamics row; return its ids."""
    (left,) = await sides.controls[Side.CREATIO].seed("Account", [{"Name": "Whitfield Ltd", "Phone": "+44 20 1234", "UsrEmployees": 5}])
    row = {"name": "Whitfield Ltd", "telephone1": "+44-20-1234", "numberofemployees": 5, "tandem_creatioid": left, **changes}
    (right,) = await sides.controls[Side.DYNAMICS].seed("account", [row])
    return left, right


async def test_an_equal_pair_has_no_difference(sides) -> None:
    """Equal under the mapping is equal: another spelling of a phone, an absent credit stop, an owner without partner."""
    found = await compared(sides, [await one_pair(sides)])
    assert (found.records, found.fields, found.differences) == (1, 28, ())


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


async def employed(sides, **changes):
    """Put one person with an account on both sides, equal but for the changes of the Dynamics row; return both pairs of ids."""
    account = await one_pair(sides)
    creatio, dynamics = sides.controls[Side.CREATIO], sides.controls[Side.DYNAMICS]
    types = {row["Name"]: row["Id"] for row in await creatio.rows("ContactType")}
    for user in await creatio.rows("Contact"):
        await creatio.edit("Contact", user["Id"], {"TypeId": types["Employee"]})
    known = {"BirthDate": "1952-02-29T00:00:00Z", "DoNotUseCall": True, "AccountId": account[0], "MobilePhone": "+49 (170) 1"}
    (left,) = await creatio.seed("Contact", [{"Name": "Juan de la Fuente", **known}])
    row = {
        "firstname": "Juan",
        "lastname": "de la Fuente",
        "birthdate": "1952-02-29",
        "donotphone": True,
        "parentcustomerid": account[1],
        "mobilephone": "+49-170-1",
        "tandem_creatioid": left,
    }
    (right,) = await dynamics.seed("contact", [{**row, **changes}])
    return account, (left, right)


async def test_an_equal_person_has_no_difference(sides) -> None:
    """A name that Dynamics parts otherwise, another spelling of a phone, and the account on both sides are no differences."""
    account, person = await employed(sides)
    found = await compared(sides, [person], flow=PEOPLE, accounts=[account])
    assert (found.records, found.fields, found.differences) == (1, 24, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lastname": "de la Fuentes"}, "Name=firstname,middlename,lastname"),
        ({"birthdate": "1952-02-28"}, "BirthDate=birthdate"),
        ({"donotphone": False}, "DoNotUseCall=donotphone"),
        ({"mobilephone": "+49-170-2"}, "MobilePhone=mobilephone"),
        ({"parentcustomerid": None}, "AccountId=parentcustomerid_account"),
        ({"gendercode": 2}, "GenderId=gendercode"),
    ],
)
async def test_every_difference_of_a_person_is_seen(sides, change, field) -> None:
    """One fact about a person that was changed behind the app's back is found, and nothing else is."""
    account, person = await employed(sides, **change)
    found = await compared(sides, [person], flow=PEOPLE, accounts=[account])
    assert [difference.field for difference in found.differences] == [field]


async def test_a_person_under_another_person_has_no_account(sides) -> None:
    """A contact that hangs on a contact in Dynamics differs from one with an account in Creatio, even if the two ids were the same."""
    account, person = await employed(sides, parentcustomerid__type="contact")
    found = await compared(sides, [person], flow=PEOPLE, accounts=[account])
    assert [(difference.field, difference.dynamics) for difference in found.differences] == [("AccountId=parentcustomerid_account", None)]


async def test_employees_are_no_difference(sides) -> None:
    """Creatio's own people are out of the flow's scope and rightly in Creatio only; a customer must have a partner."""
    account, person = await employed(sides)
    creatio = sides.controls[Side.CREATIO]
    types = {row["Name"]: row["Id"] for row in await creatio.rows("ContactType")}
    assert types["Employee"] in {row["TypeId"] for row in await creatio.rows("Contact")}
    (customer,) = await creatio.seed("Contact", [{"Name": "Carla Customer", "TypeId": types["Customer"]}])
    found = await compared(sides, [person], flow=PEOPLE, accounts=[account])
    assert found.differences == (Difference(f"creatio {customer}", ""),)


async def test_the_survivor_of_a_delete_is_no_difference(sides) -> None:
    """A record whose binding has ended is in one system only by right, and is not compared."""
    pair = await one_pair(sides, numberofemployees=6)
    found = await compared(sides, [], ended=[pair])
    assert (found.records, found.differences) == (0, ())


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


async def test_the_seed_has_the_people_that_were_promised(sides) -> None:
    """Hundreds of people: with and without account, some on both sides, old and leap-day births, shared mailboxes, none at all."""
    result = await seed(*sides.urls)
    users = await sides.controls[Side.CREATIO].rows("SysAdminUnit")
    types = {row["Id"]: row["Name"] for row in await sides.controls[Side.CREATIO].rows("ContactType")}
    everyone, right = await sides.controls[Side.CREATIO].rows("Contact"), await sides.controls[Side.DYNAMICS].rows("contact")
    own = {row["ContactId"] for row in users}
    assert {types[row["TypeId"]] for row in everyone if row["Id"] in own} == {"Employee"}
    left = [row for row in everyone if row["Id"] not in own]
    assert {types[row["TypeId"]] for row in left} == {"Contact person"}
    assert result.contacts == 300
    assert len(left) + len(right) - result.contacts >= 20, "people on both sides"
    for rows, account in ((left, "AccountId"), (right, "parentcustomerid")):
        assert 10 < len([row for row in rows if not row[account]]) < len(rows) / 2
    assert [row["Email"] for row in left].count("") > 10
    for rows, email in ((left, "Email"), (right, "emailaddress1")):
        assert [row[email] for row in rows].count("team@shared.example") > 3
    births = {str(row["birthdate"])[:10] for row in right} | {str(row["BirthDate"])[:10] for row in left}
    assert {"1931-12-31", "1952-02-29", "2000-02-29"} <= births
    assert any(row["PrimaryContactId"] for row in await sides.controls[Side.CREATIO].rows("Account"))
    assert any(row["primarycontactid"] for row in await sides.controls[Side.DYNAMICS].rows("account"))
    assert not all(row["UsrActive"] for row in left)


async def test_people_of_the_seed_can_be_matched_without_doubt(sides) -> None:
    """No two people of one side share a name with an e-mail, an account or a mobile phone; a twin shares its name and its e-mail."""
    result = await seed(*sides.urls)
    types = {row["Id"]: row["Name"] for row in await sides.controls[Side.CREATIO].rows("ContactType")}
    left = [row for row in await sides.controls[Side.CREATIO].rows("Contact") if types[row["TypeId"]] != "Employee"]
    right = await sides.controls[Side.DYNAMICS].rows("contact")
    parts = ("firstname", "middlename", "lastname")
    here = [(row["Name"], row["Email"] or "") for row in left]
    there = [(" ".join(row[part] for part in parts if row[part]), row["emailaddress1"] or "") for row in right]
    for names in ([name for name, _ in here], [name for name, _ in there]):
        assert len(set(names)) == len(names)
    twins = {name for name, _ in here} & {name for name, _ in there}
    assert len(twins) == len(left) + len(right) - result.contacts
    assert all(dict(here)[name] == dict(there)[name] != "" for name in twins)


async def test_the_same_seed_makes_the_same_records() -> None:
    """Two people who run the demo see the same companies and contacts; another seed makes others."""
    found = []
    for number in (7, 7, 8):
        async with running(create_creatio()) as creatio, running(create_dataverse(token_key="k" * 32)) as dataverse:
            await seed(creatio, dataverse, accounts=60, seed=number)
            control = Control("creatio", creatio)
            accounts = [(row["Id"], row["Name"], row["UsrAnnualRevenue"]) for row in await control.rows("Account")]
            people = [(row["Id"], row["Name"], row["BirthDate"], row["AccountId"]) for row in await control.rows("Contact")]
            found.append((accounts, people))
            await control.close()
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))


@pytest.mark.parametrize(
    ("change", "seen"),
    [({}, set()), ({"tax": 1.0}, {"line", "totalamount"}), ({"productdescription": "Ink"}, {"line"}), (None, {"line", "totalamount"})],
)
async def test_lines_and_totals_are_compared(sides, change, seen) -> None:
    """A line that Dynamics has otherwise, or not at all, is one difference of its document, and so is a sum that is not Creatio's."""
    creatio, dynamics = sides.controls[Side.CREATIO], sides.controls[Side.DYNAMICS]
    order = (await creatio.create("Order", {"Number": "ORD-1"}))["Id"]
    amounts = {"Price": 1.5, "TaxAmount": 0.5, "Amount": 4.5, "TotalAmount": 5.0}
    line = (await creatio.create("OrderProduct", {"OrderId": order, "Name": "Pen", "Quantity": 3.0, **amounts}))["Id"]
    twin = (await dynamics.create("salesorder", {"name": "ORD-1", "ordernumber": "ORD-1"}))["salesorderid"]
    if change is not None:
        row = {"productdescription": "Pen", "isproductoverridden": True, "quantity": 3.0, "priceperunit": 1.5, "tax": 0.5, **change}
        await dynamics.create("salesorderdetail", {"salesorderdetailid": line_id("sales.order", line), "salesorderid": twin, **row})
    found = await compared(sides, [(order, twin)], flow="sales.order")
    told = {difference.field.partition("/")[0] for difference in found.differences}
    assert told & {"line", "totalamount"} == seen
