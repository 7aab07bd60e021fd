"""Microsoft's client of Dataverse sends its batches to our stand-in: order, change sets, failures, what goes into one."""

import pytest
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.upsert import UpsertItem

from tests.judges.microsoft_site import MISSING

TOO_LONG = {"name": "x" * 161}


def test_operations_of_every_kind_are_answered_in_order(site) -> None:
    """Creates, updates, upserts, reads, lists, deletes and metadata stand in one batch, each answer in its place."""
    ids = site.client.records.create("account", [{"name": name} for name in "ABCD"])
    batch = site.client.batch.new()
    batch.records.create("account", {"name": "Ü"})
    batch.records.create("account", [{"name": "E"}, {"name": "F"}])
    batch.records.update("account", ids[0], {"name": "A1"})
    batch.records.update("account", ids[:2], {"fax": "1"})
    batch.records.upsert("account", [UpsertItem({"tandem_creatioid": "42"}, {"name": "G"})])
    batch.records.upsert("account", [UpsertItem({"tandem_creatioid": key}, {"name": f"G{key}"}) for key in ("42", "43")])
    batch.records.retrieve("account", ids[0], select=["name", "fax"])
    batch.records.list("account", select=["name"], filter="name eq 'G42' or name eq 'Ü'", orderby=["name desc"])
    batch.records.delete("account", ids[2])
    batch.records.delete("account", [ids[3]])
    batch.tables.get("account")
    result = batch.execute()
    assert [answer.status_code for answer in result.responses] == [204, 200, 204, 204, 204, 204, 200, 200, 204, 200, 200]
    assert not result.has_errors
    created, many, *_, row, found, _, job, tables = result.responses
    assert site.stored()[created.entity_id]["name"] == "Ü"
    assert [site.stored()[row_id]["name"] for row_id in many.data["Ids"]] == ["E", "F"]
    assert (row.data["name"], row.data["fax"]) == ("A1", "1")
    assert [one["name"] for one in found.data["value"]] == ["Ü", "G42"]
    assert job.data["JobId"]
    assert tables.data["value"][0]["EntitySetName"] == "accounts"
    assert site.names_after_jobs(7) == ["A1", "B", "E", "F", "G42", "G43", "Ü"]


def test_a_change_set_refers_to_its_own_rows(site) -> None:
    """A row made in a change set can be bound to, changed and deleted in it; its answers carry their content ids."""
    batch = site.client.batch.new()
    with batch.changeset() as changes:
        contact = changes.records.create("contact", {"lastname": "Sato"})
        account = changes.records.create("account", {"name": "A", "primarycontactid@odata.bind": contact})
        changes.records.update("account", account, {"fax": "1"})
        gone = changes.records.create("account", {"name": "gone"})
        changes.records.delete("account", gone)
    with batch.changeset() as changes:
        changes.records.create("account", {"name": "B"})
    result = batch.execute()
    assert [(answer.status_code, answer.content_id) for answer in result.responses] == [(204, str(place)) for place in range(1, 7)]
    contact_id, account_id = result.entity_ids[:2]
    row = site.stored()[account_id]
    assert (row["name"], row["fax"], row["primarycontactid"]) == ("A", "1", contact_id)
    assert site.names() == ["A", "B"]


def test_a_change_set_is_all_or_nothing(site) -> None:
    """One bad row undoes its change set, the batch stops there, and what went before it stays."""
    batch = site.client.batch.new()
    batch.records.create("account", {"name": "before"})
    with batch.changeset() as changes:
        changes.records.create("account", {"name": "inside"})
        changes.records.create("account", TOO_LONG)
    batch.records.create("account", {"name": "after"})
    result = batch.execute()
    assert [answer.status_code for answer in result.responses] == [204, 400]
    assert result.failed[0].error_code == "0x80044331"
    assert site.names() == ["before"]


def test_continue_on_error(site) -> None:
    """Told to go on, the server answers every operation by itself; a failed change set has one answer."""
    batch = site.client.batch.new()
    batch.records.update("account", MISSING, {"fax": "1"})
    with batch.changeset() as changes:
        changes.records.create("account", {"name": "inside"})
        changes.records.update("account", MISSING, {"fax": "1"})
    batch.records.create("account", TOO_LONG)
    batch.records.create("account", {"name": "after"})
    result = batch.execute(continue_on_error=True)
    assert [answer.status_code for answer in result.responses] == [404, 404, 400, 204]
    assert [answer.error_code for answer in result.failed] == ["0x80040217", "0x80040217", "0x80044331"]
    assert site.names() == ["after"]


def test_the_outer_status_is_that_of_the_failure(site) -> None:
    """A batch that stops is answered with the failing status (dataverse.md 6.1); of those the client reads on with a 400 only."""
    batch = site.client.batch.new()
    batch.records.update("account", MISSING, {"fax": "1"})
    with pytest.raises(HttpError) as caught:
        batch.execute()
    assert caught.value.status_code == 404
    assert "0x80040217" not in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(429, "0x80072322"), (503, "0x8004A104")])
def test_a_batch_refused_as_a_whole(site, status, code) -> None:
    """Throttling meets the batch before its parts, in plain JSON, and nothing of it is done."""
    batch = site.client.batch.new()
    batch.records.create("account", {"name": "A"})
    site.client.records.list("account", top=1)
    site.panel.misbehave(kind="status", status=status, retry_after=3, path=r"\$batch")
    with pytest.raises(HttpError) as caught:
        batch.execute()
    error = caught.value
    assert (error.status_code, error.details["service_error_code"], error.details["retry_after"]) == (status, code, 3)
    assert site.names() == []


def test_trouble_of_one_part(site) -> None:
    """A part that is throttled by itself is told apart from its neighbours, which are done."""
    batch = site.client.batch.new()
    for name in "ABC":
        batch.records.create("account", {"name": name})
    site.client.records.list("account", top=1)
    site.panel.misbehave(kind="part_status", status=429, retry_after=3, position=1)
    result = batch.execute(continue_on_error=True)
    assert [answer.status_code for answer in result.responses] == [204, 429, 204]
    assert site.names() == ["A", "C"]
