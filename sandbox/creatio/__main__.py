"""Run the stand-in of Creatio and its identity service: `python -m sandbox.creatio`."""

import argparse
import json

from sandbox.creatio.app import create_creatio
from sandbox.serve import Listener, serve_together


def main() -> None:
    """Run the stand-in of Creatio with its identity service until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.creatio", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--identity-port", type=int, default=0, help="port of the identity service")
    parser.add_argument("--database", default=":memory:", help="SQLite file, or :memory:")
    parser.add_argument("--settings", default="{}", help="settings as JSON (sandbox/creatio/settings.py)")
    given = parser.parse_args()
    creatio = create_creatio(json.loads(given.settings), given.database)
    try:
        serve_together(
            [
                Listener("creatio", creatio.app, given.port),
                Listener("creatio identity", creatio.identity, given.identity_port),
            ],
        )
    finally:
        creatio.database.close()


if __name__ == "__main__":
    main()
