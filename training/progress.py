"""The display of a training: a live panel in a terminal, plain lines in a log."""

import math
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.monitor import Snapshot


class ProgressDisplay:
    """Shows the snapshots of a `TrainingMonitor`. Use as a context manager around the training.

    In a terminal the numbers stay in place. Elsewhere (a file, a pipe) a line is printed every
    `seconds_between_lines` and at the end.
    """

    def __init__(self, total_steps: int, console: Console, seconds_between_lines: float = 30.0) -> None:
        self.total_steps = total_steps
        self.console = console
        self.seconds_between_lines = seconds_between_lines
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._last_line = -math.inf
        self._speed = math.nan

    def __enter__(self) -> "ProgressDisplay":
        if self._live:
            self._live.start()
            self._live.update(Text("Starting ..."), refresh=True)
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        # The speed changes when updates begin and when the machine does other work: follow it, but smoothly.
        speed = snapshot.steps_per_second
        learning = not math.isnan(snapshot.loss)
        self._speed = 0.9 * self._speed + 0.1 * speed if learning and not math.isnan(self._speed) else speed
        left = (self.total_steps - snapshot.step) / self._speed
        eta = duration(left) if learning or not left else "known once learning begins"
        now = time.monotonic()
        if self._live:
            self._live.update(self._panel(snapshot, eta), refresh=True)
        elif now - self._last_line >= self.seconds_between_lines or snapshot.step == self.total_steps:
            self._last_line = now
            self.console.print(self._line(snapshot, eta), soft_wrap=True, highlight=False)

    def _panel(self, s: Snapshot, eta: str) -> Group:
        rows = Table.grid(padding=(0, 2))
        for _ in range(3):
            rows.add_column(style="dim")
            rows.add_column(min_width=14)
        rows.add_row(
            "score",
            f"{number(s.score)} last 100",
            "best game",
            number(s.best_score),
            "evaluation",
            number(s.evaluation),
        )
        rows.add_row("loss", number(s.loss, 4), "mean Q", number(s.mean_q, 3), "epsilon", number(s.epsilon, 3))
        rows.add_row("speed", f"{self._speed:,.0f} steps/s", "elapsed", duration(s.seconds), "left", eta)
        head = Table.grid(padding=(0, 1))
        percent = f"{100 * s.step / self.total_steps:5.1f}%"
        bar = ProgressBar(total=self.total_steps, completed=s.step, width=30)
        head.add_row(bar, percent, f"{s.step:,} of {self.total_steps:,} agent steps")
        return Group(head, rows)

    def _line(self, s: Snapshot, eta: str) -> str:
        return (
            f"{s.step:>{len(f'{self.total_steps:,}')},}/{self.total_steps:,} {100 * s.step / self.total_steps:5.1f}%"
            f"  score {number(s.score)} (best {number(s.best_score)}, {s.episodes:,} games)"
            f"  evaluation {number(s.evaluation)}"
            f"  epsilon {number(s.epsilon, 3)}  loss {number(s.loss, 4)}  mean Q {number(s.mean_q, 3)}"
            f"  {self._speed:,.0f} steps/s  left {eta}"
        )


def number(value: float, digits: int = 1) -> str:
    """`value` with `digits` decimals, or a dash where it is not known."""
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 7 min, 3 h 05 min."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
