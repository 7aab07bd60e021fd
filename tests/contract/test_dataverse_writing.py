"""Prove that the adapter makes none of the mistakes of dataverse.md 13 when it writes; each test is named after one."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest

from shared.core.errors import Denied, Rejected, Stale, Transient
from shared.core.records import Row, Stamp, Write, WriteKind
from tests.contract.dataverse_fake import ID1, ID2, ID3, US, Fake, adapter_on, batch_lines, error, multipart, reply, row

HOSTILE = "O'Brian & \"Söhne\" <x>/#?%+=;\nline \u202eabc 😀 ') or name ne ('"
SEEN = Row(ID1, Stamp(datetime(2026, 1, 1, tzinfo=UTC), 'W/"7"'), {"name": "Old"})
CREATED = (201, row(ID1, name="A"))


def update(values, key=ID1, seen=SEEN):
    """Return an update of one record."""
    return Write(WriteKind.UPDATE, key, values, seen)


def create(values, key=ID1):
    """Return a create with our own id."""
    return Write(WriteKind.CREATE, key, values)


def bodies(request):
    """Return the JSON bodies of a batch, in order."""
    return [json.loads(line) for line in batch_lines(request) if line.startswith("{")]


async def pages(adapter, position=None, since=None, columns=("name",)):
    """Return all pages of a change feed."""
    return [page async for page in adapter.changes("account", columns, position, since)]


@pytest.mark.parametrize("fault", [httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x"), httpx.Response(502, html="<html>")])
async def test_retrying_post_after_a_timeout(fault):
    """After a lost reply nothing is sent again: every record of the batch is Transient."""
    fake = Fake([fault])
    results = await adapter_on(fake).write("account", [create({"name": "A"}), update({"name": "B"}, ID2)])
    assert [type(result.error) for result in results] == [Transient, Transient]
    assert [result.error.record_id for result in results] == [ID1, ID2]
    assert len(fake.seen) == 1


async def test_a_create_uses_post_with_our_own_key_and_never_an_upsert():
    """The client-made primary key stands in the body of a POST; nulls are left out."""
    fake = Fake([multipart((201, row(ID1, name="A", description=None)))])
    (result,) = await adapter_on(fake).write("account", [create({"name": "A", "description": None})])
    assert bodies(fake.seen[0]) == [{"accountid": ID1, "name": "A"}]
    assert any(line.startswith("POST /api/data/v9.2/accounts?$select=") for line in batch_lines(fake.seen[0]))
    assert result.error is None
    assert result.row is not None
    assert (result.row.id, result.row.values["name"], result.row.stamp.version) == (ID1, "A", 'W/"1"')
    assert result.row.changed_by_us


@pytest.mark.parametrize(("seen", "expected"), [(SEEN, 'If-Match: W/"7"'), (None, "If-Match: *")])
@pytest.mark.parametrize("kind", [WriteKind.UPDATE, WriteKind.DELETE])
async def test_omitting_if_match_and_resurrecting_deleted_rows(seen, expected, kind):
    """Every PATCH and DELETE carries the version that the plan saw, or `*`."""
    fake = Fake([multipart((204, None))])
    await adapter_on(fake).write("account", [Write(kind, ID1, {"name": "A"} if kind is WriteKind.UPDATE else {}, seen)])
    assert expected in batch_lines(fake.seen[0])


async def test_expecting_headers_of_the_outer_request_to_reach_the_parts():
    """`Prefer: return=representation` stands in each part, continue-on-error on the batch."""
    fake = Fake([multipart((200, row(ID1, name="A")), (200, row(ID2, name="B")))])
    await adapter_on(fake).write("account", [update({"name": "A"}), update({"name": "B"}, ID2)])
    assert batch_lines(fake.seen[0]).count("Prefer: return=representation") == 2
    assert fake.seen[0].headers["prefer"] == "odata.continue-on-error"
    assert fake.seen[0].headers["if-none-match"] == "null"


async def test_reading_only_the_outer_status():
    """A stale version and an over-long text fail their own records; the one between is written."""
    fake = Fake(
        [
            multipart(
                (
                    412,
                    {
                        "error": {
                            "code": "0x80060882",
                            "message": "The version of the existing record doesn't match the RowVersion property.",
                        }
                    },
                ),
                (200, row(ID2, "9", name="B")),
                (
                    400,
                    {
                        "error": {
                            "code": "0x80044331",
                            "message": "A validation error occurred. The length of the 'name' attribute of the "
                            "'account' entity exceeded the maximum allowed length of '160'.",
                        }
                    },
                ),
            )
        ]
    )
    results = await adapter_on(fake).write("account", [update({"name": "A"}), update({"name": "B"}, ID2), update({"name": "C"}, ID3)])
    assert isinstance(results[0].error, Stale)
    assert results[0].error.code == "dataverse.changed_meanwhile"
    assert results[1].error is None
    assert results[1].row.stamp.version == 'W/"9"'
    assert isinstance(results[2].error, Rejected)
    assert (results[2].error.code, results[2].error.field, results[2].error.record_id) == ("dataverse.too_long", "name", ID3)


async def test_setting_statecode_on_create():
    """A state that can't be created is patched after the POST in one change set, with its status; an active one is not sent."""
    fake = Fake([multipart([CREATED, (200, row(ID1, "2", name="A", statecode=1, statuscode=2))], (201, row(ID2, name="B")))])
    results = await adapter_on(fake).write(
        "account", [create({"name": "A", "statecode": 1, "statuscode": 2}), create({"name": "B", "statecode": 0, "statuscode": 1}, ID2)]
    )
    assert bodies(fake.seen[0]) == [
        {"accountid": ID1, "name": "A"},
        {"statecode": 1, "statuscode": 2},
        {"accountid": ID2, "name": "B", "statuscode": 1},
    ]
    assert [line for line in batch_lines(fake.seen[0]) if line.startswith("Content-ID")] == ["Content-ID: 1", "Content-ID: 2"]
    assert results[0].row.stamp.version == 'W/"2"'
    # the second lacks the statecode column in its row, which only another read can tell
    assert results[1].error.code == "dataverse.bad_answer"


