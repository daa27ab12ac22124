"""Shows pictures at the speed of the console, and does what the person's keys say."""

import abc
import time
from collections.abc import Iterable
from typing import Any

from screens.picture import FRAMES_PER_SECOND

MAX_LAG_SECONDS = 0.1
MIN_SPEED, MAX_SPEED = 1 / 8, 8
KEYS = "space: pause   N: next step   up, down: faster, slower   R: restart   Q: quit"
KEYS_OF_A_PLAYER = "arrows: move   space: begin, fire   P: pause   R: restart   Q: quit"


class Viewer(abc.ABC):
    """What a person watches games in, or plays them in; where that is, a subclass knows.

    Args:
        played: whether the person plays: then the arrows and the space bar belong to the game.

    Attributes:
        frames_per_picture: number of emulator frames that each picture given to `show` stands for.
        closed: whether the person has had enough; from then on the methods do nothing.
        paused: whether the person wants to look at one picture, see `wait`.
        restart: whether the person wants to begin again; to be reset by whoever does.
        speed: pictures shown in the time of one at the console's speed.
        scale: size at which pictures are best drawn, 1 being the full one.
    """

    frames_per_picture = 1

    def __init__(self, played: bool = False) -> None:
        self.closed = self.paused = self.restart = False
        self.speed = 1.0
        self.scale = 1.0
        self.played = played
        self._step = False
        self._picture: Any = None
        self._due = 0.0

    @property
    def speed_in_words(self) -> str:
        """1x, 8x, 1/2x."""
        return f"{self.speed:g}x" if self.speed >= 1 else f"1/{1 / self.speed:g}x"

    @abc.abstractmethod
    def set_title(self, title: str) -> None:
        """Changes the line of text that goes with the picture."""

    @abc.abstractmethod
    def close(self) -> None:
        """Takes it off the screen."""

    @abc.abstractmethod
    def _keys(self) -> Iterable[str]:
        """Names of the keys pressed since the last call."""

    @abc.abstractmethod
    def _draw(self) -> None:
        """Brings `_picture` to the screen."""

    def show(self, picture: Any) -> None:
        """Shows the next picture when it is due, at `speed` after the one before, or at once if that has passed."""
        if self._is_open():
            self._picture = picture
            self._draw()
            # The beat goes on while the agent thinks, so that this is caught up; a long pause is not.
            self._due += self.frames_per_picture / FRAMES_PER_SECOND / self.speed
            if time.monotonic() - self._due > MAX_LAG_SECONDS:
                self._due = time.monotonic()
            time.sleep(max(0.0, self._due - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Goes on showing the last picture."""
        end = time.monotonic() + seconds
        while self._is_open() and time.monotonic() < end:
            self._draw()
            time.sleep(1 / FRAMES_PER_SECOND)

    def wait(self, picture: Any) -> None:
        """Shows a picture until the person asks for the next step or goes on."""
        self._picture = picture
        self._step = False
        while self._is_open() and self.paused and not self._step and not self.restart:
            self._draw()
            time.sleep(1 / FRAMES_PER_SECOND)

    def _is_open(self) -> bool:
        for key in () if self.closed else self._keys():
            if key in ("escape", "q"):
                self.close()
                break
            if key == "p" or (key == "space" and (self.paused or not self.played)):
                self.paused = not self.paused
            elif key == "n":
                self.paused = self._step = True
            elif key in ("up", "down") and not self.played:
                self.speed = min(max(self.speed * (2.0 if key == "up" else 0.5), MIN_SPEED), MAX_SPEED)
            elif key == "r":
                self.restart = True
        return not self.closed
