"""What the tests of the transport share: a clock that moves only when somebody sleeps, log-ins, and a server as a list of answers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from shared.core.errors import Rejected, TandemError
from shared.systems.web import Request, Response, Web

BASE = "https://org.crm4.dynamics.com/api/data/v9.2"
SECRET = "Geheim-4711"


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self):
        return self.now

    def clock(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        until = self.now + seconds
        for _ in range(10):  # the others run on before time has passed
            await asyncio.sleep(0)
        self.now = max(self.now, until)


class FakeLogin:
    """Tokens numbered by renewal."""

    def __init__(self):
        self.renewals = 0

    async def headers(self):
        return {"Authorization": f"Bearer {SECRET}-{self.renewals}"}

    async def renew(self):
        await asyncio.sleep(0)
        self.renewals += 1

    def ended(self, response):
        html = response.status == 200 and response.headers.get("content-type", "").startswith("text/html")
        return response.status in (401, 302) or html


def refuse(response: Response) -> TandemError:
    """Stand for an adapter's error table."""
    return Rejected(f"dataverse.{'bad_request' if response.status == 400 else 'unexpected'}", system="dataverse")


class Never(FakeLogin):
    """A login whose session never ends."""

    def ended(self, response):
        return False


class Wire:
    """A server as a list of answers (or exceptions), one a request; the last one goes on for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    async def __call__(self, request):
        self.seen.append(request)
        await asyncio.sleep(0)  # a network lets other tasks run
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Callable):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def web_on(wire, time=None, **options):
    """Make a Web on a fake wire and a fake clock."""
    time = time or FakeTime()
    client = httpx.AsyncClient(transport=httpx.MockTransport(wire))
    login = options.pop("login", None) or FakeLogin()
    settings = {"error": refuse, "clock": time.clock, "monotonic": time.monotonic, "sleep": time.sleep, "random": lambda: 0.5}
    return Web("dataverse", options.pop("base", BASE), client, login, **{**settings, **options})


OK = httpx.Response(200, json={"value": []})
GET = Request("GET", "accounts?$filter=name%20eq%20'secret'")
POST = Request("POST", "accounts", content=b'{"name":"secret"}')
