"""How far the trials of a sweep are: read from their folders, shown as a table in a terminal and as lines elsewhere."""

import collections
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import console
from reports.learning_curve import numbers
from screens.status import Status
from sweeping.attempt import EVALUATING, TRAINING, attempts
from sweeping.plan import Trial, evaluated_scores

SECONDS_BETWEEN_LINES = 60.0
WAITING, DONE, FAILED = "waiting", "done", "failed"
TAIL_BYTES = 2_000  # of a metrics.csv: more than a line
COLOURS = {DONE: "green", FAILED: "red", WAITING: "dim"}


@dataclass
class Standing:
    """Where a trial stands."""

    trial: Trial
    state: str = WAITING  # or training, evaluating, done, failed
    token: str = ""  # of the attempt that is under way, if one is
    tries: int = 0  # attempts that failed since the last that came further
    words: str = ""  # why the last attempt failed
    node: str = ""
    step: int = 0  # agent steps
    score: float = math.nan  # mean of the last 100 games in training; of the evaluation once it is done
    speed: float = 0.0  # agent steps a second

    def refresh(self) -> None:
        """Reads what the trial's folder says."""
        if self.state == DONE:
            return
        row = last_row(self.trial.folder / "metrics.csv")
        self.step, self.score = int(row.get("step", 0)), row.get("score", math.nan)
        self.speed, last = 0.0, (attempts(self.trial.folder) or [{}])[-1]
        if self.state == FAILED:
            return
        is_under_way = self.token and last.get("token") == self.token and last.get("phase") in (TRAINING, EVALUATING)
        self.state = str(last["phase"]) if is_under_way else WAITING
        self.node = str(last.get("host", "")) if is_under_way else ""
        if self.state == TRAINING:
            self.speed = row.get("steps_per_second", 0.0)

    def finish(self) -> None:
        """Takes down that all is done."""
        self.refresh()
        scores = evaluated_scores(self.trial.evaluation) or []
        self.state, self.node, self.step, self.speed = DONE, "", self.trial.config.steps, 0.0
        self.score = sum(scores) / len(scores) if scores else math.nan

    def fail(self, words: str) -> None:
        """Takes down that it has failed for good."""
        self.state, self.node, self.speed, self.words = FAILED, "", 0.0, words


def last_row(metrics: Path) -> dict[str, float]:
    """The last whole line of a metrics.csv, by the names in its first; nothing if there is none yet."""
    try:
        with open(metrics, "rb") as file:
            names = file.readline().decode(errors="replace").strip().split(",")
            start = file.tell()
            file.seek(max(start, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return {}
    for line in reversed(lines[:-1]):
        if len(row := numbers(line)) == len(names):
            return dict(zip(names, row, strict=True))
    return {}


class SweepDisplay:
    """Shows the standings. Use as a context manager around the sweep.

    In a terminal a table stays in place, with as many rows as there is room for: what is under way and what has failed
    come first. Elsewhere a few lines are printed every minute.
    """

    def __init__(self, screen: Console, standings: Sequence[Standing]) -> None:
        self.screen, self.standings = screen, standings
        self._status = Status(screen, SECONDS_BETWEEN_LINES)
        self._started = time.monotonic()
        self.note = ""  # what is going on besides

    def __enter__(self) -> "SweepDisplay":
        self._status.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._status.__exit__(*exception)

    def update(self, at_once: bool = False) -> None:
        """Shows them as they are now."""
        self._status.update(self._lines(), self._panel, at_once)

    def say(self, text: str) -> None:
        """Prints a sentence above the table."""
        console.say(self.screen, text)

    def _summary(self) -> str:
        numbers_of = collections.Counter(s.state for s in self.standings)
        running = numbers_of[TRAINING] + numbers_of[EVALUATING]
        words = [f"{numbers_of[DONE]} of {console.counted(len(self.standings), 'trial')} done", f"{running} running"]
        for state in (WAITING, FAILED):
            if numbers_of[state]:
                words.append(f"{numbers_of[state]} {state}")
        if speed := sum(s.speed for s in self.standings):
            left = sum(s.trial.config.steps - s.step for s in self.standings if s.state not in (DONE, FAILED))
            words += [f"{speed:,.0f} steps/s", f"{console.duration(left / speed)} left"]
        return ", ".join([*words, *([self.note] if self.note else [])])

    def _lines(self) -> str:
        under_way = [s for s in self.standings if s.state in (TRAINING, EVALUATING)]
        return "\n".join([self._summary(), *(f"  {'  '.join(_cells(s))}" for s in under_way)])

    def _panel(self) -> Group:
        total = sum(s.trial.config.steps for s in self.standings)
        bar = Table.grid()  # or the next line would go on behind it
        bar.add_row(ProgressBar(total, sum(s.step for s in self.standings), width=min(40, self.screen.width)))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("trial", "node", "step", "", "score", "speed", "state"):
            table.add_column(name, no_wrap=True, justify="right" if name in ("step", "", "score", "speed") else "left")
        order = (FAILED, EVALUATING, TRAINING, WAITING, DONE)
        rows = sorted(self.standings, key=lambda s: order.index(s.state))  # stable: else as planned
        room = max(1, self.screen.height - 5)
        for standing in rows[: room if len(rows) <= room else room - 1]:
            table.add_row(*_cells(standing), style=COLOURS.get(standing.state, ""))
        hidden = len(rows) - table.row_count
        more = [Text(f"and {hidden} more, waiting or done", style="dim")] if hidden else []
        return Group(Text(self._summary()), bar, table, *more)


def _cells(s: Standing) -> list[str]:
    score = "-" if math.isnan(s.score) else f"{s.score:,.1f}"
    speed = f"{s.speed:,.0f} steps/s" if s.speed else "-"
    share = f"{100 * s.step / s.trial.config.steps:.0f}%"
    return [s.trial.name, s.node or "-", f"{s.step:,}", share, score, speed, s.state]
