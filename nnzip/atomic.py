"""Writing a file so that nobody ever sees half of it."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path):
    """Give a binary file to write to, that takes the name `path` only once it is complete.

    The bytes go to a temporary name in the same folder (a rename is atomic within one file system only).
    When the block ends the file is closed and renamed over `path`; when the block raises, the temporary
    file is removed and whatever stood at `path` is untouched. A symbolic link is written through.

    Raises OSError where the folder is missing or not writable.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.bin"
    ...     with atomic_write(path) as file:
    ...         _ = file.write(b"whole")
    ...     path.read_bytes()
    b'whole'
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
