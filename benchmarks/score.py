"""Measures what a training is worth: the score of its policy, for this repository and its peers, on this machine.

    python benchmarks/score.py                            the whole table, about eight hours
    python benchmarks/score.py --rows ours_10 sb3_60      only these
    python benchmarks/score.py --json score.json          keep every score, and go on with what is missing there
    taskset -c 0 python benchmarks/score.py ...           on one core; another may measure on the other one meanwhile

Every row is a training from nothing, for so many minutes or steps, and then 100 full games of Breakout that its policy
plays with epsilon 0.05 and without sticky actions. PPO and A2C draw their actions from their own probabilities instead.
Nothing else must be running on its cores.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from throughput import (
    FOLDER,
    PEERS,
    SUSPECT_CORES,
    PeerError,
    environment,
    run,
    seconds_of_other_programs,
    usable_cores,
)

import console
from evaluation.statistics import summary
from keras_h5 import files

REPOSITORY = FOLDER.parent
NUM_GAMES = 100
# Those whose speed is compared, and two that replay nothing. PPO is measured over whole rollouts of 8 x 128 steps.
RIVALS = PEERS | {
    "sb3_ppo": ("sb3.py", "sb3.txt", ("--algorithm", "ppo", "--steps", "4096")),
    "sb3_a2c": ("sb3.py", "sb3.txt", ("--algorithm", "a2c", "--steps", "4000")),
}


@dataclass(frozen=True)
class Row:
    """A training: of this repository with these options, or of a peer."""

    what: str
    seed: int
    minutes: float = 0.0  # 0: as long as it takes
    options: tuple[str, ...] = ()
    peer: str | None = None  # a name in RIVALS

    @property
    def expected_minutes(self) -> float:
        return (self.minutes or 60) + 5


ROWS = {
    "ours_10": Row("this repository", 1, 10),
    "ours_30": Row("this repository", 1, 30),
    "ours_30_again": Row("this repository", 2, 30),
    "ours_60": Row("this repository", 1, 60),
    "ours_1m": Row(
        "this repository, 1,000,000 steps, twice the updates",
        1,
        options=(
            *("--steps", "1000000", "--learning-rate", "5e-4"),
            *("--num-environments", "16", "--train-interval", "16", "--target-update-steps", "2000"),
        ),
    ),
    "sb3_60": Row("Stable-Baselines3's DQN, Zoo's settings", 1, 60, peer="sb3"),
    "sb3_ppo_60": Row("Stable-Baselines3's PPO, Zoo's settings", 1, 60, peer="sb3_ppo"),
    "sb3_a2c_60": Row("Stable-Baselines3's A2C, Zoo's settings", 1, 60, peer="sb3_a2c"),
    "keras_rl2_60": Row("keras-rl2, its example's settings", 1, 60, peer="keras_rl2"),
}


def main() -> int:
    """Trains, plays, prints."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results in this file")
    given = parser.parse_args()
    if given.json and not given.json.resolve().parent.is_dir():
        raise console.UsageError(f"--json is {given.json}, but there is no folder {given.json.parent}; make it first.")
    results = _kept_in(given.json)
    missing = [name for name in dict.fromkeys(given.rows) if name not in results]
    for index, name in enumerate(missing):
        left = sum(ROWS[later].expected_minutes for later in missing[index:])
        print(f"{name}, about {left / 60:.1f} hours left in all ...", file=sys.stderr, flush=True)
        started, others_started = time.monotonic(), seconds_of_other_programs()
        results[name] = score_peer(ROWS[name]) if ROWS[name].peer else score_ours(ROWS[name])
        others = (seconds_of_other_programs() - others_started) / (time.monotonic() - started)
        results[name] |= {"cores": len(usable_cores()), "cores_used_by_others": others}
        if given.json:
            results = {**_kept_in(given.json), name: results[name]}  # with what was measured on other cores meanwhile
            files.write(given.json, (json.dumps(results, indent=2) + "\n").encode())
    print(table({name: results[name] for name in given.rows}))
    return console.DONE


def _kept_in(path: Path | None) -> dict[str, Any]:
    return json.loads(path.read_text()) if path and path.exists() else {}


def score_ours(row: Row) -> dict[str, Any]:
    """Trains and judges by this repository's own commands."""
    minutes = ("--minutes", str(row.minutes)) if row.minutes else ()
    with tempfile.TemporaryDirectory() as folder:
        policy, scores = Path(folder, "policy.h5"), Path(folder, "scores.json")
        train = [sys.executable, str(REPOSITORY / "train.py"), "--out", str(policy), "--seed", str(row.seed)]
        started = time.monotonic()
        run_in(folder, [*train, *minutes, *row.options])
        seconds = time.monotonic() - started
        judge = [sys.executable, str(REPOSITORY / "evaluate.py"), "--policy", str(policy), "--json", str(scores)]
        run_in(folder, [*judge, "--episodes", str(NUM_GAMES)])
        judged = json.loads(scores.read_text())
        steps = judged["policy_facts"]["steps_of_training"]
        return {"scores": judged["scores"], "steps": steps, "seconds": seconds, "versions": judged["versions"]}


def score_peer(row: Row) -> dict[str, Any]:
    """Measures how many steps a peer makes in the time, for its schedules; then trains and judges it."""
    script, requirements, arguments = RIVALS[str(row.peer)]
    python = str(environment(FOLDER / "peers" / str(requirements)))
    command = [python, str(FOLDER / "peers" / script), *arguments]
    trial = json.loads(run(command).splitlines()[-1])
    seconds = 60 * row.minutes
    steps = int(seconds * trial["steps"] / trial["seconds"])
    words = ["--train", steps, "--seconds", seconds, "--seed", row.seed, "--games", NUM_GAMES]
    return json.loads(run([*command, *map(str, words)]).splitlines()[-1])


def run_in(folder: str, command: list[str]) -> None:
    """Runs a command, whose words go to standard error."""
    done = subprocess.run(command, cwd=folder, stdout=sys.stderr, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    if done.returncode:
        raise PeerError(f"{' '.join(command)} failed with status {done.returncode}.")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| trained by | seed | cores | minutes | steps | mean | 95% interval | median | best game |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        low, high = summary(result["scores"], "breakout")["mean_interval_95"]
        lines.append(
            f"| {ROWS[name].what} | {ROWS[name].seed} | {result['cores']} | {result['seconds'] / 60:.0f} | "
            f"{result['steps']:,} | "
            f"{statistics.fmean(result['scores']):.1f} | {low:.1f} to {high:.1f} | "
            f"{statistics.median(result['scores']):g} | {max(result['scores']):g} |"
        )
        if result["cores_used_by_others"] > SUSPECT_CORES:
            lines[-1] += f" Other programs used {result['cores_used_by_others']:.1f} cores: measure again!"
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the training that runs is ended as well
    console.run(main, PeerError, files.FileError)
