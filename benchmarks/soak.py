"""Proves that no run is lost: one training is killed again and again, and ends as if it had never been stopped.

    python benchmarks/soak.py --kills 100                about a quarter of an hour
    python benchmarks/soak.py --kills 100 --signals 0    by SIGKILL only, not by SIGINT and SIGTERM
    python benchmarks/soak.py --seed 1                   another training, other moments

It trains twice with the same options, each time in a temporary folder: undisturbed, and killed at random moments, the
start-up included, and resumed with `train.py --resume`. Then policy.h5 has to be the same byte for byte, and so have
metrics.csv and all of the last checkpoint (networks, optimizer, replay entries, generators, games), but for the times
in them. The status is 0 if that is so, and 1 if not; then the folders are kept. Linux or macOS.
"""

import csv
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console

# A checkpoint every 100 steps instead of every 25,000 makes this a matter of minutes. All else is the product.
TRAIN = (
    "import console, train, training; "
    "training.SAVE_INTERVAL_STEPS, training.REPORT_INTERVAL_STEPS = 100, 50; console.run(train.main)"
)
STEPS, GAMES, MEMORY_SIZE = 10_000, 4, 1_500  # the ring wraps six times
OPTIONS = (
    f"--preset smoke --run soak --steps {STEPS} --num-environments {GAMES} --memory-size {MEMORY_SIZE} "
    "--warmup-steps 300 --batch-size 8 --target-update-steps 500 --sticky 0.25"
).split()
EARLY_SHARE = 0.2  # of the kills: before a resumed training has made its first steps
COMPLAINTS = ("Going on from the checkpoint before", "Not saved this time")  # of train.py, without a reason here


class SoakError(RuntimeError):
    """A training did not go on, or its last checkpoint is damaged."""


