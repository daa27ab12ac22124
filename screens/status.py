"""What is going on, kept up to date where a person waits for it."""

import math
import textwrap
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rich.console import Console, ConsoleRenderable, RenderableType
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

Self = TypeVar("Self", bound="Status")  # typing's own is of Python 3.11


class Status:
    """Shows how far something is. Use as a context manager around it.

    In a terminal it stays in place, below what is printed meanwhile, and in a notebook below the cell. A file, a pipe
    or a terminal that cannot move its cursor gets plain lines.

    Args:
        console: where to.
        seconds_between_lines: the least time from one plain line to the next.
        transient: whether it is worth nothing in the end: where it stays in place it goes, and a plain line is only
            printed once so much time has passed.
    """

    def __init__(self, console: Console, seconds_between_lines: float, transient: bool = False) -> None:
        self.console = console
        self.seconds_between_lines = seconds_between_lines
        self._transient = transient
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = ResizableLive(console=console, auto_refresh=False, transient=transient)
        self._cell: Any = None  # where the notebook shows it
        self._last_line = -math.inf

    def __enter__(self: Self) -> Self:
        if self._transient:
            self._last_line = time.monotonic()
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()
        if self._cell and self._transient:
            self._cell.update({"text/plain": ""}, raw=True)

    def update(self, line: str, panel: Callable[[], RenderableType] | None = None, at_once: bool = False) -> None:
        """Shows it as it is now.

        Args:
            line: in one line of plain text.
            panel: makes what a terminal shows in place of the line.
            at_once: whether the line is printed even if the last one was a moment ago.
        """
        if self._live:
            text = panel() if panel else Text(line, no_wrap=True, overflow="ellipsis")
            self._live.update(text, refresh=True)
        elif self.console.is_jupyter:
            self._update_cell(line)
        elif at_once or time.monotonic() - self._last_line >= self.seconds_between_lines:
            self._last_line = time.monotonic()
            self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _update_cell(self, line: str) -> None:
        from IPython.display import display

        data = {"text/plain": textwrap.fill(line, self.console.width)}
        if self._cell is None:
            self._cell = display(data, raw=True, display_id=True)
        else:
            self._cell.update(data, raw=True)


class ResizableLive(Live):
    """Rich's `Live` in a terminal whose width changes.

    A terminal that becomes narrower breaks the lines that no longer fit. What was drawn before then takes more rows
    than Live knows of, and their upper part would stay.
    """

    _drawn: RenderableType | None = None
    _drawn_width = 0

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What Live prints, with the rows erased first that it does not know of."""
        width = self.console.width
        erased = Control(*self._erase(self._rows_added_at(width))) if self._drawn else Control()
        self._drawn, self._drawn_width = self.get_renderable(), width
        return [erased, *super().process_renderables(renderables)]

    def _rows_added_at(self, width: int) -> int:
        if self._drawn is None or width >= self._drawn_width:
            return 0
        options = self.console.options.update(width=self._drawn_width)
        lines = self.console.render_lines(self._drawn, options, pad=False)
        return sum(max(0, math.ceil(sum(part.cell_length for part in line) / width) - 1) for line in lines)

    @staticmethod
    def _erase(rows: int) -> Iterable[ControlType | tuple[ControlType, int]]:
        """Moves the cursor up by so many rows, and leaves them empty."""
        for _ in range(rows):
            yield from ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))
