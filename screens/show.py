"""Shows the games that an agent plays, while it plays them."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import ale_py
import gymnasium
import numpy as np

from keras_rl import rl
from screens.panel import CHART_SECONDS, STEPS_PER_SECOND, Scene
from screens.picture import draw
from screens.saliency import saliency_map
from screens.status import Status
from screens.terminal import Terminal
from screens.viewer import Viewer

SECONDS_AFTER_GAME = 1.5
SECONDS_BETWEEN_UPDATES = 0.1  # of the status


class Recorder(Protocol):
    """What keeps the games, as `reports.recording.Recorder` does."""

    frames_per_picture: int

    def begin_game(self, number: int) -> None:
        """The pictures from here on belong to this game."""

    def show(self, picture: Any) -> None:
        """Takes the game's next picture."""

    def end_game(self, score: float) -> None:
        """The game is over."""


class Restartable(gymnasium.Wrapper):
    """Ends a game when the person wants another, as if its time were up."""

    def __init__(self, env: gymnasium.Env, viewer: Viewer | None) -> None:
        super().__init__(env)
        self.viewer = viewer

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated or bool(self.viewer and self.viewer.restart), info


class WatchedPolicy(rl.policy.Policy):
    """Chooses as another policy does, and remembers what it chose from.

    Attributes:
        q_values: float32 (nb_actions,) of the last decision.
        action: that was chosen.
    """

    def __init__(self, policy: rl.policy.Policy) -> None:
        super().__init__()
        self.policy = policy
        self.q_values: np.ndarray = np.empty(0, np.float32)
        self.action = 0

    def select_action(self, q_values: np.ndarray) -> int:
        self.q_values, self.action = q_values, int(self.policy.select_action(q_values=q_values))
        return self.action


class Show(rl.callbacks.Callback):
    """A callback of `DQNAgent.test` that prints every game's score and has its pictures shown and recorded.

    Give its `on_frame` to the `AtariEnvironment`, so that each emulator frame is seen, and not only the one in
    four that the agent decides on. The test ends when the person closes the window.

    Args:
        title: what the text in the window's title bar begins with.
        num_games: how many games there will be.
        policy: the agent's test policy.
        action_names: of the game's actions.
        viewer: shows the games, if any.
        recorder: records the games, if any.
        saliency: whether to show where the network looks.
        status: says how far a game is, where nobody sees it.

    Attributes:
        scores: raw scores of the games that have ended.
    """

    def __init__(
        self,
        title: str,
        num_games: int,
        policy: WatchedPolicy,
        action_names: Sequence[str],
        viewer: Viewer | None,
        recorder: Recorder | None,
        saliency: bool = False,
        status: Status | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self.action_names = action_names
        self.title = title
        self.num_games = num_games
        self.viewer = viewer
        self.recorder = recorder
        self.scores: list[float] = []
        self._is_playing = False
        self.saliency = saliency
        self.status = status
        self._told = 0.0  # when the status was last updated
        self._sinks = [sink for sink in (viewer, recorder) if sink]
        self._screens: deque[np.ndarray] = deque(maxlen=2)

    @property
    def unfinished_game(self) -> str | None:
        """A sentence about the game that was stopped, None if there is none."""
        return f"{self._so_far()}, then stopped." if self._is_playing and self._num_steps else None

    def on_episode_begin(self, episode: int, logs=None) -> None:
        self._is_playing = True
        self._number, self._num_steps, self._score, self._num_frames = len(self.scores) + 1, 0, 0.0, 0
        self._lives: int | None = None
        self._max_q_values: deque[float] = deque(maxlen=CHART_SECONDS * STEPS_PER_SECOND)
        self._leads: deque[float] = deque(maxlen=CHART_SECONDS * STEPS_PER_SECOND)
        self._scene = Scene(self.action_names)
        if self.recorder:
            self.recorder.begin_game(self._number)

    def on_frame(self, ale: ale_py.ALEInterface) -> None:
        """Draws the frame that the emulator has just played, for all who want to see it."""
        if self._sinks and self._is_playing:
            self._screens.append(ale.getScreenRGB())
            self._num_frames += 1
            for sink in self._sinks:
                if self._num_frames % sink.frames_per_picture == 0:
                    sink.show(self._draw_for(sink))

    def on_step_begin(self, step: int, logs=None) -> None:
        if self._sinks:
            self._scene = self._look()
        if self.viewer and self.viewer.paused:
            self._update_viewer(" · paused, space goes on")
            self.viewer.wait(self._draw_for(self.viewer))

    def on_step_end(self, step: int, logs) -> None:
        info = logs["info"]
        self._num_steps, self._score = step + 1, info["score"]
        self._time_is_up = bool(info["TimeLimit.truncated"])
        if info["lives"] or self._lives is not None:  # always 0 in a game without lives
            self._lives = info["lives"]
        lives = f" · {self._lives} {'life' if self._lives == 1 else 'lives'}" if self._lives else ""
        self._update_viewer(lives)
        if self.status and time.monotonic() - self._told > SECONDS_BETWEEN_UPDATES:
            self._told = time.monotonic()
            self.status.update(f"{self._so_far()} so far{lives.replace(' · ', ', ')}")

    def on_episode_end(self, episode: int, logs) -> None:
        self._is_playing = False
        if self.viewer and self.viewer.restart:
            self.viewer.restart = False
            print(f"{self._so_far()}, then restarted.", flush=True)
            return
        self.scores.append(self._score)
        limit = f", stopped at the {self._num_steps:,}-step limit" if self._time_is_up else ""
        print(f"{self._so_far()}{limit}.", flush=True)
        if self.recorder:
            self.recorder.end_game(self._score)
        self._update_viewer(" · time is up" if self._time_is_up else " · game over", hold=SECONDS_AFTER_GAME)

    def _look(self) -> Scene:
        """The moment before the action that has just been chosen."""
        state = np.array(self.model.memory.get_recent_state(self.model.recent_observation))
        self._max_q_values.append(max(self.policy.q_values))
        self._leads.append(float(np.ptp(self.policy.q_values)))
        return Scene(
            self.action_names,
            state,
            self.policy.q_values,
            self.policy.action,
            tuple(self._max_q_values),
            float(np.quantile(self._leads, 0.9)),
            self._score,
            self._lives,
            self._num_steps,
            saliency_map(self.model.saliency([state])[0]) if self.saliency else None,
        )

    def _draw_for(self, sink: Viewer | Recorder) -> Any:
        screens = [*self._screens][-sink.frames_per_picture :]
        if isinstance(sink, Terminal):
            return sink.draw(screens, self._scene)
        scale = sink.scale if isinstance(sink, Viewer) else 1.0
        return draw(screens, self._scene.panel(scale), self._scene.saliency, scale)

    def _so_far(self) -> str:
        return f"Game {self._number}: {points(self._score)} in {self._num_steps:,} agent steps"

    def _update_viewer(self, ending: str, hold: float = 0.0) -> None:
        if self.viewer:
            game = f"game {self._number} of {self.num_games}"
            speed = f" · speed {self.viewer.speed_in_words}" if self.viewer.speed != 1 else ""
            self.viewer.set_title(f"{self.title} · {game} · {points(self._score)}{ending}{speed}")
            self.viewer.hold(hold)
            self.model.stop_training = self.viewer.closed


def points(score: float) -> str:
    """A raw score in words: "1 point", "1,234 points"."""
    return f"{score:,.0f} {'point' if score == 1 else 'points'}"
