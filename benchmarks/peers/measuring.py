"""What the peers of the benchmark share: their common terms, the clock, and the one line that each prints."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

WARMUP_STEPS = 1_000  # agent steps before a peer's first update
SCORED_WARMUP_STEPS = 10_000  # the same where it is to learn something
TEST_EPSILON = 0.05  # share of random actions in the games that count
SETTLING_STEPS = 500  # agent steps with updates before the clock starts: by then everything is compiled


class Stopwatch:
    """Times a training from `WARMUP_STEPS` + `SETTLING_STEPS` on, for `steps` agent steps."""

    def __init__(self, steps: int) -> None:
        self.first_step = WARMUP_STEPS + SETTLING_STEPS
        self.total_steps = self.first_step + steps  # what the training has to run
        self.steps = 0  # measured
        self.seconds = 0.0
        self._step = 0
        self._started: tuple[int, float] | None = None

    def tick(self, num_steps: int = 1) -> None:
        """To be called whenever `num_steps` more agent steps have been taken and learned from."""
        self._step += num_steps
        now = time.perf_counter()
        if self._started is None:
            if self._step >= self.first_step:
                self._started = self._step, now
        elif self._step <= self.total_steps:
            self.steps, self.seconds = self._step - self._started[0], now - self._started[1]


def parser(description: str) -> argparse.ArgumentParser:
    """The command line of a peer: `--steps`, or `--train` and what goes with it, to which it may add."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=2_000, help="agent steps to measure")
    parser.add_argument("--train", type=int, metavar="STEPS", help="instead: train, then play full games")
    parser.add_argument("--seconds", type=float, help="with --train: the longest that it may take")
    parser.add_argument("--seed", type=int, default=0, help="with --train")
    parser.add_argument("--games", type=int, default=100, help="with --train")
    return parser


def report(stopwatch: Stopwatch, packages: tuple[str, ...], settings: Mapping[str, Any]) -> None:
    """Prints what was measured as a line of JSON."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    result = {
        "steps": stopwatch.steps,
        "seconds": stopwatch.seconds,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "versions": {name: version(name) for name in packages},
        "settings": dict(settings),
    }
    print(json.dumps(result))


def report_scores(scores: Sequence[float], steps: int, seconds: float, packages: tuple[str, ...]) -> None:
    """Prints what a policy scored that was trained for so long, as a line of JSON."""
    versions = {name: version(name) for name in packages}
    print(json.dumps({"scores": list(map(float, scores)), "steps": steps, "seconds": seconds, "versions": versions}))
