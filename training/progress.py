"""The display of a training: a live panel in a terminal, one line in a notebook, plain lines in a log."""

import math
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console import duration
from screens.status import Status
from training.monitor import Snapshot

ITEM_COLUMNS = 27  # of a name and its number
MOST_ROWS = {1: 5, 2: 4, 3: 3}  # of the panel's numbers, by how many stand side by side
UNKNOWN = "not known yet"


class ProgressDisplay:
    """Shows the snapshots of a `TrainingMonitor`. Use as a context manager around the training.

    In a terminal the numbers stay in place, and a small one shows those that matter most. Elsewhere (a file, a pipe, a
    dumb terminal) a line is printed every `seconds_between_lines` and at the end.
    """

    def __init__(self, total_steps: int, console: Console, seconds_between_lines: float = 30.0) -> None:
        self.total_steps = total_steps
        self.console = console
        self._status = Status(console, seconds_between_lines)
        self._speed = math.nan
        self._learning = False
        self._shown: Callable[[], RenderableType] = lambda: Text("Starting ...")

    def __enter__(self) -> "ProgressDisplay":
        self._status.__enter__()
        if self.console.is_terminal:
            self._status.update("Starting ...", self._shown)
        return self

    def __exit__(self, *exception) -> None:
        self._status.__exit__(*exception)

    def __call__(self, snapshot: Snapshot) -> None:
        # The speed changes when updates begin and when the machine does other work: follow it, but smoothly. Where a
        # training is stopped, the last interval may hold a few steps and half an evaluation: it says nothing.
        speed, has_update = snapshot.steps_per_second, not math.isnan(snapshot.loss)
        if not self._learning:
            self._speed, self._learning = speed, has_update
        elif has_update:
            self._speed = 0.9 * self._speed + 0.1 * speed
        left = (self.total_steps - snapshot.step) / self._speed
        eta = duration(left) if self._learning or not left else UNKNOWN
        at_end = snapshot.step == self.total_steps
        self._shown = lambda: self._panel(snapshot, eta)
        self._status.update(self._line(snapshot, eta), self._shown, at_once=at_end)

    def say_meanwhile(self, line: str) -> None:
        """Says, below the numbers that stand still, what takes its time: an evaluation."""
        self._status.update(line, lambda: Group(self._shown(), Text(line, no_wrap=True, overflow="ellipsis")))

    def _panel(self, s: Snapshot, eta: str) -> Group:
        """The numbers, as many as the terminal has room for, those that matter most first."""
        items = {
            "score": _with_games(s),
            "evaluation": number(s.evaluation),
            "left": eta,
            "epsilon": number(s.epsilon, 3),
            "speed": f"{self._speed:,.0f} steps/s",
            "best game": number(s.best_score),
            "elapsed": duration(s.seconds),
            "loss": number(s.loss, 4),
            "mean Q": number(s.mean_q, 3),
        }
        width = self.console.width
        side_by_side = min(max(1, width // ITEM_COLUMNS), 3) if width < 80 else 3
        rows = max(1, min(MOST_ROWS[side_by_side], self.console.height - 4))
        table = Table.grid(padding=(0, 2))
        for _ in range(side_by_side):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(min_width=min(14, width // side_by_side - 14), no_wrap=True)
        words = list(items.items())
        for row in range(rows):
            table.add_row(*(word for pair in words[row * side_by_side : (row + 1) * side_by_side] for word in pair))
        steps = f"{s.step:,} of {self.total_steps:,} agent steps"
        head = Table.grid(padding=(0, 1))
        beside = width >= 38 + len(steps) + 2
        bar = ProgressBar(total=self.total_steps, completed=s.step, width=30 if beside else max(4, width - 8))
        head.add_row(bar, f"{100 * s.step / self.total_steps:5.1f}%", *([steps] if beside else []))
        return Group(head, *([] if beside else [Text(steps, no_wrap=True, overflow="ellipsis")]), table)

    def _line(self, s: Snapshot, eta: str) -> str:
        return (
            f"{s.step:>{len(f'{self.total_steps:,}')},}/{self.total_steps:,} {100 * s.step / self.total_steps:5.1f}%"
            f"  score {number(s.score)} (best {number(s.best_score)}, {s.episodes:,} games)"
            f"  evaluation {number(s.evaluation)}"
            f"  epsilon {number(s.epsilon, 3)}  loss {number(s.loss, 4)}  mean Q {number(s.mean_q, 3)}"
            f"  {self._speed:,.0f} steps/s  left {eta}"
        )


def _with_games(s: Snapshot) -> str:
    return f"{number(s.score)}, last {min(s.episodes, 100)}" if s.episodes else "no game yet"


def number(value: float, digits: int = 1) -> str:
    """`value` with `digits` decimals, or a dash where it is not known."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"
