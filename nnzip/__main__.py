"""python -m nnzip: the commands of the book."""

from nnzip.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