async def test_expecting_one_reply_part_per_change_set_operation_on_failure():
    """A failed change set is one plain part; the records after it keep their own answers."""
    failed = (400, {"error": {"code": "0x80048408", "message": "2 is not a valid status code for state code 1"}})
    fake = Fake([multipart(failed, (200, row(ID2, name="B")))])
    results = await adapter_on(fake).write("account", [create({"name": "A", "statecode": 1}), update({"name": "B"}, ID2)])
    assert results[0].error.code == "dataverse.refused"
    assert results[1].error is None


async def test_unanswered_parts_are_transient():
    """A reply that was cut off leaves the unanswered records to another look; none is taken for written or for failed."""
    whole = multipart((200, row(ID1, name="A")), (200, row(ID2, name="B")))
    content = whole.content[: whole.content.index(ID2.encode())]
    fake = Fake([httpx.Response(200, content=content, headers=dict(whole.headers, **{"content-length": str(len(content))}))])
    results = await adapter_on(fake).write("account", [update({"name": "A"}), update({"name": "B"}, ID2)])
    assert results[0].error is None
    assert isinstance(results[1].error, Transient)
    assert results[1].error.code == "dataverse.bad_answer"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, html="<html>proxy</html>"), "dataverse.not_json"),
        (httpx.Response(200, json={"value": []}), "dataverse.not_json"),
        (error("0x80048d19", "Error identified in Payload: Stream was not readable."), "dataverse.bad_request"),
    ],
)
async def test_a_batch_answered_by_something_else(answer, code):
    """HTML, plain JSON, or a refusal of the whole batch becomes the error of each record, without a second try."""
    fake = Fake([answer])
    (result,) = await adapter_on(fake).write("account", [update({"name": "A"})])
    assert (result.error.code, result.error.record_id, len(fake.seen)) == (code, ID1, 1)


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
@pytest.mark.parametrize("quoting", ["boundary=batchresponse_1", 'boundary="batchresponse_1"', "charset=utf-8; Boundary=batchresponse_1"])
async def test_batch_replies_of_every_shape(line_end, quoting):
    """A change set that went through, one that failed as a plain part, a delete without body: either line end, boundary quoted or not."""
    went_through = [CREATED, (200, row(ID1, "2", name="A", statecode=1))]
    failed = (400, {"error": {"code": "0x80048408", "message": "2 is not a valid status code for state code 1"}})
    whole = multipart(went_through, failed, (204, None), (200, row(ID2, name="B")))
    content = whole.content.replace(b"\r\n", line_end.encode())
    fake = Fake([httpx.Response(200, content=content, headers={"content-type": f"multipart/mixed; {quoting}"})])
    writes = [
        create({"name": "A", "statecode": 1}),
        create({"name": "X", "statecode": 1}, ID3),
        Write(WriteKind.DELETE, ID3, {}),
        update({"name": "B"}, ID2),
    ]
    results = await adapter_on(fake).write("account", writes)
    assert [result.error and result.error.code for result in results] == [None, "dataverse.refused", None, None]
    assert results[0].row.values == {"name": "A", "statecode": 1}
    assert (results[0].row.stamp.version, results[3].row.values["name"]) == ('W/"2"', "B")


