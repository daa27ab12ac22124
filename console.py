"""What the command lines share: messages instead of tracebacks, and a quiet start of TensorFlow."""

import argparse
import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

DONE, SCORE_NOT_REACHED, BAD_INPUT, STOPPED = 0, 1, 2, 130  # exit statuses


class UsageError(ValueError):
    """A person's mistake, put in one sentence: what was given, what was expected, what to do."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with a mistake in one sentence instead of five lines of usage."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help).")


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


def require_tensorflow(what: str) -> None:
    """Refuses `what`, the beginning of a sentence, where Keras runs on another backend.

    Raises:
        UsageError: It does.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UsageError(
            f"{what} needs Keras on TensorFlow, and this is Keras on {backend}; set KERAS_BACKEND=tensorflow."
        )


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
