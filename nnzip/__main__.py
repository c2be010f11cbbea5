"""python -m nnzip: the commands of the book."""

import signal
import sys

try:
    from nnzip.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"nnzip: there is no {error.name} here; activate the environment first: . .venv/bin/activate")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that files that are half written are removed
    raise SystemExit(main())
