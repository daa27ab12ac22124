"""Proves that no run is lost: trainings are killed again and again where it hurts, and end as if nothing had happened.

    python benchmarks/soak.py --kills 100            about a quarter of an hour on an idle machine
    python benchmarks/soak.py --kills 100 --signals 0    by SIGKILL only, not by SIGINT, SIGTERM and SIGHUP
    python benchmarks/soak.py --seed 1               other moments

Each of the trainings below is run undisturbed, and then again: killed, resumed with `train.py --resume`, killed, and so
on. The kills are aimed: at the start, at steps, at evaluations and the games in them, at each file while it takes its
place, at the last curve and the last policy. Then policy.h5 and best.h5 have to be the same byte for byte, and so have
metrics.csv and all of the last checkpoint (networks, optimizer, replay entries, generators, games, evaluations), but
for the times in them. The status is 0 if that is so, and 1 if not; then the folders are kept. Linux or macOS.
"""

import collections
import csv
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lz4.block
import numpy as np

os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
import train
from keras_rl.checkpoint import Checkpointer
from training import run as training_run
from training import session

# A checkpoint every 100 steps instead of every 25,000 makes this a matter of minutes. All else is the product.
SAVE_INTERVAL, REPORT_INTERVAL, MEMORY_SIZE = 100, 50, 1_000
COMMON = (
    f"--preset smoke --run soak --out policy.h5 --memory-size {MEMORY_SIZE} --warmup-steps 100 --batch-size 8 "
    "--train-interval 8 --target-update-steps 90 --evaluation-games 2 --average-window 5 "
)
TRAININGS = {
    "a multiple of all intervals": "--steps 1100 --num-environments 2 --evaluations 3 --workers 0",
    "a multiple of none": "--steps 731 --num-environments 3 --evaluations 2 --sticky 0.25 --workers 0",
    "started from its own policy.h5": "--steps 600 --num-environments 2 --evaluations 2 --start-from policy.h5",
    "Pong, double and dueling": "--steps 500 --num-environments 4 --evaluations 2 --game pong --double --dueling",
    "Space Invaders, one game at a time": "--steps 450 --num-environments 1 --evaluations 1 --game space_invaders",
    "plain DQN, not evaluated": "--steps 600 --num-environments 2 --workers 0 --evaluations 0 --num-quantiles 1",
}
STEPS_AT_MOST = 300  # of a process before a kill aimed at a step


class Aim(NamedTuple):
    """Where a process is sent a signal: before or after `place` has been reached so many `times` more."""

    place: str
    when: str
    times: int
    signal: signal.Signals


# Functions whose beginning and end are places; how many times they may be let pass.
FUNCTIONS = {
    "start: Checkpointer.restore": (Checkpointer, "restore", 0),
    "start: Run.keep_start": (training_run.Run, "keep_start", 0),
    "start: Run.write": (training_run.Run, "write", 0),
    "step": (session.TrainingMonitor, "on_step_end", STEPS_AT_MOST),
    "evaluation": (session.Training, "_play", 1),
    "evaluation: a step in a game": (session.BreakOff, "on_step_end", 400),
    "evaluation: its curve": (session.Training, "_draw", 2),
    "end: the last policy": (session.Training, "_save_at_first", 0),
}
FILES = {"policy.h5": 3, "best.h5": 1, "state-N.safetensors": 3, "replay-N.safetensors": 3, "checkpoint-N.json": 3}


class SoakError(RuntimeError):
    """A training did not go on, or its last checkpoint is damaged."""


class Training:
    """A training in a folder, process after process."""

    def __init__(self, folder: Path, options: list[str], start: Path | None) -> None:
        self.folder, self.run, self.options = folder, folder / "runs" / "soak", options
        folder.mkdir()
        if start:
            shutil.copy(start, folder / "policy.h5")

    def go_on(self, aim: Aim | None = None) -> tuple[bool, bool]:
        """Starts or resumes it in a process of its own, until it is killed or ends: (whether it hit, whether done)."""
        log = self.folder.with_suffix(".log")
        is_begun = (self.run / "config.json").exists()
        sys.stdout.flush(), sys.stderr.flush()
        child = os.fork()  # of a process that has imported everything and computed nothing
        if child == 0:
            _train(self.folder, log, ["--resume"] if is_begun else self.options, aim)
        _, code = os.waitpid(child, 0)
        status, output = os.waitstatus_to_exitcode(code), log.read_text()
        hit = "SOAK HIT" in output
        expected = {console.DONE, *([-aim.signal, console.STOPPED] if aim and hit else [])}
        if status not in expected:
            raise SoakError(f"With {aim} a process ended with status {status}:\n{output}")
        if "Going on from the checkpoint before" in output or "Not saved" in output:
            raise SoakError(f"With {aim} a process complained:\n{output}")
        return hit, status == console.DONE

    def results(self) -> dict[str, Any]:
        """All that it has come to, by name, as values to compare."""
        agent, *others = Recorder(), Recorder(), Recorder(), Recorder()
        extras = dict(zip(("monitor", "average", "evaluator"), others, strict=True))
        damage: list[Exception] = []
        Checkpointer(self.run / "checkpoint", 1, extras, damage.append).restore(agent, None)
        if damage:
            raise SoakError(str(damage[0]))
        with open(self.run / "metrics.csv", newline="") as file:
            values = {
                **{path.name: path.read_bytes() for path in (self.folder / "policy.h5", *self.run.glob("*.h5"))},
                "metrics.csv": list(csv.DictReader(file)),
                **{name: extra.state for name, extra in extras.items()},
                "agent": agent.state,
                "replay": dict(replay_entries(agent.state["memory"], agent.entries)),
            }
        return {name: value for name, value in leaves("", values) if not name.endswith(("seconds", "per_second"))}


