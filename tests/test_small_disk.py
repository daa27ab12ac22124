"""A real file system that is full for a while: at each phase of a training, and then there is room again.

It needs the right to mount one, as root has it in a continuous integration; elsewhere these tests are skipped.
"""

import contextlib
import csv
import json
import os
import subprocess
import sys

import pytest
from commands import run

from models.policy_file import load_policy

WORDS = [
    *("--preset", "smoke", "--run", "a", "--out", "policy.h5", "--steps", "300", "--num-environments", "2"),
    *("--batch-size", "8", "--evaluations", "2", "--evaluation-games", "1", "--workers", "0"),
]
# train.py with a checkpoint every 50 steps, on a disk that is filled and emptied at some steps, or at a function.
SCRIPT = """
import os, signal
from training import session

session.REPORT_INTERVAL_STEPS = 25

fills = [0]

def fill():
    fills[0] += 1
    if fills[0] > 1:
        return
    with open("filling", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                break
    with open("filling", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(100))
        except OSError:
            pass

def make_room():
    if os.path.exists("filling"):
        os.unlink("filling")

def at(function, action):
    def wrapped(*arguments, **others):
        action()
        return function(*arguments, **others)
    return wrapped

step_end = session.TrainingMonitor.on_step_end
def on_step_end(self, step, logs):
    step_end(self, step, logs)
    actions.get(self.model.step, lambda: None)()
session.TrainingMonitor.on_step_end = on_step_end

def die():
    os.kill(os.getpid(), signal.SIGKILL)

actions = {}
"""
PHASES = {
    "from a checkpoint to the next but one": "actions = {79: fill, 160: make_room}",
    "in an evaluation": "session.Training._on_evaluation = at(session.Training._on_evaluation, fill)\n"
    "actions = {190: make_room}",
    "until it is killed": "actions = {79: fill, 220: die}",
    "at the end": "session.Training._save_at_first = at(session.Training._save_at_first, fill)",
}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 160 MB of its own, room for four checkpoints."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(place)]
    with contextlib.suppress(OSError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                yield place
            finally:
                subprocess.run(["umount", "--lazy", str(place)], check=True)
            return
    pytest.skip("no file system can be mounted here")


def train(folder, patch, *words):
    """Returns the exit status; what is printed goes to a file on the same disk, too."""
    settings = {"patch": f"{SCRIPT}\n{patch}", "log": folder / "log", "TMPDIR": folder, "MPLCONFIGDIR": folder}
    return run(folder, "train", *words, "--checkpoint-steps", "50", **settings).returncode


def result(folder):
    """All that a run has come to, but for times."""
    with open(folder / "runs/a/metrics.csv", newline="") as file:
        rows = [
            {k: v for k, v in row.items() if k not in ("seconds", "steps_per_second")} for row in csv.DictReader(file)
        ]
    return {
        "policy.h5": (folder / "policy.h5").read_bytes(),
        "metrics": rows,
        "config": json.loads((folder / "runs/a/config.json").read_text()),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(folder, "", *WORDS) == 0, (folder / "log").read_text()
    return result(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("phase", PHASES)
def test_with_room_again_it_ends_as_if_there_had_always_been_room(undisturbed, small_disk, phase):
    status = train(small_disk, PHASES[phase], *WORDS)
    said = (small_disk / "log").read_text(errors="replace")
    assert "Traceback" not in said
    if phase in ("until it is killed", "at the end"):
        assert status == (-9 if "killed" in phase else 2), said
        os.unlink(small_disk / "filling")
        assert train(small_disk, "", "--resume") == 0, (small_disk / "log").read_text()
    else:
        assert status == 0, said
    assert result(small_disk) == undisturbed
    assert load_policy(small_disk / "policy.h5").facts["finished"] is True
    assert not list(small_disk.rglob("*.tmp"))


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_on_a_full_disk_nothing_begins_and_nothing_is_left(small_disk):
    status = train(small_disk, "session.Training.__init__ = at(session.Training.__init__, fill)", *WORDS)
    assert status == 2
    (small_disk / "filling").unlink()
    left = {path.name for path in small_disk.rglob("*") if not path.name.startswith("fontlist")}  # matplotlib's
    assert left == {"log", "runs"}
