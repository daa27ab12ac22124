"""What the command lines share: messages instead of tracebacks, and a quiet start of TensorFlow."""

import argparse
import contextlib
import difflib
import importlib.metadata
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

DONE, SCORE_NOT_REACHED, BAD_INPUT, STOPPED = 0, 1, 2, 130  # exit statuses


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
    """Prints sentences on a Rich console, broken between words where a terminal is narrow."""
    screen.print(text, soft_wrap=not screen.is_terminal, highlight=False, markup=False)


def run(main: Callable[[], int], *mistakes: type[ValueError]) -> None:
    """Ends the process with the status that `main()` returns.

    A mistake of the person (`UsageError` and the exceptions named) becomes one line on standard error and status
    2, Ctrl-C status 130. Anything else is a mistake of ours and keeps its traceback.
    """
    try:
        status = main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        status = STOPPED
    except ValueError as error:
        if not isinstance(error, (UsageError, *mistakes)):
            raise
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        status = BAD_INPUT
    sys.exit(status)


def start_keras() -> None:
    """Imports Keras, and keeps what TensorFlow's C++ side has to say about GPUs and CPUs off the screen.

    It is shown if that fails, or if TF_CPP_MIN_LOG_LEVEL is set, which asks for it.
    """
    with contextlib.nullcontext() if "TF_CPP_MIN_LOG_LEVEL" in os.environ else _quiet_standard_error():
        import keras

        keras.ops.zeros(1)  # the first operation looks for devices, and says so


def versions(*names: str) -> dict[str, str]:
    """Of Keras' backend, which has been started, and of these packages: what a score may depend on."""
    import keras

    backend = keras.backend.backend()
    return {backend: sys.modules[backend].__version__} | {name: importlib.metadata.version(name) for name in names}


@contextlib.contextmanager
def _quiet_standard_error() -> Iterator[None]:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        screen = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(screen, kept.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
