"""Measures how fast DQNs train on Breakout: this repository's and its peers', side by side on this machine.

    python benchmarks/throughput.py                                      everything, about a quarter of an hour
    python benchmarks/throughput.py --peers sb3 ours_8envs --rounds 5    only these
    python benchmarks/throughput.py --json throughput.json               keep every single measurement, too

Each peer gets a virtual environment of its own in benchmarks/.venvs (the first time, 4 GB in all). Then all of them run
in turn, each in a fresh process, as many times as there are rounds. Linux or macOS, and nothing else running: Torch
slows down twentyfold when it has to share its cores.
"""

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
from keras_h5 import files
from tools import virtual_environment

FOLDER = Path(__file__).resolve().parent
ENVIRONMENTS = FOLDER / ".venvs"
# The name of a peer: its script, the requirements file of its environment (none: this Python's), its arguments.
PEERS: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "keras_rl2": ("keras_rl2.py", "keras_rl2.txt", ()),
    "sb3": ("sb3.py", "sb3.txt", ()),
    "sb3_8envs": ("sb3.py", "sb3.txt", ("--environments", "8")),
    "cleanrl": ("cleanrl.py", "cleanrl.txt", ()),
    "ours_stock": ("ours.py", None, ("--preset", "keras-rl")),
    "ours_8envs": ("ours.py", None, ("--environments", "8")),
    "ours_8envs_jax": ("ours.py", None, ("--environments", "8")),
    "default_0workers": ("ours.py", None, ("--workers", "0")),
    "default_1worker": ("ours.py", None, ("--workers", "1")),
    "default_2workers": ("ours.py", None, ("--workers", "2")),
}
SETTINGS = {"ours_8envs_jax": ("env", "KERAS_BACKEND=jax")}  # put before the command
USUAL = [name for name in PEERS if name not in SETTINGS or importlib.util.find_spec("jax")]
REFERENCE = "ours_8envs"
# These replay two transitions per agent step instead of eight, so they are compared with each other alone.
REFERENCE_OF_DEFAULTS = "default_0workers"
ROOFLINE = "roofline"  # measured in every round, like a peer
SUSPECT_CORES = 0.1  # used by other programs during a measurement

Result = dict[str, Any]


class PeerError(RuntimeError):
    """A peer could not be installed or did not run to its end."""


def main() -> int:
    """Installs, measures, prints."""
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=USUAL, metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=console.number(int, 1, 1_000), default=3, metavar="N", help="(default: 3)")
    parser.add_argument(
        "--steps",
        type=console.number(int, 100),
        default=2_500,
        metavar="N",
        help="agent steps of a measurement, after a warm-up of 1,500 (default: 2,500)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements into this file")
    given = parser.parse_args()
    if given.json and not given.json.resolve().parent.is_dir():
        raise console.UsageError(f"--json is {given.json}, but there is no folder {given.json.parent}; make it first.")
    commands = {ROOFLINE: [sys.executable, str(FOLDER / "roofline.py")]}
    for name in dict.fromkeys(given.peers):
        script, requirements, arguments = PEERS[name]
        python = environment(FOLDER / "peers" / requirements) if requirements else sys.executable
        command = [str(python), str(FOLDER / "peers" / script), *arguments, "--steps", str(given.steps)]
        commands[name] = [*SETTINGS.get(name, ()), *command]
    results = measure(commands, given.rounds)
    print("\n" + table(results))
    if given.json:
        report = json.dumps({"cpus": len(usable_cores()), "results": results}, indent=2) + "\n"
        files.write(given.json, report.encode())
    return console.DONE


