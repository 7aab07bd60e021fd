"""The loader of mapping files: every file it refuses, with the sentence that an analyst reads."""

import json

import pytest

from shared.core.errors import ConfigError
from shared.core.mapping import RULES, Mapping, MappingSet, Row
from shared.core.mapping_load import load
from shared.core.records import Side
from tests.unit.mapped_world import flow_files, mappings, value_files

NAME = {"creatio": "Name", "way": "=", "dynamics": "name"}
LISTS = {"kinds": '{"values": [{"creatio": "Customer", "dynamics": 3}]}'}


def flow_text(*rows, **changes) -> str:
    """Return a mapping file of a flow with these rows beside the name."""
    body = {
        "flow": "sales.account",
        "title": "Accounts",
        "about": "Accounts.",
        "creatio": {"entity": "Account"},
        "dynamics": {"system": "dataverse", "entity": "account"},
        "create": "both",
        "owner": "creatio",
        "on_delete": "keep",
        "on_duplicate": "ask",
        "match": [["Name"]],
        "fields": [NAME, *rows],
        **changes,
    }
    return json.dumps(body)


def refusal_of(files, values=None) -> tuple[str, ...]:
    """Return the problems for which files are refused."""
    with pytest.raises(ConfigError) as caught:
        load(files if isinstance(files, dict) else {"sales.account.json": files}, LISTS if values is None else values)
    return tuple(caught.value.problems)


def test_the_smallest_mapping_is_accepted() -> None:
    """The file that all refusals below are made from is itself in order, so that each refusal is about its one change."""
    loaded = load({"sales.account.json": flow_text()}, LISTS)
    assert isinstance(loaded, MappingSet)
    assert [row.key for row in loaded.flows["sales.account"].fields] == ["Name=name"]


def row(creatio, way, dynamics, **more) -> dict:
    """Return a row of a mapping."""
    return {"creatio": creatio, "way": way, "dynamics": dynamics, **more}


