"""Starts the stand-in: ``python -m sandbox.dataverse --port 0 --database FILE --token-key K``."""

import argparse
from pathlib import Path

from sandbox.dataverse.organization import DEFAULT_CLIENT_ID
from sandbox.dataverse.server import create_app
from sandbox.dataverse.switches import Settings
from sandbox.serve import serve_command


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="sandbox.dataverse", description="A stand-in of the Dataverse Web API 9.2.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--database", default=":memory:", help="SQLite file that keeps the rows")
    parser.add_argument("--token-key", required=True, help="key that Entra's stand-in signs tokens with")
    parser.add_argument("--client-id", default=DEFAULT_CLIENT_ID, help="Entra application that has the application user")
    parser.add_argument("--settings", default="{}", help="switches to start with: JSON, or a JSON file")
    given = parser.parse_args()
    text = given.settings if given.settings.startswith("{") else Path(given.settings).read_text("utf-8")
    app = create_app(
        token_key=given.token_key,
        database=given.database,
        settings=Settings.model_validate_json(text),
        client_id=given.client_id,
    )
    serve_command("dataverse", app, given.port)


if __name__ == "__main__":
    main()
