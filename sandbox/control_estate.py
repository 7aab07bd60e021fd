"""The part of the control API that is about a whole installation: snapshots and their restore, columns, rights of the integration user."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.routing import BaseRoute

from sandbox.control import control_route


class Estate(Protocol):
    """A stand-in's installation as its administrator sees it; each verb raises `Refused` for a name that it does not know."""

    def snapshot(self, name: str) -> None:
        """Keep rows, columns, versions and change log under a name."""
        ...

    def restore(self, name: str) -> None:
        """Bring a snapshot back; what happened since then never was."""
        ...

    def set_rights(self, entity: str, *, read: bool, write: bool) -> None:
        """Set which rights on one object the integration user has."""
        ...

    def remove_column(self, entity: str, column: str) -> None:
        """Take a column away, with its values."""
        ...

    def add_column(self, entity: str, column: str) -> None:
        """Add an empty column: one that was taken away as it was, any other one as text."""
        ...

    def add_entity(self, entity: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a custom object with these columns beside those that every object has, described as in the metadata file."""
        ...


def estate_routes(estate: Estate, dumps: Callable[[Any], str]) -> tuple[BaseRoute, ...]:
    """Return the routes for `Panel.extra_routes`."""

    async def snapshot(request: Request) -> Any:
        estate.snapshot(str((await request.json())["name"]))
        return {"ok": True}

    async def restore(request: Request) -> Any:
        estate.restore(str((await request.json())["name"]))
        return {"ok": True}

    async def rights(request: Request) -> Any:
        body = await request.json()
        estate.set_rights(body["entity"], read=bool(body["read"]), write=bool(body["write"]))
        return {"ok": True}

    async def remove_column(request: Request) -> Any:
        body = await request.json()
        estate.remove_column(body["entity"], body["column"])
        return {"ok": True}

    async def add_column(request: Request) -> Any:
        body = await request.json()
        estate.add_column(body["entity"], body["column"])
        return {"ok": True}

    async def add_entity(request: Request) -> Any:
        body = await request.json()
        estate.add_entity(body["entity"], body["columns"])
        return {"ok": True}

    return (
        control_route("/entities/add", "POST", add_entity, dumps),
        control_route("/snapshot", "POST", snapshot, dumps),
        control_route("/restore", "POST", restore, dumps),
        control_route("/rights", "POST", rights, dumps),
        control_route("/columns/remove", "POST", remove_column, dumps),
        control_route("/columns/add", "POST", add_column, dumps),
    )