REFUSED_ROWS = {
    "unknown rule": (
        row("Zip", "=", "zip", rule="lookup"),
        "sales.account.json: fields: row 2: rule: got 'lookup', allowed " + ", ".join(RULES),
    ),
    "unknown key": (
        row("Zip", "=", "zip", ownr="creatio"),
        "sales.account.json: fields: row 2 ownr: got an unknown key; look for a typing mistake (allowed keys are in mapping.schema.json)",
    ),
    "unknown way": (row("Zip", "<>", "zip"), "sales.account.json: fields: row 2 way: got '<>', allowed '>', '<' or '='"),
    "no way": ({"creatio": "Zip", "dynamics": "zip"}, "sales.account.json: fields: row 2 way: this key is missing"),
    "unknown overlong": (
        row("Zip", "=", "zip", overlong="cut"),
        "sales.account.json: fields: row 2 overlong: got 'cut', allowed 'reject' or 'truncate'",
    ),
    "unknown owner": (
        row("Zip", "=", "zip", owner="latest"),
        "sales.account.json: fields: row 2 owner: got 'latest', allowed 'creatio', 'dynamics' or 'ask'",
    ),
    "two ways with a constant": (
        row("Zip", "=", "zip", rule="constant", value=1),
        "sales.account: row 2 (Zip=zip): way: got '=', allowed '>' or '<': the rule 'constant' can't be reversed",
    ),
    "two ways with an id": (
        row("Id", "=", "zip", rule="source_id"),
        "sales.account: row 2 (Id=zip): way: got '=', allowed '>' or '<': the rule 'source_id' can't be reversed",
    ),
    "two ways with a plain text": (
        row("Zip", "=", "zip", rule="plain_text"),
        "sales.account: row 2 (Zip=zip): way: got '=', allowed '>' or '<': the rule 'plain_text' can't be reversed",
    ),
    "two ways while": (
        row("Zip", "=", "zip", only_while={"column": "StatusId", "any_of": ["Resolved"]}),
        "sales.account: row 2 (Zip=zip): needs, unless, only_while: got way '=', allowed '>': they are conditions on the Creatio record",
    ),
    "instead of what is only written": (
        row("Zip", ">", "zip", instead="code"),
        "sales.account: row 2 (Zip=zip): instead: allowed with '=' and '<' and one Dynamics column: it says what is read there",
    ),
    "two ways with a join by comma": (
        row("Zip", "=", ["a", "b"], rule="join", separator=", "),
        "sales.account: row 2 (Zip=a,b): way: got '=', allowed '>' or '<': a join with the separator ', ' can't be taken apart again",
    ),
    "kept drift both ways": (
        row("Zip", "=", "zip", drift="keep"),
        "sales.account: row 2 (Zip=zip): drift: `keep` is for one-way rows only",
    ),
    "no Dynamics column": (
        {"creatio": "Zip", "way": "="},
        "sales.account: row 2 (Zip=): dynamics: this column is missing",
    ),
    "no Creatio column": (
        {"way": "=", "dynamics": "zip"},
        "sales.account: row 2 (=zip): creatio: this column is missing",
    ),
    "a constant without a receiver": (
        {"creatio": "Zip", "way": ">", "rule": "constant", "value": 1},
        "sales.account: row 2 (Zip=): dynamics: this column is missing",
    ),
    "a list of columns with another rule": (
        row("Zip", "=", ["a", "b"]),
        "sales.account: row 2 (Zip=a,b): rule 'copy': got 1 sides with a list of columns, allowed one, and only with join and split_name",
    ),
    "a join of one column": (
        row("Zip", "=", "zip", rule="join"),
        "sales.account: row 2 (Zip=zip): rule 'join': got 0 sides with a list of columns, allowed one, and only with join and split_name",
    ),
    "a join on both sides": (
        row(["A", "B"], "=", ["a", "b"], rule="join"),
        "sales.account: row 2 (A,B=a,b): rule 'join': got 2 sides with a list of columns, allowed one, and only with join and split_name",
    ),
    "a name of four parts": (
        row("Full", "=", ["a", "b", "c", "d"], rule="split_name"),
        "sales.account: row 2 (Full=a,b,c,d): split_name: got another number of columns, allowed [first, last] or [first, middle, last]",
    ),
    "a list that is not there": (
        row("TypeId", "=", "typecode", rule="choice", values="types"),
        "sales.account: row 2 (TypeId=typecode): values: got 'types', allowed labels, kinds",
    ),
    "a reference to nothing": (
        row("ParentId", "=", "parentid", rule="reference"),
        'sales.account: row 2 (ParentId=parentid): reference: give either "flow" or "users"',
    ),
    "a reference to two things": (
        row("ParentId", "=", "parentid", rule="reference", flow="sales.account", users="email"),
        'sales.account: row 2 (ParentId=parentid): reference: give either "flow" or "users"',
    ),
    "a reference to a flow that is not there": (
        row("ContactId", "=", "contactid", rule="reference", flow="sales.contact"),
        "sales.account: row 2 (ContactId=contactid): flow: got 'sales.contact', allowed sales.account",
    ),
    "a flow that waits for itself": (
        row("ParentId", "=", "parentid", rule="reference", flow="sales.account", if_missing="wait"),
        "sales.account: row 2 (ParentId=parentid): if_missing: a reference of a flow to itself is always 'skip'",
    ),
    "two rows that write one column": (
        row("Zip", ">", "name"),
        "sales.account: two rows write dynamics 'name'; one column, one row",
    ),
}


