"""Files that are there whole or not at all."""

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], data: bytes) -> Iterator[None]:
    """Replaces the file at `path` by `data`, whole or not at all; a symbolic link is followed.

    `data` is on disk beside `path` before the block runs, and takes its place when the block has ended. If
    anything fails, the old file stays as it is and the new one is removed.

    Raises:
        OSError: the file system refused.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` into the file at `path`, whole or not at all.

    Raises:
        OSError: the file system refused; what was there is unchanged.
    """
    with replacing(path, data):
        pass


def remove_leftovers(path: str | os.PathLike[str], older_than: float = 0.0) -> None:
    """Removes what processes that were killed while they replaced `path` have left, if it is so many seconds old."""
    path = Path(os.path.realpath(path))
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime >= older_than:
                temporary.unlink()