async def test_a_batch_that_stopped_keeps_the_parts_that_name_their_operation():
    """An outer 400 that is still multipart is read part by part; one part of several operations could be any of them, so it blames none."""
    refused = (400, {"error": {"code": "0x8004431a", "message": "out of range"}})
    fake = Fake([multipart(refused, status=400)])
    (alone,) = await adapter_on(fake).write("account", [update({"industrycode": 99})])
    assert alone.error.code == "dataverse.out_of_range"
    writes = [update({"name": "B"}, ID2), update({"industrycode": 99}), update({"name": "C"}, ID3)]
    results = await adapter_on(Fake([multipart((200, row(ID2, name="B")), refused, status=400)])).write("account", writes)
    assert [result.error and result.error.code for result in results] == [None, "dataverse.out_of_range", "dataverse.bad_answer"]
    results = await adapter_on(Fake([multipart(refused, status=400)])).write("account", writes)
    assert {(type(result.error), result.error.code) for result in results} == {(Transient, "dataverse.bad_answer")}


async def test_big_writes_are_cut_into_batches_and_throttling_stops_the_rest():
    """A hundred operations a batch; when the account is throttled for long, the remaining records are not even sent."""
    writes = [update({"name": "A"}, f"{n:08d}-0000-4000-8000-000000000000") for n in range(250)]

    def answer(request):
        if len(fake.seen) == 1:
            return multipart(*[(200, row(write.id, name="A")) for write in writes[:100]])
        return httpx.Response(429, headers={"Retry-After": "60"})

    fake = Fake(answer)
    results = await adapter_on(fake).write("account", writes)
    assert len(fake.seen) == 2
    assert [result.error is None for result in results] == [True] * 100 + [False] * 150
    assert {(r.error.code, round(r.error.retry_after)) for r in results[100:]} == {("dataverse.throttled", 60)}


async def test_a_whole_request_refused_stops_the_flow_but_one_part_refused_only_its_record():
    """403 on the batch is Denied (rights, admin mode); 403 on one row is that record's refusal."""
    denied = error("0x80040220", "Principal user is missing prvWriteAccount", 403)
    with pytest.raises(Denied) as caught:
        await adapter_on(Fake([denied])).write("account", [update({"name": "A"})])
    assert caught.value.code == "dataverse.denied"
    part = (403, {"error": {"code": "0x80048306", "message": "Principal does not have WriteAccess right(s) for record"}})
    (result,) = await adapter_on(Fake([multipart(part)])).write("account", [update({"name": "A"})])
    assert isinstance(result.error, Rejected)
    assert result.error.code == "dataverse.refused"


async def test_lower_casing_nav_names_and_using_the_lookups_logical_name_for_polymorphic_lookups():
    """Lookups are written through the navigation property as the metadata spells it, to the set of the right table."""
    fake = Fake([multipart((200, {}))])
    values = {"msdyn_segmentid": ID2, "primarycontactid": ID3, "ownerid": US, "parentcustomerid_contact": ID2}
    await adapter_on(fake).write("account", [update(values)])
    assert bodies(fake.seen[0]) == [
        {
            "msdyn_SegmentId@odata.bind": f"/msdyn_segments({ID2})",
            "primarycontactid@odata.bind": f"/contacts({ID3})",
            "ownerid@odata.bind": f"/systemusers({US})",
            "parentcustomerid_contact@odata.bind": f"/contacts({ID2})",
        }
    ]


async def test_a_lookup_that_may_lead_to_two_tables_is_looked_up():
    """An id given for `parentcustomerid` is looked for among the accounts; what is not there is a contact."""
    fake = Fake([reply({"value": [row(ID2)]}), multipart((200, {}), (200, {}))])
    await adapter_on(fake).write("account", [update({"parentcustomerid": ID2}), update({"parentcustomerid": ID3}, ID2)])
    assert bodies(fake.seen[1]) == [
        {"parentcustomerid_account@odata.bind": f"/accounts({ID2})"},
        {"parentcustomerid_contact@odata.bind": f"/contacts({ID3})"},
    ]


