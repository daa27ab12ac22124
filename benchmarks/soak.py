"""Proves that no run is lost: one training is killed again and again, and ends as one that was never stopped.

    python benchmarks/soak.py --kills 100                about a quarter of an hour
    python benchmarks/soak.py --kills 100 --signals 0    SIGKILL only, no Ctrl-C and no SIGTERM
    python benchmarks/soak.py --seed 1                   other moments, another training

It trains twice with the same options, each in a temporary folder: once undisturbed, and once killed at random moments,
in the start-up as well, and resumed with `python train.py --resume`. Then policy.h5 has to be the same byte for byte,
and so has everything in the last checkpoint (networks, optimizer, replay entries, generators, games) and metrics.csv,
but for the times in them. The status is 0 if so, 1 if not; then the folder is kept. Linux or macOS.
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

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
import console
from callbacks.checkpoint import Checkpointer
from callbacks.progress import duration

# A checkpoint every 100 steps, not every 25,000, is what makes this a matter of minutes; all else is the product.
TRAIN = (
    "import console, train; train.SAVE_INTERVAL_STEPS, train.REPORT_INTERVAL_STEPS = 100, 50; console.run(train.main)"
)
GAMES, MEMORY_SIZE = 4, 1_500  # so that the ring wraps several times
OPTIONS = (
    f"--preset smoke --run soak --sticky 0.25 --num-environments {GAMES} --memory-size {MEMORY_SIZE} "
    "--warmup-steps 300 --batch-size 8 --target-update-steps 500"
).split()
EARLY_SHARE = 0.2  # of the kills, before the first steps of a resumed training
TIME_COLUMNS = ("seconds", "steps_per_second")
COMPLAINTS = ("Going on from the checkpoint before", "Not saved this time")  # by train.py; here there is no reason to


class SoakError(RuntimeError):
    """A training did not go on or did not end."""


class Recorder:
    """Stands in for an agent, and for a training monitor: takes what a checkpoint holds, and keeps it."""

    counts = np.zeros(GAMES, np.int64)

    def __init__(self) -> None:
        self.memory = self

    def set_state(self, state: dict[str, Any], entries: Any = ()) -> None:
        self.state, self.entries = state, entries


class Training:
    """The training in `folder`, process after process."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder, self.run, self.arguments = folder, folder / "runs" / "soak", arguments
        self.start_seconds: list[float] = []  # of each process, up to its first report
        self.hits = self.complaints = 0
        folder.mkdir()

    @property
    def step(self) -> int:
        """Agent steps up to the last checkpoint."""
        return max((int(path.stem.split("-")[1]) for path in self.run.glob("checkpoint/*.json")), default=0)

    def go_on(self, stop: int = signal.SIGKILL, *, early: float = math.inf, late: float = math.inf) -> bool:
        """Starts or resumes it. Sends the signal `early` seconds later, or `late` seconds after the first report.

        Returns:
            Whether the training has come to its end.
        """
        before, started = self._unfinished(), time.monotonic()
        command = [sys.executable, "-c", TRAIN, *(["--resume"] if self.run.exists() else self.arguments)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                output = ""
                if early == math.inf:
                    assert process.stdout
                    output = process.stdout.readline() + process.stdout.readline()  # what it does, the first report
                    self.start_seconds.append(time.monotonic() - started)
                delay = min(early, late)
                try:
                    output += process.communicate(timeout=None if delay == math.inf else delay)[0]
                except subprocess.TimeoutExpired:
                    process.send_signal(stop)
                    output += process.communicate(timeout=300)[0]
            finally:
                process.kill()
        self.hits += bool(self._unfinished() - before)
        self.complaints += output.count(COMPLAINTS[0]) + output.count(COMPLAINTS[1])
        killed = delay < math.inf and process.returncode in (-stop, console.STOPPED)
        if process.returncode != console.DONE and not killed:
            raise SoakError(f"A process ended with status {process.returncode} at step {self.step:,}:\n{output}")
        return process.returncode == console.DONE

    def _unfinished(self) -> set[tuple[str, int]]:
        """Files of checkpoints that were being written or removed."""
        files = [path for path in self.run.rglob("*") if path.suffix == ".tmp" or path.name.startswith("state-")]
        whole = {path.stem.replace("checkpoint", "state") for path in self.run.glob("checkpoint/*.json")}
        return {(path.name, path.stat().st_mtime_ns) for path in files if path.stem not in whole}

    def results(self) -> dict[str, Any]:
        """All that it has come to, by name, in what can be compared."""
        agent, monitor = Recorder(), Recorder()
        complaints: list[Exception] = []
        Checkpointer(self.run / "checkpoint", 1, {"monitor": monitor}, complaints.append).restore(agent)
        if complaints:
            raise SoakError(f"The last checkpoint is damaged: {complaints}")
        del monitor.state["seconds"]
        with open(self.run / "metrics.csv", newline="") as file:
            rows = [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in csv.DictReader(file)]
        return {
            "policy.h5": (self.folder / "policy.h5").read_bytes(),
            **dict(leaves("metrics.csv", rows)),
            **dict(leaves("agent", agent.state)),
            **dict(leaves("monitor", monitor.state)),
            **dict(replay_entries(agent.state["memory"], agent.entries)),
        }


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything in nested dicts and lists; NaN, too, is equal to itself here."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(f"{name}.{key}", each)
    else:
        yield name, (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


def replay_entries(state: dict[str, Any], parts: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    """(name, value) of every entry that the replay memory keeps; how they are shared out among files may differ."""
    size = math.prod(state["shape"])
    for part in parts:
        spans = zip(part["starts"], part["ends"], state["counts"] - MEMORY_SIZE // GAMES, strict=True)
        places = [(game, n, n >= oldest) for game, (start, end, oldest) in enumerate(spans) for n in range(start, end)]
        columns = [part[name].tolist() for name in ("actions", "rewards", "terminals", "episode_ends")]
        ends = np.cumsum(part["lengths"]).tolist()
        for (game, n, kept), key, end, length, *values in zip(
            places, part["keys"].tolist(), ends, part["lengths"].tolist(), *columns, strict=True
        ):
            key_frame, data = part["key_frames"][key * size : (key + 1) * size], part["data"][end - length : end]
            if kept:
                whole = key_frame if not length else data if key < 0 else None
                yield f"replay.{game}.{n}", (whole or lz4.block.decompress(data, size, False, key_frame), values)


def soak(folder: Path, kills: int, share: float, seed: int, steps: int) -> bool:
    """Trains twice, compares, and says how it went. Returns whether all is equal."""
    arguments = [*OPTIONS, "--seed", str(seed), "--steps", str(steps)]
    undisturbed, killed = Training(folder / "undisturbed", arguments), Training(folder / "killed", arguments)
    rng, started = random.Random(seed), time.monotonic()
    print(f"Training {steps:,} steps undisturbed ...", file=sys.stderr)
    undisturbed.go_on()
    seconds_per_step = (time.monotonic() - started - undisturbed.start_seconds[0]) / steps

    stops = {signal.SIGKILL: 0, signal.SIGTERM: 0, signal.SIGINT: 0}
    early_kills, done, started = 0, False, time.monotonic()
    for left in range(kills, 0, -1):
        stop = rng.choice([signal.SIGTERM, signal.SIGINT]) if rng.random() < share else signal.SIGKILL
        early = left < kills and rng.random() < EARLY_SHARE
        if early:
            done = killed.go_on(stop, early=rng.uniform(0, statistics.median(killed.start_seconds)))
        else:  # on average three quarters of what would spread the kills evenly, so that all of them find a place
            done = killed.go_on(stop, late=rng.uniform(0, 1.5 * (steps - killed.step) * seconds_per_step / (left + 1)))
        if done:
            break
        stops[stop] += 1
        early_kills += early
        seconds = (time.monotonic() - started) / sum(stops.values()) * (left - 1)
        print(
            f"{stop.name} {sum(stops.values())} of {kills}, checkpoint of step {killed.step:,} of {steps:,}, about "
            f"{duration(seconds + (steps - killed.step) * seconds_per_step)} left",
            file=sys.stderr,
        )
    if not done:
        killed.go_on()

    one, other = undisturbed.results(), killed.results()
    different = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    left_over = [path for path in killed.folder.rglob("*.tmp")]
    survived = sum(stops.values())
    print(
        f"{survived} kills survived ({', '.join(f'{n} {stop.name}' for stop, n in stops.items())}), {early_kills} of "
        f"them before the first steps; {killed.hits} hit a checkpoint being written\n"
        f"{survived} resumes, {statistics.median(killed.start_seconds):.1f} s each up to the first report (median)\n"
        f"{killed.complaints} complaints about a checkpoint; {len(left_over)} temporary files left over at the end, "
        f"{sum(path.stat().st_size for path in left_over):,} bytes\n"
        f"{steps:,} steps, seed {seed}: {len(one):,} values compared, {len(different):,} differ"
        + "".join(f"\n  {name}" for name in sorted(different)[:20])
    )
    if survived < kills:
        print(f"The training ended before there were {kills} kills; give more --steps.")
    return not different and survived == kills


def main() -> int:
    """Reads the options, soaks, and removes the folder if all was well."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--kills", type=console.number(int, 1), default=100, metavar="N", help="(default: 100)")
    parser.add_argument(
        "--signals",
        type=console.number(float, 0, 1),
        default=0.2,
        metavar="X",
        help="share of the kills that are SIGTERM or SIGINT instead of SIGKILL (default: 0.2)",
    )
    parser.add_argument("--seed", type=console.number(int, 0, 2**31 - 1), default=0, metavar="N", help="(default: 0)")
    parser.add_argument(
        "--steps", type=console.number(int, 2_000), default=10_000, metavar="N", help="agent steps (default: 10,000)"
    )
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    equal = False
    try:
        equal = soak(folder, given.kills, given.signals, given.seed, given.steps)
    except SoakError as error:
        print(error)
    finally:
        if equal:
            shutil.rmtree(folder)
        else:
            print(f"Both runs are kept in {folder}.", file=sys.stderr)
    print("All is equal." if equal else "Not proven.")
    return console.DONE if equal else 1


if __name__ == "__main__":
    console.run(main)