@pytest.mark.parametrize(("given", "sentence"), REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_a_row_that_can_not_work_is_refused(given, sentence) -> None:
    """One wrong row gives exactly one sentence, which names the row by number and says what is allowed."""
    assert refusal_of(flow_text(given)) == (sentence,)


REFUSED_FLOWS = {
    "unknown key": (
        {"prio": 1},
        "sales.account.json: prio: got an unknown key; look for a typing mistake (allowed keys are in mapping.schema.json)",
    ),
    "the latest edit as owner": (
        {"owner": "latest"},
        "sales.account.json: owner: got 'latest', allowed 'creatio', 'dynamics' or 'ask'",
    ),
    "unknown system": (
        {"dynamics": {"system": "sap", "entity": "account"}},
        "sales.account.json: dynamics.system: got 'sap', allowed 'dataverse'",
    ),
    "a match key that no row has": (
        {"match": [["Code"]]},
        "sales.account: match: got 'Code', allowed the single Creatio columns of the rows",
    ),
    "an empty match key": ({"match": [[]]}, "sales.account: match: a key needs at least one column"),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSED_FLOWS.values(), ids=REFUSED_FLOWS.keys())
def test_a_flow_that_can_not_work_is_refused(changes, sentence) -> None:
    """One wrong member of a flow gives exactly one sentence, which names the member and says what is allowed."""
    assert refusal_of(flow_text(**changes)) == (sentence,)


@pytest.mark.parametrize(
    "member", ["flow", "title", "creatio", "dynamics", "create", "owner", "on_delete", "on_duplicate", "match", "fields"]
)
def test_a_missing_member_is_named(member) -> None:
    """What a flow can't do without is asked for by its name."""
    body = json.loads(flow_text())
    del body[member]
    assert refusal_of(json.dumps(body)) == (f"sales.account.json: {member}: this key is missing",)


def test_text_that_is_no_json_is_refused() -> None:
    """A file cut in the middle is named with its length, without a stack trace and without its content."""
    (sentence,) = refusal_of(flow_text()[:50])
    assert sentence.startswith("sales.account.json: this is no JSON: ")
    assert sentence.endswith("(50 characters)")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object_is_refused(text) -> None:
    """A file that holds something else than an object is one problem of that file."""
    (sentence,) = refusal_of(text)
    assert sentence.startswith("sales.account.json: the file: ")


def test_a_flow_without_rows_is_refused() -> None:
    """A flow that would do nothing is a mistake."""
    (sentence,) = refusal_of(flow_text(fields=[], match=[]))
    assert sentence.startswith("sales.account.json: fields: ")


def test_all_problems_of_all_files_come_together() -> None:
    """An analyst mends everything in one go: two files and a value list give their problems in one error."""
    files = {"sales.account.json": flow_text(row("Zip", "=>", "zip"), title=7), "sales.contact.json": "{"}
    problems = refusal_of(files, {"kinds": "{"})
    assert len(problems) == 4
    assert [problem.partition(":")[0] for problem in problems] == [
        "values/kinds", "sales.account.json", "sales.account.json", "sales.contact.json",
    ]  # fmt: skip


def test_one_flow_in_two_files_is_refused() -> None:
    """Two files can't describe one flow, whatever their names are."""
    problems = refusal_of({"a.json": flow_text(), "b.json": flow_text()})
    assert problems == ("b.json: the flow sales.account stands in another file too",)


def test_two_flows_that_write_one_column_are_refused() -> None:
    """Two flows on the same objects would fight for a column; the sentence names both flows and the column."""
    problems = refusal_of({"a.json": flow_text(), "b.json": flow_text(flow="sales.copy")})
    assert problems == (
        "sales.account, sales.copy write the same column creatio Account.Name; one column, one flow",
        "sales.account, sales.copy write the same column dataverse account.name; one column, one flow",
    )


REFUSED_LISTS = {
    "no JSON": ("{", 'got something else, allowed {"values": [{"creatio": ..., "dynamics": ...}, ...]}'),
    "another shape": ("[]", 'got something else, allowed {"values": [{"creatio": ..., "dynamics": ...}, ...]}'),
    "half a pair": ('{"values": [{"creatio": "Customer"}]}', "dynamics: this key is missing"),
    "a third value": (
        '{"values": [{"creatio": "Customer", "dynamics": 3, "sap": 7}]}',
        "sap: got an unknown key; look for a typing mistake (allowed keys are in mapping.schema.json)",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED_LISTS.values(), ids=REFUSED_LISTS.keys())
def test_a_value_list_that_can_not_work_is_refused(text, sentence) -> None:
    """A wrong value list gives one sentence with the list's name."""
    assert refusal_of(flow_text(), {"kinds": text}) == (f"values/kinds: {sentence}",)


ONE_TO_TWO = '{"values": [{"creatio": "Customer", "dynamics": 3}, {"creatio": "Customer", "dynamics": 4}]}'
TWO_TO_ONE = '{"values": [{"creatio": "Customer", "dynamics": 3}, {"creatio": "Client", "dynamics": 3}]}'
BOTH_WAYS, ONE_WAY = "a two-way list needs each value once", "a value becomes one thing"


@pytest.mark.parametrize(
    ("way", "text", "said"),
    [
        ("=", ONE_TO_TWO, f"'Customer' stands twice on the creatio side; {BOTH_WAYS}"),
        ("=", TWO_TO_ONE, f"'3' stands twice on the dynamics side; {BOTH_WAYS}"),
        (">", ONE_TO_TWO, f"'Customer' stands twice on the creatio side; {ONE_WAY}"),
        ("<", TWO_TO_ONE, f"'3' stands twice on the dynamics side; {ONE_WAY}"),
        (">", TWO_TO_ONE, None),
        ("<", ONE_TO_TWO, None),
    ],
)
def test_a_value_that_could_become_two_things_is_refused(way, text, said) -> None:
    """A list may name a value twice only on the side that none of its rows reads: several states may mean one."""
    given = flow_text(row("TypeId", way, "typecode", rule="choice", values="kinds"))
    if said is None:
        assert load({"sales.account.json": given}, {"kinds": text}).flows
    else:
        assert refusal_of(given, {"kinds": text}) == (f"sales.account: row 2 (TypeId=typecode): values/kinds: {said}",)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"creatio": {"entity": "Company"}, "create": "to_dynamics"}, True),
        ({"create": "to_dynamics"}, False),
        ({"creatio": {"entity": "Company"}, "create": "both"}, False),
    ],
)
def test_two_flows_may_write_one_table_from_objects_of_their_own(changes, accepted) -> None:
    """Where both create in Dynamics only, from two objects, each record belongs to one of them, and nothing is fought for."""
    sent = [row("Name", ">", "name")]
    files = {"a.json": flow_text(fields=sent, create="to_dynamics"), "b.json": flow_text(flow="sales.copy", fields=sent, **changes)}
    if accepted:
        assert len(load(files, LISTS).flows) == 2
    else:
        assert refusal_of(files) == ("sales.account, sales.copy write the same column dataverse account.name; one column, one flow",)