async def test_clearing_a_lookup_writes_null_and_a_twin_never_clears_what_the_other_sets():
    """Null clears; of two names of one lookup only the filled one is written."""
    fake = Fake([multipart((200, {}), (200, {}))])
    await adapter_on(fake).write(
        "account", [update({"primarycontactid": None}), update({"parentcustomerid_account": ID3, "parentcustomerid_contact": None}, ID2)]
    )
    assert bodies(fake.seen[0]) == [
        {"primarycontactid@odata.bind": None},
        {"parentcustomerid_account@odata.bind": f"/accounts({ID3})"},
    ]


async def test_writing_back_x_value():
    """`_x_value` never stands in a body, though it is what rows show."""
    fake = Fake([multipart((200, {}))])
    await adapter_on(fake).write("account", [update({"primarycontactid": ID2, "ownerid": None})])
    assert "_value" not in json.dumps(bodies(fake.seen[0]))


async def test_dates_timestamps_into_dateonly_and_format_dateonly_is_not_edm_date():
    """The behaviour decides, not the format: DateOnly columns get a bare date, others a UTC time; money is never a float."""
    fake = Fake([multipart((200, {}))])
    moment = datetime(2026, 6, 30, 22, 15, tzinfo=UTC)
    values = {"birthdate": date(2026, 6, 30), "lastonholdtime": moment, "revenue": Decimal("12345678901234567.89")}
    await adapter_on(fake).write("account", [update(values)])
    text = fake.seen[0].content.decode()
    assert '"birthdate":"2026-06-30"' in text
    assert '"lastonholdtime":"2026-06-30T22:15:00Z"' in text
    assert '"revenue":12345678901234567.89' in text


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"numberofemployees": "12"}, "numberofemployees"),
        ({"primarycontactid": "x"}, "primarycontactid"),
        ({"name": ("a", "b")}, "name"),
        ({"creditonhold": 1}, "creditonhold"),
        ({"fullname": "x"}, "fullname"),
    ],
)
async def test_a_value_that_does_not_fit_fails_its_record_before_anything_is_sent(values, field):
    """Nothing is guessed or turned into text; the other record is written."""
    fake = Fake([multipart((200, row(ID2, name="B")))])
    results = await adapter_on(fake).write("account", [update(values), update({"name": "B"}, ID2, None)])
    assert isinstance(results[0].error, Rejected)
    assert results[0].error.field == field
    assert results[1].error is None


async def test_nothing_to_write_sends_nothing():
    """An update without values is done without a request."""
    fake = Fake([])
    (result,) = await adapter_on(fake).write("account", [update({})])
    assert (result.error, result.row, fake.seen) == (None, SEEN, [])


async def test_deleting_what_is_gone_is_done():
    """A DELETE of a row that does not exist any more counts as done; a refused one does not."""
    gone = (404, {"error": {"code": "0x80040217", "message": f"account With Id = {ID1} Does Not Exist"}})
    kept = (405, {"error": {"code": "0x80040227", "message": "The object cannot be deleted because it is associated"}})
    fake = Fake([multipart(gone, kept, (204, None))])
    results = await adapter_on(fake).write("account", [Write(WriteKind.DELETE, key, {}) for key in (ID1, ID2, ID3)])
    assert [result.error and result.error.code for result in results] == [None, "dataverse.refused", None]


async def test_a_missing_target_blames_its_lookup_and_not_the_record():
    """The text "does not exist" about the lookup's target names the field; about the record itself it is `not_found`."""

    def says(key, kind="contact"):
        return (404, {"error": {"code": "0x80040217", "message": f"{kind} With Id = {key} Does Not Exist"}})

    fake = Fake([multipart(says(ID3), says(ID2, "account"), says(ID3))])
    results = await adapter_on(fake).write(
        "account",
        [
            update({"primarycontactid": ID3, "name": "A"}),
            update({"primarycontactid": ID3}, ID2),
            create({"primarycontactid": ID3}),
        ],
    )
    assert [(r.error.code, r.error.field) for r in results] == [
        ("dataverse.refused", "primarycontactid"),
        ("dataverse.not_found", ""),
        ("dataverse.refused", "primarycontactid"),
    ]


