"""Stock keras-rl2 1.0.5 with the settings of keras-rl's own examples/dqn_atari.py.

Changed for the measurement: `nb_steps_warmup`, and exploration at its final rate from the start.

With `--train` it learns as the example has it, in proportion: the same share of exploring, a lower `nb_steps_warmup`;
then it plays full games.
"""

import os
import time
import types
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import ale_py
import gymnasium
import numpy as np
import tensorflow.keras as keras
import tf_keras
from measuring import SCORED_WARMUP_STEPS, TEST_EPSILON, WARMUP_STEPS, Stopwatch, parser, report, report_scores
from PIL import Image

keras.__version__ = tf_keras.__version__
import rl.core  # noqa: E402
from rl.agents import DQNAgent  # noqa: E402
from rl.callbacks import Callback  # noqa: E402
from rl.memory import SequentialMemory  # noqa: E402
from rl.policy import EpsGreedyQPolicy, LinearAnnealedPolicy  # noqa: E402

rl.core.np = types.SimpleNamespace(**{**vars(np), "int16": int})

PATCHES = [  # all that it takes to run the unmodified package on current ones
    "TF_USE_LEGACY_KERAS=1: rl/util.py:3 and much else need Keras 2, which is tf_keras now",
    "`tensorflow.keras.__version__` is put back: rl/callbacks.py:8 imports it",
    "`np.int16` in rl/core.py is Python's int: under NumPy 2 the step counter wraps after 32,767, and fit never ends",
    "Adam is `optimizers.legacy.Adam`: rl/agents/ddpg.py switches eager execution off, and the newer Adam needs it",
    "Gymnasium's `reset` and `step` behave as those of gym before 0.26, which rl/core.py expects",
]
PACKAGES = ("keras-rl2", "tensorflow", "tf_keras", "numpy", "gymnasium", "ale-py", "pillow")
NB_ACTIONS = 4  # of Breakout


class OldGym:
    """What keras-rl2 uses of an environment, in the API of gym before 0.26."""

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        self.env = env
        self.seed: int | None = seed
        self.scores: list[float] = []  # raw, of the games begun so far

    def reset(self):
        observation, _ = self.env.reset(seed=self.seed)
        self.seed = None
        self.scores.append(0.0)
        return observation

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.scores[-1] += float(reward)
        return observation, reward, terminated or truncated, info


class AtariProcessor(rl.core.Processor):
    """Does with frames, states and rewards what the example's does."""

    def process_observation(self, observation):
        return np.array(Image.fromarray(observation).resize((84, 84)).convert("L")).astype("uint8")

    def process_state_batch(self, batch):
        return batch.astype("float32") / 255.0

    def process_reward(self, reward):
        return np.clip(reward, -1.0, 1.0)


class Ticker(Callback):
    """Ticks after every step."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self.stopwatch = stopwatch

    def on_step_end(self, step, logs=None) -> None:
        self.stopwatch.tick()


class Deadline(Callback):
    """Ends the training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def on_step_end(self, step, logs=None) -> None:
        if time.monotonic() > self.end:
            raise KeyboardInterrupt  # keras-rl's way to stop


def make_model():
    """The Nature CNN, layer for layer the example's."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Permute((2, 3, 1), input_shape=(4, 84, 84)),
            layers.Conv2D(32, 8, strides=4, activation="relu"),
            layers.Conv2D(64, 4, strides=2, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(NB_ACTIONS),
        ]
    )


def main() -> None:
    given = parser(__doc__).parse_args()
    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Breakout-v5", frameskip=4, repeat_action_probability=0.0)
    settings: dict[str, Any] = {
        "nb_steps_warmup": SCORED_WARMUP_STEPS if given.train else WARMUP_STEPS,
        "gamma": 0.99,
        "target_model_update": 10_000,
        "batch_size": 32,
        "train_interval": 4,
        "delta_clip": 1.0,
    }
    memory_size, learning_rate, epsilon = 1_000_000, 2.5e-4, 0.1
    first_epsilon, exploration_steps = (1.0, int(given.train / 1.75)) if given.train else (epsilon, 1_000_000)
    policy = LinearAnnealedPolicy(EpsGreedyQPolicy(), "eps", first_epsilon, epsilon, 0.05, nb_steps=exploration_steps)
    agent = DQNAgent(
        make_model(),
        policy,
        EpsGreedyQPolicy(TEST_EPSILON),
        nb_actions=NB_ACTIONS,
        memory=SequentialMemory(limit=memory_size, window_length=4),
        processor=AtariProcessor(),
        **settings,
    )
    agent.compile(keras.optimizers.legacy.Adam(learning_rate=learning_rate), metrics=["mae"])
    if given.train:
        np.random.seed(given.seed)
        started = time.monotonic()
        agent.fit(OldGym(env, given.seed), nb_steps=given.train, callbacks=[Deadline(given.seconds)], verbose=0)
        seconds, steps = time.monotonic() - started, int(agent.step)
        games = OldGym(env, given.seed + 1_000)
        # keras-rl draws fewer than 8 steps: up to 28 frames of the 30 no-ops of the protocol.
        agent.test(
            games,
            nb_episodes=given.games,
            nb_max_start_steps=8,
            start_step_policy=lambda observation: 0,
            nb_max_episode_steps=27_000,
            visualize=False,
            verbose=0,
        )
        report_scores(games.scores[: given.games], steps, seconds, PACKAGES)
        return
    stopwatch = Stopwatch(given.steps)
    agent.fit(OldGym(env, given.seed), nb_steps=stopwatch.total_steps, callbacks=[Ticker(stopwatch)], verbose=0)
    settings |= {"memory_size": memory_size, "learning_rate": learning_rate, "epsilon": epsilon}
    report(stopwatch, PACKAGES, {**settings, "num_environments": 1, "precision": "float32", "patches": PATCHES})


if __name__ == "__main__":
    main()