def _train(folder: Path, log: Path, words: list[str], aim: Aim | None) -> None:
    """The child process: train.py, but for the aim."""
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1), os.dup2(output, 2)
    session.REPORT_INTERVAL_STEPS = REPORT_INTERVAL
    if aim:
        arm(aim)
    sys.argv = ["train.py", *words, "--checkpoint-steps", str(SAVE_INTERVAL)]
    status: Any = 1
    try:
        console.run(train.main)
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def arm(aim: Aim) -> None:
    """Has this process send itself the signal at the place, once."""
    left = aim.times

    def reached(place: str, when: str) -> None:
        nonlocal left
        if (place, when) == (aim.place, aim.when):
            left -= 1
            if left == -1:
                os.write(1, b"SOAK HIT\n")
                os.kill(os.getpid(), aim.signal)

    def watched(place, function):
        def watch(*arguments, **others):
            reached(place, "before")
            result = function(*arguments, **others)
            reached(place, "after")
            return result

        return watch

    for place, (owner, name, _) in FUNCTIONS.items():
        setattr(owner, name, watched(place, getattr(owner, name)))
    replace = os.replace

    def replace_watched(source, target):
        place = re.sub(r"\d+", "N", Path(target).name) if "-" in Path(target).name else Path(target).name
        reached(place, "before")
        replace(source, target)
        reached(place, "after")

    os.replace = replace_watched  # type: ignore[assignment]


class Recorder:
    """Takes what a checkpoint holds, in place of an agent or what accompanies it."""

    def __init__(self) -> None:
        self.memory, self.counts = self, np.zeros(1, np.int64)

    def set_state(self, state: dict[str, Any], env: Any = None, entries: Any = ()) -> None:
        """Keeps it as it is."""
        self.state, self.entries = state, list(entries)
        self.step = state["loop"]["step"] if "loop" in state else None


def replay_entries(state: dict[str, Any], parts: list[dict[str, Any]]) -> Iterator[tuple[str, list]]:
    """Every entry of the memory, by name: which file holds it may differ, and what it is compressed against."""
    size, capacity = math.prod(state["shape"]), MEMORY_SIZE // len(state["counts"])
    for part in parts:
        spans = zip(part["starts"], part["ends"], strict=True)
        places = [(game, number) for game, span in enumerate(spans) for number in range(*span)]
        ends = np.cumsum(part["lengths"])
        for i, (game, number) in enumerate(places):
            if number < state["counts"][game] - capacity:
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


def aims(rng: random.Random, share: float) -> Iterator[Aim]:
    """Aims without end: every place in turn, at random moments, with SIGKILL or, for a share, one that asks."""
    numbers = {**{place: most for place, (*_, most) in FUNCTIONS.items()}, **FILES}
    while True:
        for place in rng.sample(list(numbers), len(numbers)):
            asks = rng.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
            number = asks if rng.random() < share else signal.SIGKILL
            yield Aim(place, rng.choice(("before", "after")), rng.randint(0, numbers[place]), number)


def soak(folder: Path, kills: int, share: float, seed: int) -> bool:
    """Trains all undisturbed and killed, compares, prints a summary. Returns whether all is equal."""
    rng, hits, num_values, different = random.Random(seed), collections.Counter[str](), 0, []
    signals, started, aim_after_aim = collections.Counter[str](), time.monotonic(), aims(rng, share)
    undisturbed: dict[str, Training] = {}
    first: Path | None = None
    while sum(hits.values()) < kills:
        for name, words in TRAININGS.items():
            options = f"{COMMON} --seed {seed} {words}".split()
            start = first if "--start-from" in words else None
            if name not in undisturbed:
                undisturbed[name] = Training(folder / f"undisturbed-{len(undisturbed)}", options, start)
                undisturbed[name].go_on()
                first = first or undisturbed[name].folder / "policy.h5"
            killed = Training(folder / f"killed-{len(list(folder.iterdir()))}", options, start)
            done, of_this = False, 0
            while not done and of_this < math.ceil(kills / len(TRAININGS)) and sum(hits.values()) < kills:
                aim = next(aim_after_aim)
                hit, done = killed.go_on(aim)
                if hit:
                    of_this += 1
                    hits[f"{aim.place}, {aim.when}"] += 1
                    signals[aim.signal.name] += 1
            if not done:
                killed.go_on()
            one, other = undisturbed[name].results(), killed.results()
            num_values += len(one)
            unequal = [f"{name}: {each}" for each in {**one, **other} if one.get(each) != other.get(each)]
            different += unequal
            minutes = (time.monotonic() - started) / 60
            verdict = f"{len(unequal)} of {len(one):,} values differ" if unequal else f"{len(one):,} values equal"
            print(f"{minutes:.0f} min, {sum(hits.values())} kills: {name}: {of_this} kills, {verdict}", flush=True)
            if not unequal:
                shutil.rmtree(killed.folder)
            if sum(hits.values()) >= kills:
                break
    print(f"{sum(hits.values())} kills: {', '.join(f'{number} {name}' for name, number in signals.items())}")
    for place, number in sorted(hits.items()):
        print(f"  {number:3} {place}")
    print(f"{num_values:,} values compared, {len(different):,} differ", *different[:20], sep="\n  ")
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
        help="share of the kills that are by SIGINT, SIGTERM or SIGHUP (default: 0.2)",
    )
    parser.add_argument("--seed", type=console.number(int, 0, 2**31 - 1), default=0, metavar="N", help="(default: 0)")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and theirs, ignore it
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    equal = False
    try:
        equal = soak(folder, given.kills, given.signals, given.seed)
    except SoakError as error:
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
