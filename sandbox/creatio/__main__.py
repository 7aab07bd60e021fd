"""Run the stand-in of Creatio and its identity service: `python -m sandbox.creatio`."""

from sandbox.creatio.app import create_creatio
from sandbox.creatio.settings import command_parser
from sandbox.serve import Listener, serve_together


def main() -> None:
    """Run the stand-in of Creatio with its identity service until it is stopped."""
    parser = command_parser("python -m sandbox.creatio", str(main.__doc__))
    parser.add_argument("--identity-port", type=int, default=0, help="port of the identity service")
    parser.add_argument("--database", default=":memory:", help="SQLite file, or :memory:")
    given = parser.parse_args()
    creatio = create_creatio(given.settings, given.database)
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
