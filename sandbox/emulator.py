"""Azurite as a program of the sandbox: prints `azurite ready on <connection string>` and runs until it is told to end."""

import argparse
import signal
import threading
from pathlib import Path

from sandbox.azurite import AzuritePorts, running_azurite


def main() -> None:
    """Run Azurite until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.emulator", description="Run Azurite, the storage emulator.")
    parser.add_argument("--directory", type=Path, help="where the data lies (default: in memory)")
    for service in ("blob", "queue", "table"):
        parser.add_argument(f"--{service}-port", type=int, default=0, help="0 chooses a free one (default)")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ports = AzuritePorts(options.blob_port, options.queue_port, options.table_port)
    with running_azurite(directory=options.directory, ports=ports) as azurite:
        print(f"azurite ready on {azurite.connection_string}", flush=True)
        while not ended.wait(0.2) and azurite.process.poll() is None:
            pass


if __name__ == "__main__":
    main()
