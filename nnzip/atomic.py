"""Writing a file so that nobody ever sees half of it."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path):
    """Give a binary file that takes the name `path` only once it is complete; if the block raises, nothing changes.

    The bytes go to a temporary name in the same folder (a rename is atomic within one file system only), then the file
    is renamed over `path`, whose mode it keeps. A symbolic link is written through. OSError, before the block begins,
    where no file can be: a missing folder, a folder of this name, a pipe or a device.
    """
    path = Path(path).resolve()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} cannot be written: it is no file, but a folder, a pipe or a device")
    temporary = path.with_name(f".nnzip-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:  # not tempfile: its files can be read by their owner alone, and stay so
            yield file
        if path.exists():
            temporary.chmod(path.stat().st_mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # it is there no more once it is renamed