def test_a_condition_that_nobody_is_told_of_does_not_finish() -> None:
    """`finish` writes once more because a row of the column has something to say; without such a row nothing would ever finish."""
    when = [{"way": ">", "column": "TypeId", "any_of": ["Customer"], "then": "finish"}]
    said = "sales.account: when: TypeId: then: got 'finish', allowed stop, go_on: no row tells the other side of this column"
    assert refusal_of(flow_text(when=when)) == (said,)
    assert refusal_of(flow_text(row("TypeId", "<", "typecode"), when=when)) == (said,)
    assert loaded(row("TypeId", ">", "typecode"), when=when).when


def loaded(*rows, lists=None, **changes) -> Mapping:
    """Return a flow that is in order."""
    return load({"sales.account.json": flow_text(*rows, **changes)}, lists or LISTS).flows["sales.account"]


def test_a_row_knows_its_columns_and_ways() -> None:
    """What the engine asks of a row: its columns by side, its key, which side it writes, which side leads."""
    flow = loaded(row("Zip", "=", ["a", "b"], rule="join"), row("Limit", "<", "limit"), row("Id", ">", "ref", rule="source_id"))
    joined, received, sent = flow.fields[1:]
    assert (joined.key, joined.columns(Side.DYNAMICS), joined.is_joined(Side.DYNAMICS)) == ("Zip=a,b", ("a", "b"), True)
    assert [joined.writes(side) for side in Side] == [True, True]
    assert [received.writes(side) for side in Side] == [True, False]
    assert [sent.writes(side) for side in Side] == [False, True]
    assert (joined.source, received.source, sent.source) == (None, Side.DYNAMICS, Side.CREATIO)
    assert flow.columns(Side.DYNAMICS) == ("name", "a", "b", "limit", "ref")


def test_a_flow_reads_the_columns_of_its_conditions() -> None:
    """The column of a condition is read and its options are known, on the side that the direction starts from."""
    flow = loaded(when=[{"way": ">", "column": "TypeId", "any_of": ["Customer"]}, {"way": "<", "column": "statecode", "any_of": [0]}])
    assert flow.columns(Side.CREATIO) == ("Name", "TypeId")
    assert flow.columns(Side.DYNAMICS) == ("name", "statecode")
    assert flow.option_columns(Side.CREATIO) == ("TypeId",)
    assert flow.option_columns(Side.DYNAMICS) == ("statecode",)


def test_a_flow_reads_what_its_rows_depend_on() -> None:
    """The column of `only_while` is read with its labels in Creatio, that of `instead` in Dynamics; neither is written."""
    first = row("Zip", ">", "zip", only_while={"column": "StatusId", "any_of": ["Resolved"]})
    flow = loaded(first, row("Code", "=", "code", instead="othercode"))
    assert flow.columns(Side.CREATIO) == ("Name", "Zip", "StatusId", "Code")
    assert flow.columns(Side.DYNAMICS) == ("name", "zip", "code", "othercode")
    assert (flow.option_columns(Side.CREATIO), flow.option_columns(Side.DYNAMICS)) == (("StatusId",), ())


