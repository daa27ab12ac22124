"""A film of a game that was played before: small, as the page or program that shows it enlarges it."""

from collections import deque

import ale_py
import numpy as np

from reports.recording import FRAMES_PER_PICTURE, Film
from screens.picture import FRAMES_PER_SECOND, brightest


class GameFilm:
    """Takes the frames of a game, and becomes a film of it at the console's speed, a pixel for each of its own.

    Give its `on_frame` to an `AtariEnvironment`, and that the state in which the game ended: `set_state` plays it.

    Args:
        kind: ".gif" or ".webp".
        max_seconds: what comes after is left out.

    Attributes:
        num_frames: of the whole game.
    """

    def __init__(self, kind: str, max_seconds: float) -> None:
        self.kind = kind
        self.max_seconds = max_seconds
        self.num_frames = 0
        self._frames_per_picture = FRAMES_PER_PICTURE[kind]
        self._film = Film(pictures_per_second=FRAMES_PER_SECOND / self._frames_per_picture)
        self._screens: deque[np.ndarray] = deque(maxlen=self._frames_per_picture)

    @property
    def is_cut(self) -> bool:
        """Whether the game went on after the film."""
        return self.num_frames > FRAMES_PER_SECOND * self.max_seconds

    def on_frame(self, ale: ale_py.ALEInterface) -> None:
        """Adds the frame that the emulator has just played."""
        self.num_frames += 1
        if not self.is_cut:
            self._screens.append(ale.getScreenRGB())
            if self.num_frames % self._frames_per_picture == 0:
                self._film.add(brightest(self._screens))

    def to_bytes(self) -> bytes:
        """The file."""
        return self._film.to_gif() if self.kind == ".gif" else self._film.to_webp()
