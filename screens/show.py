"""Shows the games that an agent plays, while it plays them."""

from collections import deque

import ale_py
import numpy as np

from keras_rl import rl
from screens.picture import draw
from screens.recording import Recorder
from screens.window import Window

SECONDS_AFTER_GAME = 1.5


class Show(rl.callbacks.Callback):
    """A callback of `DQNAgent.test` that prints every game's score and has its pictures shown and recorded.

    Give its `on_frame` to the `AtariEnvironment`, so that each emulator frame is seen, and not only the one in
    four that the agent decides on. The test ends when the person closes the window.

    Args:
        title: what the text in the window's title bar begins with.
        num_games: how many games there will be.
        window: shows the games, if any.
        recorder: records the games, if any.

    Attributes:
        scores: raw scores of the games that have ended.
    """

    def __init__(self, title: str, num_games: int, window: Window | None, recorder: Recorder | None) -> None:
        super().__init__()
        self.title = title
        self.num_games = num_games
        self.window = window
        self.recorder = recorder
        self.scores: list[float] = []
        self._is_playing = False
        self._screens: deque[np.ndarray] = deque(maxlen=2)

    @property
    def unfinished_game(self) -> str | None:
        """A sentence about the game that was stopped, None if there is none."""
        return f"{self._so_far()}, then stopped." if self._is_playing and self._num_steps else None

    def on_episode_begin(self, episode: int, logs=None) -> None:
        self._is_playing = True
        self._number, self._num_steps, self._score, self._num_frames = episode + 1, 0, 0.0, 0
        if self.recorder:
            self.recorder.begin_game(self._number)

    def on_frame(self, ale: ale_py.ALEInterface) -> None:
        """Draws the frame that the emulator has just played, for all who want to see it."""
        sinks = [sink for sink in (self.window, self.recorder) if sink]
        if sinks and self._is_playing:
            self._screens.append(ale.getScreenRGB())
            self._num_frames += 1
            for sink in sinks:
                if self._num_frames % sink.frames_per_picture == 0:
                    sink.show(draw([*self._screens][-sink.frames_per_picture :]))

    def on_step_end(self, step: int, logs) -> None:
        info = logs["info"]
        self._num_steps, self._score = step + 1, info["score"]
        self._time_is_up = bool(info["TimeLimit.truncated"])
        lives = info["lives"]  # 0 in a game without lives
        self._update_window(f" · {lives} {'life' if lives == 1 else 'lives'}" if lives else "")

    def on_episode_end(self, episode: int, logs) -> None:
        self._is_playing = False
        self.scores.append(self._score)
        limit = f", stopped at the {self._num_steps:,}-step limit" if self._time_is_up else ""
        print(f"{self._so_far()}{limit}.", flush=True)
        if self.recorder:
            self.recorder.end_game(self._score)
        self._update_window(" · time is up" if self._time_is_up else " · game over", hold=SECONDS_AFTER_GAME)

    def _so_far(self) -> str:
        return f"Game {self._number}: {points(self._score)} in {self._num_steps:,} agent steps"

    def _update_window(self, ending: str, hold: float = 0.0) -> None:
        if self.window:
            game = f"game {self._number} of {self.num_games}"
            self.window.set_title(f"{self.title} · {game} · {points(self._score)}{ending}")
            self.window.hold(hold)
            self.model.stop_training = self.window.closed


def points(score: float) -> str:
    """A raw score in words: "1 point", "1,234 points"."""
    return f"{score:,.0f} {'point' if score == 1 else 'points'}"
