"""train.py, play.py and evaluate.py as people run them, at the cost of a test.

`Command` and `run` give each a process of its own, forked from one that has imported everything and computed nothing:
Keras' imports take longer than a small training. `mistake` stays in the process of the tests.
"""

import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import unittest.mock
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import console
from environments.atari import UnknownGameError
from keras_h5.files import FileError

REPOSITORY = Path(__file__).parents[1]
OLD_CONSOLE = {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}  # as on Windows, or in a file
IMPORTED = ["commands", "keras", "train", "play", "evaluate", "training.measurement", "training.session"]


def our_files(pattern: str) -> list[Path]:
    """Those of this repository: not what an environment, a build or a run has put beside them."""
    listed = subprocess.run(["git", "ls-files", pattern], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.splitlines() if (path := REPOSITORY / name).exists()]


class Ended(NamedTuple):
    """A process that has ended: as of `subprocess`, the negative number of a signal if one has ended it."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A command in a process of its own: train, play or evaluate, in this folder, with these words.

    `patch` is Python to run first, in which the command's module has its name. `log` is a file that all is printed to.
    """

    def __init__(
        self, folder: Path, name: str, *words: object, patch: str = "", log: Path | None = None, **environment: object
    ) -> None:
        self._printed = tempfile.TemporaryDirectory()
        self._files = [log or Path(self._printed.name, stream) for stream in ("stdout", "stderr")]
        settings = {key: str(value) for key, value in environment.items()}
        arguments = (folder, name, [*map(str, words)], patch, self._files, settings)
        self.process: Any = _processes().Process(target=_be_command, args=arguments)
        self.process.start()

    def wait(self, seconds: float = 280) -> Ended:
        """Waits until it has ended, and kills it if that takes too long."""
        self.process.join(seconds)
        in_time = self.process.exitcode is not None
        self.process.kill()
        self.process.join()
        printed = [file.read_text(errors="replace") if file.exists() else "" for file in self._files]
        self._printed.cleanup()
        assert in_time, printed
        return Ended(self.process.exitcode, *printed)


def run(folder: Path, name: str, *words: object, **settings: Any) -> Ended:
    """A `Command` from its beginning to its end."""
    return Command(folder, name, *words, **settings).wait()


def mistake(folder: Path, name: str, *words: object) -> str:
    """The one line that a command says about bad input; nothing else is printed, and its status is 2."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(variable, raising=False)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            runpy.run_path(str(REPOSITORY / f"{name}.py"), run_name="__main__")
    assert ended.value.code == console.BAD_INPUT
    assert output.getvalue() == ""
    said = errors.getvalue()
    assert said.startswith(f"{name}.py: ") and said.endswith("\n") and said.count("\n") == 1, said
    return said


@functools.cache
def _processes():
    is_posix = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if is_posix else "spawn")
    if is_posix:
        from multiprocessing import forkserver

        context.set_forkserver_preload(IMPORTED)
        with unittest.mock.patch.dict(
            os.environ, PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        ):
            console.use_onednn()  # too late once TensorFlow is imported
            forkserver.ensure_running()
    return context


def _be_command(folder, name, words, patch, files, environment) -> None:
    for number, file in ((1, files[0]), (2, files[1])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [f"{name}.py", *words]
    tempfile.tempdir = None
    command = importlib.import_module(name)
    exec(patch, {name: command})
    console.run(command.main, FileError, UnknownGameError)
