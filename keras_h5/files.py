"""Files that are there whole or not at all, and one sentence where they cannot be written or read."""

import errno
import glob
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class FileError(ValueError):
    """A file that cannot be written or read, told in one sentence to the person who named it."""


def require_writable(path: str | os.PathLike[str], suffixes: tuple[str, ...] = ()) -> None:
    """Refuses, before hours of work, a place where `write` would fail after them; everything stays as it was.

    Args:
        path: Of the file that is to be written; a symbolic link is followed.
        suffixes: Ends that its name may have, in lower case, such as ".h5"; any if there are none.

    Raises:
        FileError: It can be no file, is protected, or its folder takes no new file.
    """
    path = target(path, suffixes)
    with in_words(path):
        temporary = _beside(path)
        temporary.open("xb").close()
        temporary.unlink()


def target(path: str | os.PathLike[str], suffixes: tuple[str, ...] = ()) -> Path:
    """The file that `path` stands for, behind symbolic links, if it may be replaced.

    Raises:
        FileError: It may not.
    """
    if "\0" in os.fspath(path):
        raise FileError(f"{os.fspath(path)!r} is no name of a file; name another place.")
    path = Path(os.path.realpath(path))
    for is_so, problem in (
        (os.path.isdir(path), f"is a folder; add a file name such as result{suffixes[0] if suffixes else ''}"),
        (
            suffixes and path.suffix.lower() not in suffixes,
            f"has to end in {', '.join(suffixes)}, by which programs know such files; name it so",
        ),
        (not os.path.isdir(path.parent), "lies in a folder that does not exist; create it, or name another place"),
        (os.path.islink(path), "is a symbolic link that leads to itself; remove it, or name another place"),
        (os.path.exists(path) and not os.path.isfile(path), "is a device, not a file; name another place"),
        (_is_printed_to(path), "is what this program prints into; name another file"),
        (
            os.path.exists(path) and not os.access(path, os.W_OK),
            "is protected against writing; lift that, or name another place",
        ),
    ):
        if is_so:
            raise FileError(f"{path} {problem}.")
    return path


@contextmanager
def in_words(path: str | os.PathLike[str]) -> Iterator[None]:
    """Tells of a file system that refuses to write `path`.

    Raises:
        FileError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise FileError(
            f"{path} cannot be written ({error.strerror or error}), and what was there is unchanged; make room or give "
            "permission, or name another place."
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str], data: bytes) -> Iterator[None]:
    """Replaces the file at `path` by `data`, whole or not at all; a symbolic link is followed.

    `data` is on disk beside `path` before the block runs, and takes its place when the block has ended. If
    anything fails, the old file stays as it is and the new one is removed.

    Raises:
        OSError: the file system refused.
    """
    path = Path(os.path.realpath(path))
    temporary = _beside(path)
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


def append(path: str | os.PathLike[str], data: bytes) -> None:
    """Adds `data` to the end of the file at `path`, whole or not at all.

    Raises:
        OSError: the file system refused; the file is as long as it was.
    """
    with open(path, "ab", buffering=0) as file:
        size, written = file.tell(), 0
        try:
            while written < len(data):
                written += file.write(data[written:])
        except OSError:  # a full disk takes a part
            with suppress(OSError):  # a device has no length
                file.truncate(size)
            raise


def read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """What is in a file that somebody else may have put there.

    Raises:
        OSError: It is no file but a pipe, say, which would keep us waiting, or larger than `max_bytes`, or the file
            system refused.
    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return data


def remove_leftovers(path: str | os.PathLike[str], older_than: float = 0.0) -> None:
    """Removes what processes that were killed while they replaced `path` have left, if it is so many seconds old."""
    path = Path(os.path.realpath(path))
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime >= older_than:
                temporary.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _is_printed_to(path: Path) -> bool:
    """Whether standard output or standard error goes into this file, which would be replaced under them."""
    for number in (1, 2):
        with suppress(OSError):
            about = os.fstat(number)
            if stat.S_ISREG(about.st_mode) and os.path.samestat(about, os.stat(path)):
                return True
    return False
