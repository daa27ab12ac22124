"""What the commands share: messages instead of tracebacks, output that never fails, a quiet start of TensorFlow."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.metadata
import io
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Exit statuses. A fault of the program has its own: Python's 1 would say that a score was not reached.
DONE, SCORE_NOT_REACHED, BAD_INPUT, DIVERGED, FAILED, STOPPED = 0, 1, 2, 3, 70, 130
TRIAL_FAILED = 1  # of a sweep
NOTEBOOK_COLUMNS = 100  # what is longer goes out of sight


class UsageError(ValueError):
    """A person's mistake, put in one sentence: what was given, what was expected, what to do."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with a mistake in one sentence instead of five lines of usage, and `--version`."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--version", action=_Version, nargs=0, help="show it, and those of the libraries, and exit")

    def parse_args(self, args=None, namespace=None):
        """As argparse's, but an option that does not exist is answered with the one that looks like it."""
        arguments, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, n=1)
            self.error(f"there is no option {word!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return arguments

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)" + "." * (not message.endswith("?")))


class _Version(argparse.Action):
    """What a bug report should say: this project's version, and those of what it runs on."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        project = (Path(__file__).parent / "pyproject.toml").read_text()
        found = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
        versions = [f"Python {platform.python_version()}"]
        for name in ("keras", "tensorflow", "jax", "torch", "keras-rl2", "ale-py", "gymnasium", "numpy", "pillow"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions.append(f"{name} {importlib.metadata.version(name)}")
        parser.exit(DONE, f"{parser.prog} {found[1] if found else '?'} ({', '.join(versions)})\n")


def command(*words: object) -> str:
    """What a person types to run a script of this folder, quoted where a shell needs it."""
    join = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return join(["python", *map(str, words)])


def number(kind: type, low: float = -math.inf, high: float = math.inf) -> Callable[[str], Any]:
    """A type for argparse: an int, also written 1_000_000, 1,000,000 or 1e6, or a float, in [low, high]."""
    limits = f" between {low:,} and {high:,}" if high < math.inf else f" of at least {low:,}" if low > -math.inf else ""

    def parse(text: str) -> Any:
        try:
            value: float = int(text.replace(",", ""))
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                value = math.nan
        fits = low <= value <= high and (kind is float or (math.isfinite(value) and value == int(value)))
        if not fits:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}{limits}")
        return kind(value)

    return parse


def counted(number: float, noun: str) -> str:
    """A number of things in words: "1 game", "1,200 games"."""
    return f"{number:,.10g} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 7 min, 3 h 05 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def say(screen: Any, text: str) -> None:
    """Prints sentences on a Rich console, broken between words where a terminal or a notebook is narrow."""
    is_narrow = screen.is_terminal or screen.is_jupyter
    screen.print(text, soft_wrap=not is_narrow, highlight=False, markup=False)


def run(main: Callable[[], int], *mistakes: type[Exception]) -> None:
    """Ends the process with the status that `main()` returns.

    A mistake of the person (`UsageError` and the exceptions named) becomes one line on standard error and status
    2, Ctrl-C status 130. Anything else is a mistake of ours: a traceback and status 70. What is printed meanwhile is
    dropped where it cannot be written: into a closed pipe, say, on a full disk, or when the terminal has gone.
    """
    _never_fail_to_print()
    try:
        status = main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        status = STOPPED
    except Exception as error:
        if isinstance(error, (UsageError, *mistakes)):
            print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
            status = BAD_INPUT
        else:
            traceback.print_exc()
            status = FAILED
    sys.exit(status)


def screen() -> Console:
    """Where a command prints. Square brackets and colons in a text are what they are, no markup."""
    from rich.console import Console  # here: some tools do without it

    screen = Console(highlight=False, markup=False, emoji=False)
    if screen.is_jupyter:
        screen.width = NOTEBOOK_COLUMNS
    return screen


def use_onednn() -> None:
    """Makes TensorFlow, if it is not imported yet, compute with oneDNN on PCs, unless TF_ENABLE_ONEDNN_OPTS is set.

    By itself it does so only on newer CPUs; on one with AVX2 alone an update takes 0.63 of the time with it
    (docs/backends.md), and ends in other bits.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def start_keras() -> None:
    """Imports Keras, without a word about GPUs and CPUs unless that fails.

    Raises:
        UsageError: Keras is on a backend on which a network cannot learn.
    """
    use_onednn()
    with quiet_tensorflow():
        try:
            import keras
        except (
            ImportError,
            ValueError,
        ) as error:  # the latter for a name that Keras does not know, or a bad keras.json
            raise UsageError(
                f"Keras cannot start ({' '.join(str(error).split())[:200]}); install the backend that KERAS_BACKEND "
                "or ~/.keras/keras.json names, or set KERAS_BACKEND=tensorflow."
            ) from error

        keras.ops.zeros(1)  # the first operation looks for devices, and says so
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax", "torch"):
        raise UsageError(f'KERAS_BACKEND is "{backend}", expected tensorflow, jax or torch.')


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps what TensorFlow's C++ side has to say off standard error.

    It is shown after an exception, and at once if TF_CPP_MIN_LOG_LEVEL is set, which asks for it.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    sys.stderr.flush()
    with _temporary_file() as kept:
        screen = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except UsageError:
            raise
        except BaseException:
            kept.seek(0)
            with contextlib.suppress(OSError):
                os.write(screen, kept.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


def versions(*names: str) -> dict[str, str]:
    """Of Keras' backend, which has been started, and of these packages: what a score may depend on."""
    import keras

    backend = keras.backend.backend()
    return {backend: sys.modules[backend].__version__} | {name: importlib.metadata.version(name) for name in names}


class _Dropping(io.RawIOBase):
    """A standard stream that drops what it cannot write."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.name, self.mode = raw.name, raw.mode

    def write(self, data: Any) -> int:
        try:
            written = self.raw.write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written  # None: it would have to wait

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()


def _never_fail_to_print() -> None:
    """Lets the process' standard streams drop what they cannot write; those of a notebook or a test stay."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next file that is opened gets this number, and what is printed
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _dropping(stream))


def _dropping(stream: io.TextIOWrapper) -> TextIO:
    with contextlib.suppress(OSError):
        stream.flush()
    buffer: Any = stream.buffer
    is_buffered = isinstance(buffer, io.BufferedWriter)  # not with python -u
    raw = _Dropping(buffer.raw if is_buffered else buffer)
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if is_buffered else raw,  # type: ignore[arg-type]
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # a full disk
        return open(os.devnull, "r+b")
