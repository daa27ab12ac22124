"""Trains games x seeds with one command, on one machine or a cluster, and compares what comes of it.

    python sweep.py --games pong breakout qbert --seeds 3 --steps 1000000 --out sweeps/first
    python sweep.py --games pong --seeds 5 --vary learning-rate 5e-4 1e-3 --out sweeps/rates
    python sweep.py --report sweeps/first        what is there so far: report.html, table.csv, curves.png

The same command again goes on where it stopped, whatever has ended it. Ctrl-C saves every training and ends. The
options of train.py are those of every training.

Exit status: 0 done, 1 a trial failed for good, 2 bad input, 130 stopped after saving.
"""

import argparse
import os
import sys
from pathlib import Path

import console
from config import MOST, add_options
from environments.atari import UnknownGameError
from keras_h5.files import FileError


def main() -> int:
    """Plans the trials, does what is left of them, and reports."""
    arguments = _parse_arguments()
    from sweeping.results import report  # here, and not above: --help should not take seconds

    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    screen = console.screen()
    if arguments.report:
        report(arguments.report, arguments.out, words, screen)
        return console.DONE
    from sweeping.cluster import Means, do_all
    from sweeping.plan import plan, sole_owner

    trials = plan(arguments)
    address = arguments.address or os.environ.get("RAY_ADDRESS")
    means = Means(address, arguments.cores, arguments.gpus, arguments.tries, arguments.checkpoint_steps)
    with sole_owner(arguments.out, words):
        status = do_all(trials, means, screen, console.command(*words))
        if any((trial.folder / "config.json").exists() for trial in trials):
            report([arguments.out], None, words, screen)
    return status


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__ or "")
    add, number = parser.add_argument, console.number
    add("--games", nargs="+", metavar="NAME", help="ALE games")
    add(
        "--seeds",
        type=number(int, 1, 10_000),
        default=3,
        metavar="N",
        help="trainings of each, from --seed on (default: 3)",
    )
    add("--out", type=Path, metavar="DIR", help="the sweep's folder; the same one again goes on with it")
    add(
        "--vary",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="an option of train.py, then the values to compare, such as learning-rate 5e-4 1e-3; can be "
        "given more than once",
    )
    add(
        "--report", nargs="+", type=Path, metavar="DIR", help="train nothing; report on these folders of runs or sweeps"
    )
    add(
        "--episodes",
        type=number(int, 1, 100_000),
        default=30,
        metavar="N",
        help="games that score a policy (default: 30)",
    )
    add(
        "--epsilon",
        type=number(float, 0, 1),
        default=0.05,
        metavar="X",
        help="share of random actions in them (default: 0.05, Mnih et al. 2015)",
    )
    add(
        "--address",
        metavar="HOST:PORT",
        help="of a Ray cluster, or auto (default: RAY_ADDRESS, else this machine alone)",
    )
    add("--cores", type=number(int, 1, 1_024), default=1, metavar="N", help="cores of each trial (default: 1)")
    add(
        "--gpus",
        type=number(float, 0, 64),
        default=0.0,
        metavar="X",
        help="GPUs of each trial, such as 0.25 (default: 0)",
    )
    add(
        "--tries",
        type=number(int, 1, 1_000),
        default=3,
        metavar="N",
        help="attempts at a trial that come no further before it is given up (default: 3)",
    )
    add(
        "--checkpoint-steps",
        type=number(int, 1, MOST),
        default=25_000,
        metavar="N",
        help="agent steps from one checkpoint to the next (default: 25,000)",
    )
    add_options(parser)
    arguments = parser.parse_args()
    if arguments.report:
        return arguments
    if arguments.game and not arguments.games:
        arguments.games = [arguments.game]
    if not arguments.games or arguments.out is None:
        raise console.UsageError(
            "A sweep needs --games and a folder, such as --games pong breakout --out sweeps/first."
        )
    return arguments


if __name__ == "__main__":
    console.run(main, FileError, UnknownGameError)
