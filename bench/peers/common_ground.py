"""What every tool of the comparison is given: the addresses, the tables of the mapping, and how it tells what its work took.

Standard library only. The arguments of each program are the address of the server, that over HTTPS, and the file with the tables.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.peers.mapping import Tables

WRITE_SIZE: Final = 1_000
"""Records of one CreateMultiple, for every tool: the most that Microsoft recommends for standard tables."""
_SOURCE: Final = "/0/odata/Account"
_TARGET: Final = "/api/data/v9.2/accounts"


@dataclass(frozen=True)
class Ground:
    """Where to read, where to write, and by which tables to map."""

    url: str
    secure_url: str
    tables: Tables
    folder: Path
    """An empty folder for what a tool keeps on disk."""

    @property
    def source(self) -> str:
        """Return the address of the first page of accounts; each page has a link to the next one."""
        return self.url + _SOURCE

    @property
    def create_multiple(self) -> str:
        """Return the address that creates many accounts at once."""
        return f"{self.url}{_TARGET}/Microsoft.Dynamics.CRM.CreateMultiple"

    @property
    def target(self) -> str:
        """Return the address that creates one account."""
        return self.url + _TARGET


def ground(arguments: Sequence[str] = tuple(sys.argv[1:])) -> Ground:
    """Read the arguments."""
    url, secure_url, tables, folder = arguments[:4]
    return Ground(url, secure_url, json.loads(Path(tables).read_text(encoding="utf-8")), Path(folder))


def targets(bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of a CreateMultiple; each row must tell its type (dataverse.md 6.2)."""
    return {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", **body} for body in bodies]}


def pieces(rows: Sequence[Any], size: int = WRITE_SIZE) -> Iterator[Sequence[Any]]:
    """Cut rows into pieces."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def tell(begun: float, ended: float | None = None, **more: float) -> None:
    """Print, as the last line, the seconds between two moments of the monotonic clock, which all processes of a machine share."""
    print(json.dumps({"seconds": (ended or time.monotonic()) - begun, **more}), flush=True)


def mark(folder: Path, name: str) -> None:
    """Keep the present moment of the monotonic clock under a name: for tools that are two processes."""
    (folder / f"{name}.mark").write_text(repr(time.monotonic()), encoding="utf-8")


def marked(folder: Path, name: str) -> float:
    """Return the moment kept under a name."""
    return float((folder / f"{name}.mark").read_text(encoding="utf-8"))