class Training:
    """The training in `folder`, process after process."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder, self.run, self.options = folder, folder / "runs" / "soak", options
        self.start_seconds: list[float] = []  # of processes, up to the first report
        self.hits = self.complaints = 0
        folder.mkdir()

    @property
    def step(self) -> int:
        """Agent steps up to the last checkpoint."""
        return max((int(path.stem.split("-")[1]) for path in self.run.glob("checkpoint/*.json")), default=0)

    def go_on(self, stop: signal.Signals, early: float | None = None, late: float | None = None) -> bool:
        """Starts or resumes it; sends `stop` after `early` seconds, or `late` seconds after the first report.

        Returns:
            Whether the training came to its end.
        """
        unfinished, started = self._unfinished(), time.monotonic()
        command = [sys.executable, "-c", TRAIN, *(["--resume"] if self.run.exists() else self.options)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": sys.path[0]}
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            output, sent = "", False
            try:
                if early is None:
                    output = process.stdout.readline() + process.stdout.readline()  # type: ignore[union-attr]  # what it does; the first report
                    self.start_seconds.append(time.monotonic() - started)
                try:
                    process.wait(early if late is None else late)
                except subprocess.TimeoutExpired:
                    process.send_signal(stop)
                    sent = True
                    process.wait(300)
                output += process.stdout.read()  # type: ignore[union-attr]
            finally:
                process.kill()
        self.hits += bool(self._unfinished() - unfinished)
        self.complaints += sum(map(output.count, COMPLAINTS))
        status = process.returncode
        if status not in (console.DONE, console.STOPPED, -stop):
            message = f"A process ended at step {self.step:,} with status {status}:\n{output}"
            if not sent:
                raise SoakError(message)
            print(f"After {stop.name}: {message}", file=sys.stderr)
        return status == console.DONE

    def _unfinished(self) -> set[tuple[str, int]]:
        """Temporary files, and those of a checkpoint that is not there as a whole."""
        parts = self.run.glob("checkpoint/*.safetensors")
        files = [*self.folder.rglob("*.tmp"), *(path for path in parts if int(path.stem.split("-")[1]) > self.step)]
        return {(path.name, path.stat().st_mtime_ns) for path in files}

    def results(self) -> dict[str, Any]:
        """All that it has come to, by name, as values to compare."""
        from keras_rl.checkpoint import Checkpointer  # here, and not above: it imports TensorFlow

        agent, monitor = Recorder(), Recorder()
        damage: list[Exception] = []
        Checkpointer(self.run / "checkpoint", 1, {"monitor": monitor}, damage.append).restore(agent, None)
        if damage:
            raise SoakError(str(damage[0]))
        with open(self.run / "metrics.csv", newline="") as file:
            values = {
                "policy.h5": (self.folder / "policy.h5").read_bytes(),
                "metrics.csv": list(csv.DictReader(file)),
                "monitor": monitor.state,
                "agent": agent.state,
                "replay": dict(replay_entries(agent.state["memory"], agent.entries)),
            }
        return {name: value for name, value in leaves("", values) if not name.endswith(("seconds", "per_second"))}


class Recorder:
    """Takes what a checkpoint holds, in place of an agent or a monitor."""

    def __init__(self) -> None:
        self.memory, self.counts = self, np.zeros(GAMES, np.int64)

    def set_state(self, state: dict[str, Any], env: Any = None, entries: Any = ()) -> None:
        """Keeps it as it is."""
        self.state, self.entries = state, list(entries)
        self.step = state["play"]["step"] if "play" in state else None


def replay_entries(state: dict[str, Any], parts: list[dict[str, Any]]) -> Iterator[tuple[str, list]]:
    """Every entry of the memory, by name: which file holds it may differ, and what it is compressed against."""
    size = math.prod(state["shape"])
    for part in parts:
        spans = zip(part["starts"], part["ends"], strict=True)
        places = [(game, number) for game, span in enumerate(spans) for number in range(*span)]
        ends = np.cumsum(part["lengths"])
        for i, (game, number) in enumerate(places):
            if number < state["counts"][game] - MEMORY_SIZE // GAMES:
                continue  # overwritten since
            key, length = part["keys"][i], part["lengths"][i]
            key_frame, frame = part["key_frames"][key * size :][:size], part["data"][ends[i] - length : ends[i]]
            if key >= 0:
                frame = lz4.block.decompress(frame, size, False, key_frame) if length else key_frame
            yield (
                f"{game}.{number}",
                [frame, *(part[k][i] for k in ("actions", "rewards", "terminals", "episode_ends"))],
            )


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of all that is in nested dicts and lists; NaN is equal to itself here."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{name}.{key}".lstrip("."), each)
    else:
        yield name, (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


def kill_again_and_again(training: Training, kills: int, share: float, seconds_per_step: float, seed: int) -> str:
    """Trains to the end, through all the kills; says what they were."""
    rng, started = random.Random(seed), time.monotonic()
    others = [(signal.SIGTERM, signal.SIGINT)[i % 2] for i in range(round(share * kills))]
    plan = rng.sample([signal.SIGKILL] * (kills - len(others)) + others, kills)
    stops, num_early = dict.fromkeys((signal.SIGKILL, signal.SIGTERM, signal.SIGINT), 0), 0
    for left, stop in zip(range(kills, 0, -1), plan, strict=True):
        training_seconds = (STEPS - training.step) * seconds_per_step  # still to come
        if left < kills and rng.random() < EARLY_SHARE:
            num_early += 1
            done = training.go_on(stop, early=rng.uniform(0, statistics.median(training.start_seconds)))
        else:  # somewhat less than an even share of it, so that it does not end before the kills do
            done = training.go_on(stop, late=rng.uniform(0, 1.2 * training_seconds / (left + 1)))
        if done:
            raise SoakError(f"The training came to its end instead of being stopped by {stop.name}.")
        stops[stop] += 1
        kill, training_seconds = kills - left + 1, (STEPS - training.step) * seconds_per_step
        seconds = (time.monotonic() - started) / kill * (left - 1) + training_seconds
        where = f"the last checkpoint is of step {training.step:,} of {STEPS:,}"
        print(f"{stop.name} {kill} of {kills}, {where}, about {seconds / 60:.0f} min left", file=sys.stderr)
    training.go_on(signal.SIGKILL)
    counts = ", ".join(f"{number} {stop.name}" for stop, number in stops.items())
    return f"{kills} kills survived: {counts}; {num_early} in the start-up"


def soak(folder: Path, kills: int, share: float, seed: int) -> bool:
    """Trains twice, compares, prints a summary. Returns whether all is equal."""
    options = [*OPTIONS, "--seed", str(seed)]
    undisturbed, killed = Training(folder / "undisturbed", options), Training(folder / "killed", options)
    print(f"Training {STEPS:,} steps undisturbed ...", file=sys.stderr)
    started = time.monotonic()
    undisturbed.go_on(signal.SIGKILL)
    seconds_per_step = (time.monotonic() - started - undisturbed.start_seconds[0]) / STEPS
    print(kill_again_and_again(killed, kills, share, seconds_per_step, seed))
    print(f"{killed.hits} of them hit a file being written; {killed.complaints} complaints of train.py about files")
    print(f"{statistics.median(killed.start_seconds):.1f} s from a resume to its first report (median)")
    left_over = list(killed.folder.rglob("*.tmp"))
    print(f"{len(left_over)} temporary files left over, {sum(path.stat().st_size for path in left_over):,} bytes")
    console.start_keras()
    one, other = undisturbed.results(), killed.results()
    different = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    print(f"{len(one):,} values compared, {len(different):,} differ", *different[:20], sep="\n  ")
    return not different


def main() -> int:
    """Reads the options, soaks, and removes the folders if all was well."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--kills", type=console.number(int, 1), default=100, metavar="N", help="(default: 100)")
    parser.add_argument(
        "--signals",
        type=console.number(float, 0, 1),
        default=0.2,
        metavar="X",
        help="share of the kills that are by SIGINT or SIGTERM (default: 0.2)",
    )
    parser.add_argument("--seed", type=console.number(int, 0, 2**31 - 1), default=0, metavar="N", help="(default: 0)")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    equal = False
    try:
        equal = soak(folder, given.kills, given.signals, given.seed)
    except (SoakError, subprocess.TimeoutExpired) as error:
        print(error)
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        raise
    if equal:
        shutil.rmtree(folder)
    print("All is equal." if equal else f"Not proven; look into {folder}.")
    return console.DONE if equal else 1


if __name__ == "__main__":
    console.run(main)