@pytest.mark.parametrize(
    ("create", "creatio", "dynamics"),
    [("both", True, True), ("to_dynamics", False, True), ("to_creatio", True, False), ("none", False, False)],
)
def test_create_says_where(create, creatio, dynamics) -> None:
    """Each word of `create` opens exactly the sides it names."""
    flow = loaded(create=create)
    assert (flow.creates(Side.CREATIO), flow.creates(Side.DYNAMICS)) == (creatio, dynamics)


def test_a_row_owner_goes_before_the_flow_owner() -> None:
    """A row's own owner wins over the flow's, which holds for all other rows."""
    flow = loaded(row("Zip", "=", "zip", owner="ask"), owner="dynamics")
    assert [flow.owner_of(field) for field in flow.fields] == ["dynamics", "ask"]


def hash_of(given, lists=None) -> str:
    """Return the hash of the second row of a flow."""
    flows = load({"sales.account.json": flow_text(given)}, lists or LISTS)
    second: Row = flows.flows["sales.account"].fields[1]
    return flows.row_hash(second)


CHOICE = row("TypeId", "=", "typecode", rule="choice", values="kinds")
HARMLESS = [{"note": "why"}, {"owner": "ask"}, {"required": True}, {"otherwise": "keep"}]
WHILE = {"column": "StatusId", "any_of": ["Resolved"]}
TELLING = [
    *({"values": "labels"}, {"dynamics": "othercode"}, {"creatio": "OtherId"}, {"same": ["A", "B"]}),
    *({"instead": "othercode"}, {"way": ">", "only_while": WHILE}),
]


@pytest.mark.parametrize("change", HARMLESS, ids=[next(iter(change)) for change in HARMLESS])
def test_what_changes_no_value_keeps_the_row_hash(change) -> None:
    """A note, an owner or a refusal makes no other values, so records need not be looked at again (law 1)."""
    assert hash_of({**CHOICE, **change}) == hash_of(CHOICE)


@pytest.mark.parametrize("change", TELLING, ids=[next(iter(change)) for change in TELLING])
def test_what_changes_values_changes_the_row_hash(change) -> None:
    """Another column or list makes other values, so bases of the old row no longer count unseen (law 1)."""
    assert hash_of({**CHOICE, **change}) != hash_of(CHOICE)


def test_a_changed_value_list_changes_the_row_hash() -> None:
    """One more pair in a value list changes the rows that use it; a note in it does not (law 1)."""
    more = {"kinds": '{"values": [{"creatio": "Customer", "dynamics": 3}, {"creatio": "Partner", "dynamics": 5}]}'}
    noted = {"kinds": '{"values": [{"creatio": "Customer", "dynamics": 3, "note": "as of 2026"}]}'}
    assert hash_of(CHOICE, more) != hash_of(CHOICE)
    assert hash_of(CHOICE, noted) == hash_of(CHOICE)


def test_the_files_of_the_product_are_accepted() -> None:
    """What is delivered loads without a problem, with every row and list."""
    assert load(flow_files(), value_files()).flows


def document_text(*rows, **changes) -> dict[str, str]:
    """Return a flow whose documents have lines with these rows."""
    ends = {"creatio": {"entity": "Line", "parent": "AccountId"}, "dynamics": {"entity": "line", "parent": "accountid"}}
    return {"sales.account.json": flow_text(create="to_dynamics", lines={**ends, "fields": list(rows)}, **changes)}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([row("Name", "=", "name")], "lines: row 1 (Name=name): way: got '=', allowed '>'"),
        ([row("Id", ">", "id", rule="source_id")], "lines: row 1 (Id=id): rule 'source_id': got a rule of several columns or ids"),
        ([row("A", ">", "name"), row("B", ">", "name")], "lines: two rows write dynamics 'name'; one column, one row"),
        ([row("A", ">", "a", rule="choice", values="nope")], "lines: row 1 (A=a): values: got 'nope', allowed labels, "),
    ],
)  # fmt: skip
def test_lines_are_checked_as_fields_are(rows: list[dict[str, object]], problem: str) -> None:
    """What is wrong with a line's row is said with its place."""
    found = refusal_of(document_text(*rows))
    assert any(one.startswith(f"sales.account: {problem}") for one in found), found


