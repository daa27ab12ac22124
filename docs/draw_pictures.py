"""Draws the pictures of README.md and how_it_works.md anew: python docs/draw_pictures.py

The agent of policy.h5 plays eight greedy games. The 18 seconds of the best one in which it wins most become the film
docs/agent.webp; the game itself is drawn in docs/pictures/, and the target network from the first steps of a training.
Every picture has the SHA-256 of policy.h5 in its metadata: a test tells whether it shows the policy that ships.
"""

import hashlib
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageSequence
from PIL.PngImagePlugin import PngInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import console
from config import Config
from environments.atari import AtariEnvironment
from evaluation.protocol import build_test_agent
from keras_rl import rl
from models.policy_file import TrainedPolicy, load_policy
from reports.recording import Film
from screens.picture import FRAMES_PER_SECOND
from screens.show import Show, WatchedPolicy
from train import build_agent, build_environments

DOCS = Path(__file__).resolve().parent
POLICY = DOCS.parent / "policy.h5"
NUM_GAMES = 8
MAX_STEPS = 3_000  # of a game: a greedy agent may rally for ever at the last bricks
FILM_STEPS = 18 * 15  # 18 seconds, at 15 agent steps a second
TRAINING_STEPS = 42_000  # for the picture of the target network, which begins at step 8,000
# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, VERMILION = "#0072B2", "#D55E00"


@dataclass
class Game(rl.callbacks.Callback):
    """A game: the state before each agent step, its Q-values, and the score and the lives after it."""

    seed: int
    states: list[np.ndarray] = field(default_factory=list)  # (4, 84, 84) uint8
    q_values: list[np.ndarray] = field(default_factory=list)  # (num_actions,)
    scores: list[float] = field(default_factory=list)
    lives: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def on_step_begin(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps what the agent has just looked at."""
        self.states.append(np.array(self.model.memory.get_recent_state(self.model.recent_observation)))
        self.q_values.append(self.model.test_policy.q_values)

    def on_step_end(self, step: int, logs: dict[str, Any]) -> None:
        """Keeps what came of it."""
        self.scores.append(logs["info"]["score"])
        self.lives.append(logs["info"]["lives"])

    @property
    def best_steps(self) -> range:
        """The `FILM_STEPS` steps in a row in which it wins most."""
        scores = np.array([0.0, *self.scores])
        length = min(FILM_STEPS, len(self.scores))
        first = int(np.argmax(scores[length:] - scores[:-length]))
        return range(first, first + length)


class FilmRecorder(rl.callbacks.Callback):
    """A recorder for `Show` that films some steps of a game."""

    frames_per_picture = 2  # 30 pictures a second

    def __init__(self, steps: range) -> None:
        super().__init__()
        self.steps = steps
        self.film = Film(pictures_per_second=FRAMES_PER_SECOND / self.frames_per_picture)
        self.is_filming = False

    def on_step_begin(self, step: int, logs: dict[str, Any] | None = None) -> None:
        """The frames that follow belong to this step."""
        self.is_filming = step in self.steps

    def show(self, picture: Image.Image) -> None:
        """Takes the game's next picture."""
        if self.is_filming:
            self.film.add(picture)

    def begin_game(self, number: int) -> None:
        """There is one game only."""

    def end_game(self, score: float) -> None:
        """The film has what it wants."""


class Lag(rl.callbacks.Callback):
    """Keeps what the network and its frozen copy say of the same states, every `interval` steps."""

    def __init__(self, states: np.ndarray, interval: int) -> None:
        super().__init__()
        self.states, self.interval = states, interval
        self.steps: list[int] = []
        self.network: list[float] = []
        self.target: list[float] = []

    def on_step_end(self, step: int, logs: dict[str, Any]) -> None:
        """Looks at both networks."""
        if self.model.step % self.interval == 0:
            states = self.states.astype(np.float32) / 255
            self.steps.append(self.model.step)
            for model, values in ((self.model.model, self.network), (self.model.target_model, self.target)):
                values.append(float(np.asarray(model(states)).max(axis=1).mean()))


def main() -> int:
    """Plays, films, trains for some thousand steps, draws."""
    policy = load_policy(POLICY)
    games = [play(policy, seed) for seed in range(NUM_GAMES)]
    best = max(games, key=lambda game: game.scores[-1])
    film_game(policy, best)
    draw_four_frames(best.states[84])  # the ball in flight, the paddle moving
    draw_a_game(best)
    config = Config(steps=Config().steps, memory_size=100_000, precision="float32", seed=1)
    environments = build_environments(config)
    agent = build_agent(config, environments)
    lag = Lag(np.array(best.states[100:164]), 500)
    agent.fit(environments, TRAINING_STEPS, callbacks=[lag], verbose=0)
    draw_the_lag(lag, config)
    return console.DONE


def play(policy: TrainedPolicy, seed: int) -> Game:
    """One greedy game; the same seed gives the same one."""
    game, chooser = Game(seed), WatchedPolicy(rl.policy.GreedyQPolicy())
    environment = AtariEnvironment(game="breakout", max_episode_steps=MAX_STEPS)
    environment.reset(seed=seed)
    build_test_agent(policy, chooser).test(environment, visualize=False, verbose=0, callbacks=[game])
    print(f"Game {seed}: {game.scores[-1]:g} points in {len(game.scores):,} agent steps.", flush=True)
    return game


def film_game(policy: TrainedPolicy, game: Game) -> None:
    """Plays the game again and films its best part, with the panel beside it."""
    recorder, chooser = FilmRecorder(game.best_steps), WatchedPolicy(rl.policy.GreedyQPolicy())
    show = Show("Breakout", 1, chooser, AtariEnvironment().get_action_meanings(), None, recorder)
    environment = AtariEnvironment(game="breakout", max_episode_steps=MAX_STEPS, on_frame=show.on_frame)
    environment.reset(seed=game.seed)
    agent = build_test_agent(policy, chooser)
    agent.test(environment, visualize=False, verbose=0, callbacks=[recorder, show])
    exif = Image.Exif()
    exif[0x010E] = digest()  # ImageDescription
    with Image.open(io.BytesIO(recorder.film.to_gif())) as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]  # milliseconds
        gif.save(
            DOCS / "agent.webp",
            save_all=True,
            duration=durations,
            loop=0,
            lossless=True,
            quality=90,
            method=5,
            kmin=0,
            kmax=0,
            exif=exif,
        )
    part = game.best_steps
    print(f"Filmed steps {part.start:,} to {part.stop:,}, {sum(durations) / 1000:.1f} s.", flush=True)


