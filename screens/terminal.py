"""A terminal with colours as a screen: half-block characters, two pixels in each."""

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence

import blessed
import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from screens.panel import CHOSEN, OTHERS, Scene
from screens.picture import draw
from screens.status import ResizableLive
from screens.viewer import Viewer

COLUMNS_OF_PANEL = 26
BAR_COLUMNS = 8
SMALLEST = (48, 16)  # columns, rows
NAMES = {"KEY_UP": "up", "KEY_DOWN": "down", "KEY_ESCAPE": "escape", " ": "space"}


class NoTerminalError(ValueError):
    """The game cannot be shown in this terminal; the message is a sentence that says what to do."""


class Terminal(Viewer):
    """A viewer in the terminal, which keeps what is printed meanwhile above the picture.

    Args:
        console: where to; 16 colours will do, 16 million are better.

    Raises:
        NoTerminalError: it is no terminal, has no colours or is too small.
    """

    frames_per_picture = 2

    def __init__(self, console: Console) -> None:
        super().__init__()
        if not console.is_terminal or console.color_system is None:
            raise NoTerminalError("--terminal needs a terminal with colours; record the games with --record instead.")
        try:
            "▀█▶".encode(console.encoding)
        except UnicodeEncodeError:
            raise NoTerminalError(
                f"--terminal draws with block characters, which this terminal's {console.encoding} does not have; "
                "set it to UTF-8, or record the games with --record instead."
            ) from None
        if console.width < SMALLEST[0] or console.height < SMALLEST[1]:
            raise NoTerminalError(
                f"This terminal has {console.width} columns and {console.height} rows; --terminal needs at least "
                f"{SMALLEST[0]} and {SMALLEST[1]}: make it larger, or its text smaller."
            )
        self._console = console
        self._title = ""
        self._drawn: object = None
        self._closing = contextlib.ExitStack()
        self._keyboard = blessed.Terminal()
        if sys.stdin.isatty():
            self._closing.enter_context(self._keyboard.cbreak())
        self._live = self._closing.enter_context(ResizableLive(console=console, auto_refresh=False))

    def draw(self, screens: Sequence[np.ndarray], scene: Scene) -> Table:
        """What `show` takes: the game, and beside it what the network expects, if there is room for that."""
        columns, rows = self._console.width, self._console.height - 3  # the title, a line above, the cursor's
        beside = columns - COLUMNS_OF_PANEL >= SMALLEST[0] // 2 and rows >= len(scene.action_names) + 6
        game = draw(screens, saliency=scene.saliency)
        scale = min((columns - COLUMNS_OF_PANEL * beside) / game.width, 2 * rows / game.height)
        pixels = game.resize((int(scale * game.width), 2 * int(scale * game.height / 2)), Image.Resampling.BOX)
        table = Table.grid(padding=(0, 2))
        table.add_row(HalfBlocks(np.asarray(pixels)), *([_panel(scene)] if beside else []))
        return table

    def set_title(self, title: str) -> None:
        """Changes the line above the picture, which is drawn with the next one."""
        self._title = title

    def close(self) -> None:
        """Leaves the last picture, and gives the keyboard back."""
        self.closed = True
        self._closing.close()

    def _keys(self) -> Iterator[str]:
        while sys.stdin.isatty() and (key := self._keyboard.inkey(timeout=0)):
            yield NAMES.get(key.name or str(key), str(key).lower())

    def _draw(self) -> None:
        if self._drawn != (drawn := (id(self._picture), self._title)) and self._picture is not None:
            self._drawn = drawn
            title = Text(self._title, "bold", no_wrap=True, overflow="ellipsis")
            self._live.update(Group(title, self._picture), refresh=True)


class HalfBlocks:
    """A picture as Rich prints it, each character the upper of two pixels on the lower one.

    Args:
        pixels: uint8 (an even number, width, 3), RGB.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.pixels.shape[1], self.pixels.shape[1])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for cells in np.concatenate([self.pixels[::2], self.pixels[1::2]], axis=-1):  # (width, 6)
            # Only where the colours change a new one is sent: a tenth of the bytes, which matters over SSH.
            starts = np.flatnonzero((np.diff(cells, axis=0, prepend=~cells[:1]) != 0).any(axis=-1))
            for start, length in zip(starts, np.diff(starts, append=len(cells)), strict=True):
                yield Segment("▀" * length, _style(*cells[start].tolist()))
            yield Segment.line()


@functools.lru_cache(maxsize=65_536)
def _style(red: int, green: int, blue: int, red_below: int, green_below: int, blue_below: int) -> Style:
    return Style(color=Color.from_rgb(red, green, blue), bgcolor=Color.from_rgb(red_below, green_below, blue_below))


def _panel(scene: Scene) -> Group:
    numbers = Table.grid(padding=(0, 1))
    lives = "-" if scene.lives is None else str(scene.lives)
    for label, value in (("score", f"{scene.score:,.0f}"), ("lives", lives), ("agent steps", f"{scene.num_steps:,}")):
        numbers.add_row(Text(label, "dim"), Text(value, "bold"))
    rows = Table.grid(padding=(0, 1))
    for number, (name, q_value) in enumerate(zip(scene.action_names, scene.q_values, strict=False)):
        chosen = number == scene.action
        length = round(BAR_COLUMNS * scene.leads[number] / scene.whole_bar)
        rows.add_row(
            "▶" if chosen else " ", Text(name[:7]), f"{q_value:6.2f}", Text("█" * length, CHOSEN if chosen else OTHERS)
        )
    legend = [Text("green: what matters most", "dim")] if scene.saliency is not None else []
    return Group(numbers, "", Text("Q-values, lead over worst", "dim"), rows, *legend)