def test_lines_go_to_dynamics_only() -> None:
    """A flow that creates in Creatio can't carry lines."""
    files = {"sales.account.json": document_text(row("Name", ">", "name"))["sales.account.json"].replace('"to_dynamics"', '"both"')}
    (found,) = refusal_of(files)
    assert found == "sales.account: lines: got create 'both', allowed to_dynamics, none: lines go from Creatio to Dynamics only"


def contact_text(if_missing: str, account: str = "wait") -> dict[str, str]:
    """Return two flows that refer to each other."""
    account_row = row("PrimaryContactId", "=", "primarycontactid", rule="reference", flow="sales.contact", if_missing=account)
    contact_row = row("AccountId", "=", "parent", rule="reference", flow="sales.account", if_missing=if_missing)
    ends = {"flow": "sales.contact", "creatio": {"entity": "Contact"}, "dynamics": {"system": "dataverse", "entity": "contact"}}
    return {"sales.account.json": flow_text(account_row), "sales.contact.json": flow_text(contact_row, **ends)}


def test_flows_that_wait_for_each_other_are_refused() -> None:
    """Two flows whose records wait for each other would never begin: the circle is named once; with one `skip` it is fine."""
    assert refusal_of(contact_text("wait")) == (
        "sales.account waits for sales.contact waits for sales.account: nothing would ever begin; let one of these rows `skip`",
    )
    assert set(load(contact_text("wait", "skip"), LISTS).flows) == {"sales.account", "sales.contact"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"on_delete": "deactivate"}, "inactive: name a column and its value on at least one side"),
        ({"on_delete": "keep", "inactive": {"dynamics": {"name": "x"}}}, "inactive: name a column and its value on at least one side"),
        (
            {"on_delete": "deactivate", "inactive": {"dynamics": {"state": 1}}},
            "inactive: dynamics: got 'state', allowed a column of the rows",
        ),
        ({"when": [{"way": ">", "column": "TypeId"}]}, "when: TypeId: give either any_of or none_of"),
        ({"when": [{"way": ">", "column": "T", "any_of": ["a"], "none_of": ["b"]}]}, "when: T: give either any_of or none_of"),
    ],
)
def test_a_policy_that_says_too_little_or_too_much_is_refused(changes, sentence) -> None:
    """Deactivating needs to know what inactive means, on a column that is read; a condition names values to have or not to have."""
    assert any(sentence in problem for problem in refusal_of(flow_text(**changes)))


def test_objects_can_go_live_one_after_the_other() -> None:
    """With accounts alone enabled their link to contacts is left out, and another hash says later that it is new."""
    files = contact_text("wait", "skip")
    alone = load(files, LISTS, ["sales.account"])
    assert [row.key for row in alone.flows["sales.account"].fields] == ["Name=name"]
    assert list(alone.flows) == ["sales.account"]
    assert alone.flow_hash("sales.account") != load(files, LISTS).flow_hash("sales.account")


def test_a_flow_that_could_double_something_runs_only_where_it_is_named() -> None:
    """Without a list of flows those run that say nothing else; a name in the list counts whatever the file says."""
    files = contact_text("wait", "skip")
    name = next(name for name in files if "contact" in name)
    files[name] = json.dumps({**json.loads(files[name]), "by_default": False})
    assert list(load(files, LISTS, None).flows) == ["sales.account"]
    assert set(load(files, LISTS).flows) == {"sales.account", "sales.contact"}
    assert set(load(files, LISTS, ["sales.account", "sales.contact"]).flows) == {"sales.account", "sales.contact"}


def test_the_flows_that_are_shipped_make_nothing_twice_by_default() -> None:
    """Quotes come from draft orders or from opportunities, invoices from Dynamics 365 Sales or an ERP: the second is asked for by name."""
    named = {name for name, flow in mappings().flows.items() if not flow.by_default}
    assert named == {"sales.opportunity_quote", "sales.invoice"}


def test_a_flow_that_waits_for_one_that_is_not_enabled_is_refused() -> None:
    """Contacts alone would wait for accounts for ever: the sentence says what to do."""
    with pytest.raises(ConfigError) as caught:
        load(contact_text("wait", "skip"), LISTS, ["sales.contact"])
    assert caught.value.problems == (
        "sales.contact: AccountId=parent waits for records of sales.account, which is not enabled: enable it too, or let the row `skip`",
    )
