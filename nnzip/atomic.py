"""Writing a file so that nobody ever sees half of it."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path):
    """Give a binary file that takes the name `path` only once it is complete; if the block raises, nothing changes.

    The bytes go to a temporary name in the same folder (a rename is atomic within one file system only), then the file
    is renamed over `path`. A symbolic link is written through.
    """
    path = Path(path).resolve()
    temporary = path.with_name(f".nnzip-{secrets.token_hex(8)}.tmp")
    with open(temporary, "xb") as file:  # not tempfile: its files can be read by their owner alone, and stay so
        try:
            yield file
            file.close()  # Windows renames no open file
            os.replace(temporary, path)
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