def draw_four_frames(state: np.ndarray) -> None:
    """The four frames of a state side by side, oldest first, and all of them in one, newest brightest."""
    size, gap, top = 2 * 84, 6, 22
    trail = np.max([frame * share for frame, share in zip(state, (0.3, 0.5, 0.7, 1.0), strict=True)], axis=0)
    labels = ("oldest", "", "", "newest", "all four")
    picture = Image.new("L", (len(labels) * (size + gap) - gap, top + size), 255)
    pen = ImageDraw.Draw(picture)
    for number, (frame, label) in enumerate(zip([*state, trail.astype(np.uint8)], labels, strict=True)):
        left = number * (size + gap)
        picture.paste(Image.fromarray(frame).resize((size, size), Image.Resampling.NEAREST), (left, top))
        pen.text((left + size / 2, top / 2), label, 0, ImageFont.load_default(15), anchor="mm")
    about = PngInfo()
    about.add_text("policy.h5", digest())
    picture.save(DOCS / "pictures/four_frames.png", optimize=True, pnginfo=about)


def draw_a_game(game: Game) -> None:
    """max Q over a game, and the points won and lives lost in it."""
    best = np.max(game.q_values, axis=1)
    won = np.flatnonzero(np.diff(game.scores, prepend=0) > 0)
    lost = np.flatnonzero(np.diff(game.lives) < 0) + 1
    figure, axes = new_figure()
    for number, step in enumerate(lost):
        label = {"label": "a life is lost"} if number == 0 else {}
        axes.axvline(step, color="black", linewidth=0.8, linestyle=":", **label)
    axes.plot(best, color=BLUE, linewidth=1, label="max Q, of discounted points to come")
    axes.plot(won, best[won], ".", color=VERMILION, markersize=4, label="a brick is hit")
    axes.set_xlabel("agent steps (4 frames, 1/15 s)")
    axes.set_ylabel("max Q(s, a)")
    axes.set_ylim(bottom=min(best.min(), 0) - 0.3 * np.ptp(best))
    axes.legend(loc="lower left", ncols=3, fontsize=8)
    axes.set_title(f"A game of policy.h5: {game.scores[-1]:g} points", fontsize=10)
    save(figure, "a_game.png")


def draw_the_lag(lag: Lag, config: Config) -> None:
    """What the network and the target network think of the same 64 states, while they learn."""
    figure, axes = new_figure()
    axes.plot(lag.steps, lag.network, color=BLUE, label="network Q")
    axes.plot(lag.steps, lag.target, color=VERMILION, linestyle="--", drawstyle="steps-post", label="target network")
    axes.axvline(config.first_update_step, color="black", linewidth=0.8, linestyle=":", label="the first update")
    axes.set_xlim(8_000, TRAINING_STEPS)
    axes.set_xlabel("agent steps")
    axes.set_ylabel("mean of max Q over 64 states")
    axes.legend(loc="upper center", ncols=3, fontsize=8)
    renewed = f"the target network renewed every {config.target_update_steps:,}"
    axes.set_title(f"The first {TRAINING_STEPS:,} steps of a training, {renewed}", fontsize=10)
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
    figure.savefig(DOCS / "pictures" / name, metadata={"policy.h5": digest()})


def digest() -> str:
    """policy.h5's, for the metadata of a picture."""
    return f"SHA-256 of policy.h5: {hashlib.sha256(POLICY.read_bytes()).hexdigest()}"


if __name__ == "__main__":
    console.start_keras()
    console.run(main)
