"""Change tracking: the first, full read of a chain, the delta links and what they answer (dataverse.md 4).

A chain remembers the row version at its first page, so a change made while a client still reads its pages is in the
next delta. Rows come first, by version; deletions come last.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from sandbox.dataverse import faults
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.queries import MAX_PAGE, Cookie, Query, read_cookie
from sandbox.dataverse.reads import Reader
from sandbox.dataverse.rendering import Renderer, Shape, read_shape

_TOKEN = re.compile(r"(?P<version>\d+)!(?P<time>\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)")
_TIME_FORMAT = "%m/%d/%Y %H:%M:%S"


@dataclass(frozen=True)
class DeltaToken:
    """Up to which row version a chain has told its client everything, and when it was told."""

    version: int
    moment: str

    @property
    def seconds(self) -> float:
        """Return when it was told, since the epoch."""
        return datetime.strptime(self.moment, _TIME_FORMAT).replace(tzinfo=UTC).timestamp()

    def option(self) -> str:
        """Write the ``$deltatoken`` option of a delta link."""
        return "$deltatoken=" + quote(f"{self.version}!{self.moment}", safe="")


def _expired(status: int) -> Fault:
    return Fault(status, "0x80044352", "Version stamp associated with the client has expired. Please perform a full sync.")


@dataclass(frozen=True)
class ChangeReader:
    """Answers tracked reads with the reader of a request."""

    reader: Reader
    repeated: bool = False
    """Deliver every change twice (chaos kind ``repeat_delta``)."""

    def _check(self, table: Table, query: Query) -> None:
        if table.name not in self.reader.organization.switches.current.tracked_tables:
            raise Fault(400, "0x80072491", f"Entity {table.name} isn't enabled for change tracking.")
        for name in ("filter", "orderby", "expand", "top"):
            if query.get(f"${name}"):
                text = f'The "${name}" query parameter isn\'t supported when Change Tracking is enabled.'
                raise faults.odata(text)

    def _now(self) -> DeltaToken:
        organization = self.reader.organization
        moment = datetime.fromtimestamp(organization.now(), UTC).strftime(_TIME_FORMAT)
        return DeltaToken(organization.database.version(), moment)

    def start(self, table: Table, query: Query) -> dict[str, Any]:
        """Answer a page of the first read: all rows; the delta link stands on the last page only."""
        self._check(table, query)
        reader = self.reader
        shape = read_shape(reader.organization, table, query.get("$select"), None)
        token = query.get("$skiptoken")
        cookie = read_cookie(token) if token else self._first_cookie()
        size = reader.preferences.page_size or MAX_PAGE
        primary = quoted(table.primary_id)
        sql = f"SELECT {reader.needed(table, shape)} FROM {quoted(table.name)} WHERE {primary} > ? ORDER BY {primary} LIMIT {size + 1}"
        found = [dict(row) for row in reader.organization.database.query(sql, [cookie.state.get("last", "")])]
        body = self._body(table, shape, found[:size], "")
        if len(found) > size:
            last = {"last": found[size - 1][table.primary_id]}
            return body | self._next(table, query, cookie, last)
        return body | self._delta(table, query, cookie)

    def follow(self, table: Table, query: Query) -> dict[str, Any]:
        """Answer a delta link: changed rows by version, then deletions, then a new delta link."""
        self._check(table, query)
        since = self.read_token(query.get("$deltatoken") or "").version
        return self._changes(table, query, since, self._first_cookie())

    def continue_changes(self, table: Table, query: Query) -> dict[str, Any]:
        """Answer a nextLink of a tracked read, first or later."""
        cookie = read_cookie(query.get("$skiptoken") or "")
        self._check_restores(DeltaToken(int(cookie.state["version"]), str(cookie.state["moment"])))
        if "since" not in cookie.state:
            return self.start(table, query)
        return self._changes(table, query, int(cookie.state["since"]), cookie)

    def _changes(self, table: Table, query: Query, since: int, cookie: Cookie) -> dict[str, Any]:
        reader = self.reader
        database = reader.organization.database
        shape = read_shape(reader.organization, table, query.get("$select"), None)
        size = reader.preferences.page_size or MAX_PAGE
        after, deleted_after = cookie.state.get("after", since), cookie.state.get("deleted_after", since)
        sql = (
            f"SELECT {reader.needed(table, shape)} FROM {quoted(table.name)} "
            f"WHERE versionnumber > ? ORDER BY versionnumber LIMIT {size + 1}"
        )
        rows = [dict(row) for row in database.query(sql, [after])]
        sql = f"SELECT id, version FROM _deletion WHERE entity = ? AND version > ? ORDER BY version LIMIT {size + 1}"
        deletions = [dict(row) for row in database.query(sql, [table.name, deleted_after])]
        shown, gone = rows[:size], deletions[: size - min(len(rows), size)]
        body = self._body(table, shape, shown, "/$delta")
        body["value"] = [*body["value"], *(self._deletion(table, str(row["id"])) for row in gone)] * (2 if self.repeated else 1)
        if len(rows) > len(shown) or len(deletions) > len(gone):
            position = {
                "since": since,
                "after": shown[-1]["versionnumber"] if shown else after,
                "deleted_after": gone[-1]["version"] if gone else deleted_after,
            }
            return body | self._next(table, query, cookie, position)
        return body | self._delta(table, query, cookie)

    def count(self, table: Table, query: Query) -> int:
        """Count the changes since a delta link's token, for ``/$count?$deltatoken=``."""
        self._check(table, query)
        since = self.read_token(query.get("$deltatoken") or "").version
        database = self.reader.organization.database
        rows = database.query(f"SELECT COUNT(*) FROM {quoted(table.name)} WHERE versionnumber > ?", [since])
        deletions = database.query("SELECT COUNT(*) FROM _deletion WHERE entity = ? AND version > ?", [table.name, since])
        return int(rows[0][0]) + int(deletions[0][0])

    def read_token(self, text: str) -> DeltaToken:
        """Read a token; raise for a malformed, foreign or expired one."""
        organization = self.reader.organization
        match = _TOKEN.fullmatch(text)
        if match is None:
            raise faults.invalid_argument(f"The delta token '{text}' is not valid for this organization.")
        token = DeltaToken(int(match["version"]), match["time"])
        self._check_restores(token)
        if token.version > organization.database.version():
            raise faults.invalid_argument(f"The delta token '{text}' is not valid for this organization.")
        if organization.now() - token.seconds > organization.switches.current.change_tracking_expiry_seconds:
            raise _expired(organization.switches.current.expired_token_status)
        return token

    def _check_restores(self, token: DeltaToken) -> None:
        """Refuse what was handed out after the backup that was brought back later: that version never was [memory].

        Tokens tell whole seconds: one of the second of the restore is refused too, which costs its client a full read and loses nothing.
        """
        organization = self.reader.organization
        if any(token.seconds <= at and token.version > version for at, version in organization.restores):
            raise _expired(organization.switches.current.expired_token_status)

    def _first_cookie(self) -> Cookie:
        now = self._now()
        return Cookie(1, tracking=True, state={"version": now.version, "moment": now.moment})

    def _next(self, table: Table, query: Query, cookie: Cookie, position: Mapping[str, Any]) -> dict[str, Any]:
        following = Cookie(cookie.page + 1, tracking=True, state={**cookie.state, **position})
        return {"@odata.nextLink": self.reader.link(table, query, following.option())}

    def _delta(self, table: Table, query: Query, cookie: Cookie) -> dict[str, Any]:
        token = DeltaToken(int(cookie.state["version"]), str(cookie.state["moment"]))
        return {"@odata.deltaLink": self.reader.link(table, query, token.option())}

    def _body(self, table: Table, shape: Shape, rows: list[Row], suffix: str) -> dict[str, Any]:
        """Return the body of a page: never a stale one, for a token tells of the very state that its rows show."""
        reader = self.reader
        renderer = Renderer(reader.organization, reader.root, reader.preferences)
        return {**reader.head(table, shape, suffix), "value": renderer.rows(shape, rows)}

    def _deletion(self, table: Table, row_id: str) -> dict[str, Any]:
        context = f"{self.reader.root}/$metadata#{table.entity_set}/$deletedEntity"
        return {"@odata.context": context, "id": row_id, "reason": "deleted"}
