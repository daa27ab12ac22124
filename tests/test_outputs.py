"""Outputs that fail: what is printed, and what is written, for each of the three commands."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import REPOSITORY, mistake

import console
from keras_h5 import files
from models.policy_file import load_policy, save_policy

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")


@pytest.fixture
def folder(tmp_path):
    """A folder with the policy.h5 of a network that always chooses RIGHT."""
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = [part for shape in shapes for part in (np.zeros(shape), np.zeros(shape[-1]))]
    weights[-1] = np.array([0.0, 0, 1, 0])
    save_policy(tmp_path / "policy.h5", weights, {"game": "breakout", "run": "right"})
    return tmp_path


def closed():
    os.close(1)
    os.close(2)


@contextlib.contextmanager
def broken_output(kind):
    """Arguments of `Popen` for a process whose standard output and standard error fail, and what to do meanwhile."""
    hang_up_ignored = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    if kind == "closed":
        yield {"preexec_fn": closed}, lambda: None
    elif kind == "full disk":
        with open("/dev/full", "w") as full:
            yield {"stdout": full, "stderr": full}, lambda: None
    elif kind == "broken pipe":
        reading, writing = os.pipe()
        os.close(reading)
        yield {"stdout": writing, "stderr": writing}, lambda: None
        os.close(writing)
    else:  # a terminal, which goes away while it shows something
        ours, its = os.openpty()

        def go_away():
            os.read(ours, 100)
            os.close(ours)

        yield {"stdin": its, "stdout": its, "stderr": its, **hang_up_ignored}, go_away
        os.close(its)


COMMANDS = {
    "train": "--preset smoke --steps 200 --num-environments 2 --evaluations 1 --evaluation-games 1 --run a --out a.h5",
    "evaluate": "--episodes 1 --json result.json --min-score 1000",
    "play": "--no-window --episodes 1 --max-steps 100 --record game.gif",
}


@posix
@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train", "closed"),
        ("train", "terminal gone"),
        ("evaluate", "full disk"),
        ("evaluate", "terminal gone"),
        ("play", "broken pipe"),
        ("play", "terminal gone"),
    ],
)
def test_what_cannot_be_printed_changes_neither_the_work_nor_the_status(folder, name, kind):
    command = [sys.executable, str(REPOSITORY / f"{name}.py"), *COMMANDS[name].split()]
    with broken_output(kind) as (settings, meanwhile), subprocess.Popen(command, cwd=folder, **settings) as process:
        meanwhile()
        status = process.wait(timeout=250)
    if name == "train":
        assert load_policy(folder / "a.h5").facts["finished"] is True
        assert (folder / "runs/a/learning_curve.png").exists()
        assert status == console.DONE
    elif name == "evaluate":
        assert len(json.loads((folder / "result.json").read_text())["scores"]) == 1
        assert status == console.SCORE_NOT_REACHED
    else:
        assert (folder / "game.gif").read_bytes().startswith(b"GIF89a")
        assert status == console.DONE


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("name", "kind"), [("train", "full disk"), ("evaluate", "broken pipe"), ("play", "closed")])
def test_bad_input_has_its_status_where_it_cannot_be_told(folder, name, kind):
    command = [sys.executable, str(REPOSITORY / f"{name}.py"), "--nonsense"]
    with broken_output(kind) as (settings, _), subprocess.Popen(command, cwd=folder, **settings) as process:
        assert process.wait(timeout=100) == console.BAD_INPUT


def run_main(source, **settings):
    """What a `main` made of this source ends with, run as a command."""
    script = f"import sys, console\ndef main():\n    {source}\n    return 0\nconsole.run(main)"
    return subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, timeout=60, **settings)


def test_a_mistake_of_ours_has_a_status_of_its_own():
    process = run_main("1 / 0")
    assert process.returncode == console.FAILED
    assert b"ZeroDivisionError" in process.stderr


def test_a_text_that_the_encoding_does_not_have_is_printed_otherwise():
    process = run_main(r"print('\u2588 \udcff'); console.screen().print('\u2588')", env={"PYTHONIOENCODING": "ascii"})
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.splitlines()[0] == rb"\u2588 \udcff"


@posix
@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_can_be_printed_again_after_a_full_disk_is_printed(tmp_path, unbuffered):
    limit = "import resource; _, hard = resource.getrlimit(resource.RLIMIT_FSIZE); "
    set_limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, hard))"
    source = (
        f"{limit}print('before', flush=True); {set_limit.format(7)}; print('full', flush=True); "
        f"{set_limit.format('hard')}; print('after', flush=True)"
    )
    script = f"import console\ndef main():\n    {source}\n    return 0\nconsole.run(main)"
    with open(tmp_path / "log", "w") as log:
        words = [sys.executable, *(["-u"] if unbuffered else []), "-c", script]
        assert subprocess.run(words, cwd=REPOSITORY, stdout=log, timeout=60).returncode == 0
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_square_brackets_are_printed_as_they_are(capsys):
    console.screen().print("runs/exp[lr=0.1] of a game called [/x] :smile:", soft_wrap=True)
    assert capsys.readouterr().out == "runs/exp[lr=0.1] of a game called [/x] :smile:\n"


def test_nobody_makes_a_console_with_markup():
    ours = [*REPOSITORY.glob("*.py"), *(REPOSITORY / "training").glob("*.py"), *(REPOSITORY / "screens").glob("*.py")]
    assert [path.name for path in ours if "Console(" in path.read_text()] == ["console.py"]


WORDS = {"train": "--out", "evaluate": "--json", "play": "--no-window --record"}


class TestPlacesThatAreNoFiles:
    """Each is refused before any game is played, by each command, and stays what it is."""

    @posix
    @pytest.mark.parametrize("name", WORDS)
    @pytest.mark.parametrize("what", ["pipe", "device", "loop of links", "folder"])
    def test_they_are_refused(self, folder, name, what):
        place = folder / {"train": "x.h5", "evaluate": "x.json", "play": "x.gif"}[name]
        if what == "pipe":
            os.mkfifo(place)
        elif what == "folder":
            place.mkdir()
        elif what == "loop of links":
            place.symlink_to(place.with_name("y"))
            place.with_name("y").symlink_to(place)
        elif os.geteuid() == 0:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        else:
            place.symlink_to("/dev/null")
            name, place = "evaluate", Path("/dev/null")
        before = (os.lstat(place).st_ino, os.lstat(place).st_mode)
        said = mistake(folder, name, *WORDS[name].split(), place)
        words = {"pipe": "is a device", "device": "is a device", "folder": "is a folder"}
        assert words.get(what, "leads to itself") in said
        assert (os.lstat(place).st_ino, os.lstat(place).st_mode) == before

    @posix
    def test_what_is_printed_into_is_refused(self, folder):
        for place in ("/dev/stdout", folder / "log.json"):
            command = [sys.executable, str(REPOSITORY / "evaluate.py"), "--json", str(place)]
            with open(folder / "log.json", "w") as log:
                process = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.PIPE, text=True, timeout=60)
            assert (process.returncode, process.stderr.count("\n")) == (console.BAD_INPUT, 1)
            assert "prints into" in process.stderr
        assert (folder / "log.json").read_text() == ""

    @pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that not even root can write to")
    @pytest.mark.parametrize(("option", "place"), [("--json", "/proc/x.json"), ("--html", "/proc/x.html")])
    def test_a_folder_that_takes_no_file_is_refused(self, folder, option, place):
        assert "cannot be written" in mistake(folder, "evaluate", option, place)

    def test_a_file_that_may_be_written_in_a_folder_that_takes_none_is_refused(self, tmp_path, monkeypatch):
        """Root may write everywhere, so the folder only seems closed here."""
        place, opened = tmp_path / "x.json", Path.open
        place.write_text("mine")

        def refuse(path, mode="r", *arguments, **others):
            if "x" in mode:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, mode, *arguments, **others)

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(files.FileError, match=r"cannot be written \(Permission denied"):
            files.require_writable(place)

    def test_a_name_that_leaves_no_room_for_the_file_beside_it_is_refused(self, tmp_path):
        with pytest.raises(files.FileError, match="cannot be written"):
            files.require_writable(tmp_path / f"{'x' * 245}.h5")

    def test_a_name_with_a_null_is_refused(self, tmp_path):
        with pytest.raises(files.FileError, match="is no name of a file"):
            files.require_writable(f"{tmp_path}/a\0b")


def test_what_tensorflow_remarks_is_shown_only_after_an_exception(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with console.quiet_tensorflow():
        os.write(2, b"E0000 a remark\n")
    with pytest.raises(ZeroDivisionError), console.quiet_tensorflow():
        os.write(2, b"E0000 a reason\n")
        _ = 1 // 0
    os.write(2, b"the end\n")
    assert capfd.readouterr().err == "E0000 a reason\nthe end\n"
