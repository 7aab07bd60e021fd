"""The catalogue that source and destination of the Airbyte comparison are configured with. Standard library only."""

import json
from pathlib import Path
from typing import Final

NAME: Final = "account"


def write_catalog(file: Path) -> None:
    """Write it: one stream, read as a whole, appended."""
    stream = {"name": NAME, "json_schema": {"type": "object"}, "supported_sync_modes": ["full_refresh"]}
    configured = {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}
    file.write_text(json.dumps({"streams": [configured]}), encoding="utf-8")
