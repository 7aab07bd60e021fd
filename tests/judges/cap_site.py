"""Our own transport on CAP: no login, and texts that have broken requests before."""

from collections.abc import Callable, Mapping
from uuid import uuid4

import httpx

from shared.core.errors import TandemError
from shared.systems.web import Response, Web

HOSTILE = [
    "O'Brian",
    "''",
    "Müller & Söhne",
    "50 % + 1 = 51 %",
    "%27 or 1 eq 1",
    "a+b c%2Bd",
    'say "no" to C:\\new\\table',
    "#1/2?;,:@&=$",
    "名前 🦊 e\u0301",
    "x' or Name ne '",
    "line\nline\ttab",
    "-- ); drop",
]


class NoLogin:
    """A login for a server that asks for none."""

    async def headers(self) -> Mapping[str, str]:
        """Return nothing to send."""
        return {}

    async def renew(self) -> None:
        """Renew nothing."""

    def ended(self, response: Response) -> bool:
        """Tell that no session ever ends."""
        return False


async def no_wait(_: float) -> None:
    """Wait for nothing: back-off is tested elsewhere."""


def open_web(system: str, url: str, error: Callable[[Response], TandemError]) -> Web:
    """Make the transport that an adapter uses."""
    return Web(system, url, httpx.AsyncClient(trust_env=False), NoLogin(), error=error, sleep=no_wait)


def new_id() -> str:
    """Make an id for a new record."""
    return str(uuid4())
