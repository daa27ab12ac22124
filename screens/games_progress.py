"""How far several games are, of which nobody knows how long they will last."""

import statistics
import time

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from console import duration
from screens.status import Status

SECONDS_BETWEEN_UPDATES, SECONDS_BETWEEN_LINES = 0.2, 30.0
BAR_COLUMNS = 24
NEARLY = 0.95  # the most of a game that counts as played before it is over


class GamesProgress(Status):
    """A bar that moves with every step of the games, and says what they have scored so far.

    Args:
        console: where to.
        num_games: that will be played.
    """

    def __init__(self, console: Console, num_games: int) -> None:
        super().__init__(console, SECONDS_BETWEEN_LINES, transient=True)
        self.num_games = num_games
        self.scores: list[float] = []
        self._lengths: list[int] = []  # of the games that are over, in agent steps
        self._playing: dict[int, int] = {}  # agent steps so far of the others
        self._started = time.monotonic()
        self._told = self._share = 0.0

    def step(self, game: int) -> None:
        """A game has gone on by one agent step."""
        self._playing[game] = self._playing.get(game, 0) + 1
        self._tell()

    def end_game(self, game: int, score: float) -> None:
        """A game is over."""
        self._lengths.append(self._playing.pop(game))
        self.scores.append(score)
        self._tell()

    @property
    def share(self) -> float | None:
        """Of the games that has been played, as if all were as long as those that are over; None if none is."""
        if not self._lengths:
            return None
        length = statistics.fmean(self._lengths)
        parts = [min(NEARLY, steps / length) for steps in self._playing.values()]
        self._share = max(self._share, (len(self._lengths) + sum(parts)) / self.num_games)  # never backwards
        return self._share

    def _tell(self) -> None:
        if time.monotonic() - self._told >= SECONDS_BETWEEN_UPDATES:
            self._told = time.monotonic()
            self.update(self._line(), self._panel)

    def _line(self) -> str:
        steps = sum(self._lengths) + sum(self._playing.values())
        words = [f"{len(self.scores)} of {self.num_games} games", f"{steps:,} steps"]
        if self.scores and self.share:
            elapsed = time.monotonic() - self._started
            words += [
                f"mean so far {statistics.fmean(self.scores):,.1f}",
                f"{duration(elapsed / self.share - elapsed)} left",
            ]
        return ", ".join(words)

    def _panel(self) -> Group | Table:
        share = self.share
        bar = ProgressBar(1.0, share or 0.0, width=min(BAR_COLUMNS, self.console.width), pulse=share is None)
        text = Text(self._line(), no_wrap=True, overflow="ellipsis")
        if self.console.width < BAR_COLUMNS + 1 + len(text):
            return Group(bar, Text(self._line()))
        table = Table.grid(padding=(0, 1))
        table.add_row(bar, text)
        return table
