"""The whole sandbox as a group of processes: Azurite, the stand-ins of both systems and of Entra, and the local host.

`async with Sandbox.start(directory) as sandbox:` is what the demo and the end-to-end tests use; `up` opens one and leaves it
running. Settings given from outside win: a system whose address they name is not started.
"""

import asyncio
import base64
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.child import ROOT, Child, Program, SandboxError
from sandbox.control_client import Control
from shared.settings import IDENTITY_SUFFIXES, STORAGE_PREFIXES, Settings, setting_names

TENANT: Final = "00000000-0000-0000-0000-00000000aaaa"
ENTRA_CLIENT_ID: Final = "00000000-0000-0000-0000-00000000c11e"
CREATIO_CLIENT_ID: Final = "tandem-client"
CREATIO_USER: Final = "integration"
_HOST: Final = "host"


@dataclass(frozen=True)
class Ports:
    """The ports of the programs; 0 chooses a free one, so that several checkouts run side by side."""

    host: int = 0
    creatio: int = 0
    identity: int = 0
    dataverse: int = 0
    entra: int = 0
    blob: int = 0
    queue: int = 0
    table: int = 0


@dataclass
class Sandbox:
    """A running sandbox. `settings` is what the host runs with; `children` are the programs by name."""

    directory: Path
    ports: Ports = field(default_factory=Ports)
    time_scale: float = 1.0
    settings: dict[str, str] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    _controls: dict[str, Control] = field(default_factory=dict)
    _programs: dict[str, Program] = field(default_factory=dict)
    _secrets: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        directory: Path,
        chaos: Mapping[str, Mapping[str, Any]] | None = None,
        poll_schedule: str = "*/2 * * * * *",
        time_scale: float = 1.0,
        *,
        settings: Mapping[str, str] | None = None,
        before_host: Callable[["Sandbox"], Awaitable[None]] | None = None,
    ) -> "AsyncIterator[Sandbox]":
        """Run a sandbox for the length of an `async with` block; every program is stopped at its end.

        `chaos` holds rules by stand-in (`{"creatio": {"seed": 7, "rules": [...]}}`), in force from before the host starts.
        `settings` are settings of the app that win over the sandbox's own. `before_host` runs when the stand-ins stand and
        the host does not yet: the moment to fill both sides.
        """
        sandbox = await cls.open(
            directory, chaos, time_scale=time_scale, settings={"POLL_SCHEDULE": poll_schedule, **(settings or {})}, before_host=before_host
        )
        try:
            yield sandbox
        finally:
            await sandbox.close()

    @classmethod
    async def open(
        cls,
        directory: Path,
        chaos: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        ports: Ports | None = None,
        time_scale: float = 1.0,
        settings: Mapping[str, str] | None = None,
        before_host: Callable[["Sandbox"], Awaitable[None]] | None = None,
    ) -> "Sandbox":
        """Start a sandbox and leave it running until `close`; see `start`.

        Raises:
            SandboxError: a program did not start; those that had are stopped again.
            ConfigError: the settings given from outside do not make a whole.
        """
        sandbox = cls(_made(directory), ports or Ports(), time_scale, given=dict(settings or {}))
        try:
            await sandbox._start_servers()
            for name, rules in (chaos or {}).items():
                await sandbox.control(name).chaos(rules)
            if before_host is not None:
                await before_host(sandbox)
            await sandbox._start_first_host()
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    @property
    def creatio(self) -> str:
        """The address of Creatio."""
        return self.settings["CREATIO_BASE_URL"]

    @property
    def dataverse(self) -> str:
        """The address of Dataverse."""
        return self.settings["DATAVERSE_URL"]

    @property
    def entra(self) -> str:
        """The address of Entra."""
        return self.settings["ENTRA_AUTHORITY"]

    @property
    def storage(self) -> str:
        """The connection string of the storage account."""
        return self.settings["AzureWebJobsStorage"]

    @property
    def host(self) -> str:
        """The address of the local host."""
        return self._child(_HOST).addresses["host"]

    async def start_host(self, name: str) -> str:
        """Start one more host beside the first, with the same settings and storage, and return its address.

        Its log lies beside the others; `kill`, `stop` and `restart` know it by its name.
        """
        if name in self.children:
            raise SandboxError(f"got {name!r}, but a program of this name runs already; choose another name")
        await self._start_program(self._host_program(name, port=0))
        return self.children[name].addresses[_HOST]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, the first one first."""
        return tuple(name for name, child in self.children.items() if child.program.addresses == (_HOST,))

    @property
    def master_key(self) -> str:
        """The key for the host's `/admin` addresses (header `x-functions-key`)."""
        return self._secrets["master"]

    def control(self, name: str) -> Control:
        """Return the control API of a stand-in that this sandbox started: `creatio`, `dataverse` or `entra`."""
        if name not in self._controls:
            child = self._child(name)
            self._controls[name] = Control(name, child.addresses[child.program.addresses[0]], self._ca_file if name == "entra" else None)
        return self._controls[name]

    async def kill(self, name: str) -> None:
        """End one program at once, as a crash does."""
        await self._child(name).kill()

    async def stop(self, name: str) -> None:
        """End one program politely."""
        await self._child(name).stop()

    async def restart(self, name: str) -> None:
        """Start one program again; only the host and stand-ins with fixed ports keep their addresses."""
        await self._child(name).stop()
        self.children[name] = await Child.start(self._programs[name], self.directory)

    async def close(self) -> None:
        """Stop everything, the hosts first, so that they don't complain about the others."""
        for control in self._controls.values():
            await control.close()
        await asyncio.gather(*(self.children[name].stop() for name in self.hosts))
        await asyncio.gather(*(child.stop() for child in self.children.values()))

    @property
    def _ca_file(self) -> Path:
        return self.directory / "entra-ca.pem"

    def _child(self, name: str) -> Child:
        if name not in self.children:
            raise SandboxError(f"got {name!r}, but this sandbox started {', '.join(sorted(self.children)) or 'nothing'}")
        return self.children[name]

    async def _start_servers(self) -> None:
        self._secrets = {name: secrets.token_hex(24) for name in ("creatio", "entra", "token", "master", "function")}
        programs = [program for program in self._server_programs() if self._is_wanted(program.name)]
        started = await asyncio.gather(*(Child.start(program, self.directory) for program in programs), return_exceptions=True)
        for program, child in zip(programs, started, strict=True):
            if isinstance(child, Child):
                self.children[program.name] = child
                self._fix_ports(program, child)
        for problem in started:
            if isinstance(problem, BaseException):
                raise problem
        own = self._own_settings()
        if "creatio" in self.children:
            own["CREATIO_INTEGRATION_CONTACT_ID"] = await self._integration_contact()
        self.settings = {**own, **self.given}
        Settings.from_environ(self.settings)  # all problems at once, before anything is filled or runs

    async def _integration_contact(self) -> str:
        """Look up what an administrator would copy from the user's page: the contact of the integration user."""
        users = await self.control("creatio").rows("SysAdminUnit")
        return next(str(user["ContactId"]) for user in users if user["Name"] == CREATIO_USER)

    def _is_wanted(self, name: str) -> bool:
        """Tell whether a program is needed: not where the settings from outside name another server already."""
        named_by = {
            "azurite": tuple(
                f"{prefix}{suffix}" for prefix in STORAGE_PREFIXES[:1] for suffix in ("", *(f"__{end}" for end in IDENTITY_SUFFIXES))
            ),
            "creatio": ("CREATIO_BASE_URL",),
            "dataverse": ("DATAVERSE_URL",),
            "entra": ("DATAVERSE_URL", "ENTRA_AUTHORITY"),
        }
        return not any(self.given.get(setting) for setting in named_by[name])

    def _server_programs(self) -> list[Program]:
        ports, own = self.ports, self._secrets
        creatio_settings = json.dumps({"username": CREATIO_USER, "client_id": CREATIO_CLIENT_ID, "client_secret": own["creatio"]})
        environment = child_environment()
        azurite = ("sandbox.emulator", "--blob-port", ports.blob, "--queue-port", ports.queue, "--table-port", ports.table)
        creatio = (
            "sandbox.creatio",
            "--port",
            ports.creatio,
            "--identity-port",
            ports.identity,
            "--database",
            self.directory / "creatio.db",
        )
        dataverse = (
            "sandbox.dataverse",
            "--port",
            ports.dataverse,
            "--database",
            self.directory / "dataverse.db",
            "--token-key",
            own["token"],
        )
        entra = ("sandbox.entra", "--port", ports.entra, "--ca-file", self._ca_file, "--token-key", own["token"], "--tenant", TENANT)
        credentials = ("--client-id", ENTRA_CLIENT_ID, "--client-secret", own["entra"])
        return [
            Program("azurite", _texts(azurite), ("azurite",), environment),
            Program("creatio", _texts((*creatio, "--settings", creatio_settings)), ("creatio", "creatio identity"), environment),
            Program("dataverse", _texts(dataverse), ("dataverse",), environment),
            Program("entra", _texts((*entra, *credentials)), ("entra",), environment),
        ]

    def _fix_ports(self, program: Program, child: Child) -> None:
        """Remember the program with the ports it got, so that a restart serves the same addresses."""
        self._programs[program.name] = program if program.name == "azurite" else _with_ports(program, child)

    def _own_settings(self) -> dict[str, str]:
        """Return the settings that point the host at what this sandbox started."""
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        settings = {
            "FINGERPRINT_KEYS": f"sandbox:{key}",
            "POLL_SCHEDULE": "*/2 * * * * *",
            "WATCH_SCHEDULE": "*/10 * * * * *",
            "DEFAULT_INTERVAL_MS": "1000",
            "CREATIO_SEES_ALL": "true",
        }
        if "azurite" in self.children:
            settings["AzureWebJobsStorage"] = self.children["azurite"].addresses["azurite"]
        if "creatio" in self.children:
            addresses = self.children["creatio"].addresses
            settings |= {
                "CREATIO_BASE_URL": addresses["creatio"],
                "CREATIO_IDENTITY_URL": addresses["creatio identity"],
                "CREATIO_AUTH": "oauth",
                "CREATIO_CLIENT_ID": CREATIO_CLIENT_ID,
                "CREATIO_CLIENT_SECRET": self._secrets["creatio"],
            }
        if "dataverse" in self.children:
            settings |= {"DATAVERSE_URL": self.children["dataverse"].addresses["dataverse"], "DATAVERSE_AUTH": "secret"}
        if "entra" in self.children:
            settings |= {
                "ENTRA_AUTHORITY": self.children["entra"].addresses["entra"],
                "ENTRA_CA_FILE": str(self._ca_file),
                "ENTRA_TENANT_ID": TENANT,
                "ENTRA_CLIENT_ID": ENTRA_CLIENT_ID,
                "ENTRA_CLIENT_SECRET": self._secrets["entra"],
            }
        return settings

    async def _start_first_host(self) -> None:
        self._settings_file.touch(mode=0o600)
        self._settings_file.write_text(json.dumps({"IsEncrypted": False, "Values": self.settings}, indent=2), encoding="utf-8")
        await self._start_program(self._host_program(_HOST, self.ports.host))

    @property
    def _settings_file(self) -> Path:
        return self.directory / "local.settings.json"

    async def _start_program(self, program: Program) -> None:
        self.children[program.name] = await Child.start(program, self.directory)
        self._fix_ports(program, self.children[program.name])

    def _host_program(self, name: str, port: int) -> Program:
        arguments = (
            "sandbox.host",
            "--app",
            ROOT / "function_app.py",
            "--settings",
            self._settings_file,
            "--port",
            port,
            "--time-scale",
            self.time_scale,
            "--instance",
            name,
        )
        keys = {"LOCAL_HOST_MASTER_KEY": self._secrets["master"], "LOCAL_HOST_FUNCTION_KEY": self._secrets["function"]}
        return Program(name, _texts(arguments), (_HOST,), child_environment() | keys)


def app_setting_names() -> frozenset[str]:
    """Return the name of every setting of the app, those of a storage identity included."""
    identity = (f"{prefix}__{suffix}" for prefix in STORAGE_PREFIXES for suffix in IDENTITY_SUFFIXES)
    return frozenset((*setting_names(), *identity))


def child_environment() -> dict[str, str]:
    """Return this process's environment without the app's settings, which reach the host through its settings file only."""
    ours = app_setting_names()
    kept = {name: text for name, text in os.environ.items() if name not in ours}
    return kept | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _texts(arguments: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(str(argument) for argument in arguments)


def _with_ports(program: Program, child: Child) -> Program:
    """Put the ports of the ready lines in place of the zeros."""
    arguments = list(program.arguments)
    options = ("--port", "--identity-port")
    for option, name in zip(options, program.addresses, strict=False):
        if option in arguments:
            arguments[arguments.index(option) + 1] = child.addresses[name].rpartition(":")[2].rstrip("/")
    return Program(program.name, tuple(arguments), program.addresses, program.environment)
