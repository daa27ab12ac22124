"""Draws the pictures of how_it_works.md from real games and a real, short training: python docs/draw_pictures.py"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
from config import Config
from evaluation.protocol import Protocol, score_games
from keras_rl import rl
from models.policy_file import load_policy
from train import build_agent, build_environments

FOLDER = Path(__file__).resolve().parent / "pictures"
# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, VERMILION = "#0072B2", "#D55E00"


class Watcher(rl.callbacks.Callback):
    """Keeps the state, the Q-values and the score of every step of a game."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[np.ndarray] = []
        self.q_values: list[np.ndarray] = []
        self.scores: list[float] = []

    def on_step_end(self, step: int, logs: dict[str, Any]) -> None:
        state = np.array(self.model.memory.get_recent_state(logs["observation"]))  # (4, 84, 84)
        self.states.append(state)
        self.q_values.append(self.model.compute_batch_q_values([state])[0])
        self.scores.append(logs["info"]["score"])


class Lag(rl.callbacks.Callback):
    """Keeps what the network and its frozen copy say of the same states, every `interval` steps."""

    def __init__(self, states: np.ndarray, interval: int) -> None:
        super().__init__()
        self.states, self.interval = states, interval
        self.steps: list[int] = []
        self.network: list[float] = []
        self.target: list[float] = []

    def on_step_end(self, step: int, logs: dict[str, Any]) -> None:
        if self.model.step % self.interval == 0:
            states = self.states.astype(np.float32) / 255
            self.steps.append(self.model.step)
            for model, values in ((self.model.model, self.network), (self.model.target_model, self.target)):
                values.append(float(np.asarray(model(states)).max(axis=1).mean()))


def main() -> int:
    """Plays a game, trains for some thousand steps, draws."""
    policy = load_policy(FOLDER.parents[1] / "policy.h5")
    watcher = Watcher()
    score_games(policy, Protocol("breakout", 1, seed=3), [watcher])
    draw_four_frames(watcher.states[120])
    draw_a_game(watcher)
    config = Config(steps=6_000, warmup_steps=1_000, memory_size=6_000, target_update_steps=1_000, precision="float32")
    environments = build_environments(config)
    agent = build_agent(config, environments)
    lag = Lag(np.array(watcher.states[100:164]), 50)
    agent.fit(environments, config.steps, callbacks=[lag], verbose=0)
    draw_the_lag(lag)
    return console.DONE


def draw_four_frames(state: np.ndarray) -> None:
    """The four frames of a state side by side, oldest first, and all of them in one, newest brightest."""
    gap = np.full((84, 3), 255, np.uint8)
    trail = np.max([frame * share for frame, share in zip(state, (0.3, 0.5, 0.7, 1.0), strict=True)], axis=0)
    row = np.hstack([part for frame in [*state, trail.astype(np.uint8)] for part in (frame, gap)][:-1])
    picture = Image.fromarray(row).resize((2 * row.shape[1], 2 * row.shape[0]), Image.Resampling.NEAREST)
    picture.save(FOLDER / "four_frames.png", optimize=True)


def draw_a_game(watcher: Watcher) -> None:
    """max Q over a game, and the points won and lives lost in it."""
    best = np.max(watcher.q_values, axis=1)
    won = np.flatnonzero(np.diff(watcher.scores, prepend=0) > 0)
    figure, axes = new_figure()
    axes.plot(best, color=BLUE, linewidth=1, label="max Q, of discounted points to come")
    axes.plot(won, best[won], ".", color=VERMILION, markersize=4, label="a brick is hit")
    axes.set_xlabel("agent steps (4 frames, 1/15 s)")
    axes.set_ylabel("max Q(s, a)")
    axes.set_ylim(bottom=min(best.min(), 0) - 0.3 * np.ptp(best))
    axes.legend(loc="lower left", ncols=2, fontsize=8)
    axes.set_title(f"A game of policy.h5: {watcher.scores[-1]:g} points", fontsize=10)
    save(figure, "a_game.png")


def draw_the_lag(lag: Lag) -> None:
    """What the network and the target network think of the same 64 states, while they learn."""
    figure, axes = new_figure()
    axes.plot(lag.steps, lag.network, color=BLUE, label="network Q")
    axes.plot(lag.steps, lag.target, color=VERMILION, linestyle="--", drawstyle="steps-post", label="target network")
    axes.set_xlabel("agent steps")
    axes.set_ylabel("mean of max Q over 64 states")
    axes.legend(loc="upper left", fontsize=8)
    axes.set_title("The first 6,000 steps of a training, the target renewed every 1,000", fontsize=10)
    save(figure, "target_network.png")


def new_figure() -> tuple[Figure, Any]:
    """A figure of one pair of axes."""
    figure = Figure(figsize=(8, 3), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Writes a figure into the folder of pictures."""
    figure.savefig(FOLDER / name)


if __name__ == "__main__":
    console.start_keras()
    console.run(main)
