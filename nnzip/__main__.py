"""python -m nnzip: the commands of the book."""

import signal
import sys

from nnzip.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that files that are half written are removed
    raise SystemExit(main())