async def test_comparing_decimal_codes_with_hex_strings():
    """Codes are compared as hex in any case."""
    for code in ("0x80060892", "0X80060892", "0x8006089D"):
        fake = Fake([multipart((412, {"error": {"code": code, "message": "exists"}}))])
        (result,) = await adapter_on(fake).write("account", [create({"name": "A"})])
        assert result.error.code == "dataverse.duplicate"


async def test_throttling_inside_a_part_pauses_the_account():
    """A part's 429 is Transient with its wait, and the whole transport pauses."""
    fake = Fake([multipart((429, {"error": {"code": "0x80072322", "message": "Number of requests exceeded"}}, {"Retry-After": "17"}))])
    adapter = adapter_on(fake)
    (result,) = await adapter.write("account", [update({"name": "A"})])
    assert (result.error.code, result.error.retry_after) == ("dataverse.throttled", 17.0)
    assert adapter._web.pace.paused_for > 10


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "expected", "field"),
    [
        (500, "0x80044150", "Generic SQL error. Sql Number: 1205", Transient, "unavailable", ""),
        (500, "0x80044151", "SQL timeout expired.", Transient, "unavailable", ""),
        (400, "0x80040265", "plug-in: credit limit of 'Contoso' is too high", Rejected, "refused", ""),
        (
            400,
            "0x80048d19",
            "Error identified in Payload: Cannot convert the literal '77' to the expected type 'Edm.Date'.",
            Rejected,
            "bad_request",
            "numberofemployees",
        ),
        (400, "0x0", "Invalid property 'name' was found in entity 'Microsoft.Dynamics.CRM.account'.", Rejected, "unknown_column", "name"),
        (412, "", "A record with matching key values already exists.", Stale, "changed_meanwhile", ""),
        (403, "0x80072560", "The user is not a member of the organization.", Denied, "not_a_member", ""),
        (418, "", "teapot", Rejected, "unexpected", ""),
        (400, "", "", Rejected, "bad_request", ""),
    ],
)
async def test_errors_of_parts(status, code, message, kind, expected, field):
    """Each code, text or status leads to its group, and to the field when one is named."""
    fake = Fake([multipart((status, {"error": {"code": code, "message": message}}))])
    (result,) = await adapter_on(fake).write("account", [update({"name": "Contoso", "numberofemployees": 77})])
    assert type(result.error) is kind
    assert (result.error.code, result.error.field) == (f"dataverse.{expected}", field)
    assert "Contoso" not in str(result.error)


async def test_customer_text_never_reaches_an_error():
    """The server quotes the value with and without quotes; neither form is kept."""
    secret = "Müller's Geheimprojekt"
    message = f"The value '{secret}' is bad: {secret} and {secret.upper()}"
    fake = Fake([multipart((400, {"error": {"code": "0x80040203", "message": message}}))])
    (result,) = await adapter_on(fake).write("account", [update({"name": secret})])
    assert "geheim" not in (str(result.error) + repr(result.error.__dict__)).lower()


async def test_hostile_text_travels_through_writes_unchanged():
    """Quotes, line ends, right-to-left marks and emoji are one JSON text of one part."""
    fake = Fake([multipart((200, row(ID1, name=HOSTILE)))])
    (result,) = await adapter_on(fake).write("account", [update({"name": HOSTILE + "\r\n--batch_x--\r\n"})])
    assert bodies(fake.seen[0])[0]["name"] == HOSTILE + "\r\n--batch_x--\r\n"
    assert result.row.values["name"] == HOSTILE


async def test_a_column_that_is_gone_fails_only_the_records_that_write_it():
    """The unknown column is named for its record; a record that had only seen it is written all the same."""
    fake = Fake([multipart((200, row(ID2, name="B")))])
    seen = Row(ID2, SEEN.stamp, {"name": "A", "gone": "x"})
    results = await adapter_on(fake).write("account", [update({"name": "A", "gone": "x"}), update({"name": "B"}, ID2, seen)])
    assert (results[0].error.code, results[0].error.field) == ("dataverse.unknown_column", "gone")
    assert results[1].error is None
    assert results[1].row.values == {"name": "B"}


@pytest.mark.parametrize("key", ["", "1)/name", "x", f"{ID1})?a=(b"])
async def test_an_id_that_is_no_guid_never_reaches_a_url(key):
    """Such a write is refused before anything is sent."""
    (result,) = await adapter_on(Fake([])).write("account", [update({"name": "A"}, key)])
    assert result.error.code == "dataverse.bad_request"
