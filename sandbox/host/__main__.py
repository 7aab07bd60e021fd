import sys

from sandbox.host.command import main

if __name__ == "__main__":
    sys.exit(main())
