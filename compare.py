"""Compares trainings: their curves in one plot, their scores with intervals, and which settings are better.

    python compare.py runs/a runs/b              two runs of train.py
    python compare.py sweeps/first runs/mine     a sweep, and a run beside it

Runs that differ in their options are settings. Those that differ in the seed alone, or in what --precision auto and
--minutes decided (docs/cluster.md), are taken together. It writes report.html (one file with everything), table.csv and
curves.png.

Exit status: 0 done, 2 bad input.
"""

import argparse
import os
import sys
from pathlib import Path

import console
from keras_h5.files import FileError


def main() -> int:
    """Reads the runs and writes the report."""
    arguments = _parse_arguments()
    from sweeping.results import report  # here, and not above: --help should not take seconds

    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    report(arguments.folders, arguments.out, words, console.screen())
    return console.DONE


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__ or "")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of runs or of sweeps")
    parser.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="(default: comparison)")
    return parser.parse_args()


if __name__ == "__main__":
    console.run(main, FileError)