def environment(requirements: Path) -> Path:
    """The Python of a virtual environment that holds these requirements, made if need be: whole or not at all."""
    print(f"{requirements.stem}: if it is not installed yet, this takes some minutes ...", file=sys.stderr)
    try:
        return virtual_environment.make(ENVIRONMENTS / requirements.stem, requirements.read_text())
    except subprocess.CalledProcessError as error:
        raise PeerError(f"{requirements} cannot be installed:\n{error.stderr[-2_000:].strip()}") from error


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[Result]]:
    """Runs the commands in turn, `rounds` times, and says on standard error how far it is."""
    results: dict[str, list[Result]] = {name: [] for name in commands}
    took: dict[str, float] = {}  # seconds of a whole process, by name
    runs = [(number, name) for number in range(1, rounds + 1) for name in commands]
    for index, (number, name) in enumerate(runs):
        print(f"Round {number} of {rounds}: {name}", end=" ... ", file=sys.stderr, flush=True)
        started, others_started = time.monotonic(), seconds_of_other_programs()
        result = json.loads(run(commands[name]).splitlines()[-1])
        took[name] = time.monotonic() - started
        others = (seconds_of_other_programs() - others_started) / took[name]
        results[name].append({**result, "cores_used_by_others": others})
        # A name that has not run yet is expected to take as long as those that have.
        left = sum(took.get(later, statistics.mean(took.values())) for _, later in runs[index + 1 :])
        speed = f"{result['steps'] / result['seconds']:.1f} steps/s, " if "seconds" in result else ""
        suspect = f" (Other programs used {others:.1f} cores: measure again!)" if others > SUSPECT_CORES else ""
        print(f"{speed}about {left / 60:.0f} min left{suspect}", file=sys.stderr)
    return results


def seconds_of_other_programs() -> float:
    """CPU time that the cores this process may use have spent on anything but the commands run so far."""
    every_core, commands = psutil.cpu_times(percpu=True), resource.getrusage(resource.RUSAGE_CHILDREN)
    everything = sum(every_core[core].user + every_core[core].system for core in usable_cores())
    return everything - commands.ru_utime - commands.ru_stime


def usable_cores() -> list[int]:
    """The numbers of the cores that this process and its commands may use: `taskset -c 0` leaves one."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def run(command: list[str]) -> str:
    """What a command prints, without a GPU in its sight."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    if done.returncode:
        raise PeerError(f"{' '.join(command)} failed:\n{done.stderr[-2_000:].strip()}")
    return done.stdout


def table(results: dict[str, list[Result]]) -> str:
    """The results in Markdown: of each peer the median speed, and its largest memory."""
    roofline = results[ROOFLINE]
    peak = {name: max(r["flops_per_second"][name] for r in roofline) for name in roofline[0]["flops_per_second"]}
    flops = roofline[0]["flops_per_step"]
    speeds = {n: [r["steps"] / r["seconds"] for r in rs] for n, rs in results.items() if n != ROOFLINE}
    lines = [
        "| trained by | steps/s | lowest to highest | the reference is | peak memory | of the roofline |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in speeds.items():
        speed = statistics.median(values)
        is_default = name.startswith("default")
        reference = REFERENCE_OF_DEFAULTS if is_default else REFERENCE
        ratio = f"{statistics.median(speeds[reference]) / speed:.2f}x" if reference in speeds else "-"
        memory = max(r["peak_rss_bytes"] for r in results[name]) / 1e9
        precision = results[name][0]["settings"]["precision"]
        share = "-" if is_default else f"{100 * speed * flops / peak[precision]:.0f}% of {precision}"
        lines.append(
            f"| {name} | {speed:.1f} | {min(values):.1f} to {max(values):.1f} | {ratio} | {memory:.2f} GB | {share} |"
        )
    rates = " and ".join(f"{rate / 1e9:,.0f} GFLOP/s in {name}" for name, rate in peak.items())
    others = max(r["cores_used_by_others"] for rs in results.values() for r in rs)
    suspect = f" Other programs used up to {others:.1f} cores meanwhile." if others > SUSPECT_CORES else ""
    shares = "".join("\n" + update_share(name, results[name]) for name in speeds if name.startswith("ours"))
    return "\n".join(lines) + (
        f"\n\nThe reference is {REFERENCE}, of the defaults {REFERENCE_OF_DEFAULTS}."
        f"\n{shares}\n\nThe roofline: this machine multiplies matrices at {rates}; "
        f"an agent step takes {flops / 1e6:,.0f} million floating-point operations.{suspect}"
    )


def update_share(name: str, results: list[Result]) -> str:
    """How much of a training step the update takes, and how much of the update the drawing of its batch."""
    update, sample = (
        statistics.median(r["settings"][key] for r in results) for key in ("update_seconds", "sample_seconds")
    )
    interval = statistics.median(r["settings"]["train_interval"] * r["seconds"] / r["steps"] for r in results)
    return (
        f"{name}: an update alone takes {1e3 * update:.1f} ms, {100 * update / interval:.0f}% of the time from one to "
        f"the next; drawing its batch takes {1e3 * sample:.2f} ms, {100 * sample / update:.1f}% of the update's time."
    )


if __name__ == "__main__":
    console.run(main, PeerError, files.FileError)
