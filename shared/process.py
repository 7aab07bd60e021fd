"""The one app of this process, built with the first invocation.

The host imports the triggers of every new process to learn which functions there are, before it hands out work. So they import nothing
that they do not need for that: the clients of storage and HTTP, and all that stands on them, are imported with the first invocation.
"""

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.wiring import App


class _Process:
    """The app, and the lock that lets only the first invocation build it."""

    app: "App | None" = None
    lock: asyncio.Lock | None = None


async def get_app() -> "App":
    """Return the app of this process, built on first use; raises ConfigError with every problem of the settings."""
    if _Process.app is None:
        _Process.lock = _Process.lock or asyncio.Lock()
        async with _Process.lock:
            if _Process.app is None:
                from shared.settings import Settings  # noqa: PLC0415 - see above: three quarters of the time that indexing took
                from shared.wiring import build  # noqa: PLC0415 - as above

                _Process.app = build(Settings.from_environ(os.environ))
    return _Process.app
