"""Stable-Baselines3's DQN, PPO or A2C with the Atari hyper-parameters of RL Baselines3 Zoo.

With `--environments 8` DQN has eight games instead of one, and a batch of 64 every 8 agent steps. Changed for the
measurement of its speed: `learning_starts`, and exploration at its final rate from the start.

With `--train` each learns as Zoo has it, but for a lower `learning_starts` of DQN, and then plays full games: DQN with
the random actions of all who are judged, PPO and A2C by drawing from their own probabilities, as Zoo plays them.
"""

import time
from typing import Any

import ale_py
import gymnasium
from measuring import SCORED_WARMUP_STEPS, TEST_EPSILON, WARMUP_STEPS, Stopwatch, parser, report, report_scores
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import VecFrameStack

PACKAGES = ("stable-baselines3", "torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless")
ALGORITHMS = {"dqn": DQN, "ppo": PPO, "a2c": A2C}


class Ticker(BaseCallback):
    """Ticks after every step of all environments."""

    def __init__(self, stopwatch: Stopwatch, num_environments: int) -> None:
        super().__init__()
        self.stopwatch, self.num_environments = stopwatch, num_environments

    def _on_step(self) -> bool:
        self.stopwatch.tick(self.num_environments)
        return True


class Deadline(BaseCallback):
    """Ends the training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self.end


def games(num_environments: int, seed: int) -> VecFrameStack:
    """Breakout; NoFrameskip-v4 means no sticky actions, and SB3's AtariWrapper skips the frames."""
    return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", num_environments, seed=seed), 4)


def settings_of(algorithm: str, num_environments: int, train: bool) -> dict[str, Any]:
    """Zoo's `dqn.yml`, `ppo.yml` or `a2c.yml`, under "atari"."""
    if algorithm == "ppo":
        falling = {"learning_rate": lambda left: 2.5e-4 * left, "clip_range": lambda left: 0.1 * left}
        return {"n_steps": 128, "n_epochs": 4, "batch_size": 256, "vf_coef": 0.5, "ent_coef": 0.01, **falling}
    if algorithm == "a2c":
        optimizer = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}}
        return {"ent_coef": 0.01, "vf_coef": 0.25, "policy_kwargs": optimizer}
    return {
        "buffer_size": 100_000,
        "learning_rate": 1e-4,
        "batch_size": 32 if num_environments == 1 else 64,
        "learning_starts": SCORED_WARMUP_STEPS if train else WARMUP_STEPS,
        "target_update_interval": 1_000,
        "train_freq": 4 if num_environments == 1 else 1,  # steps of all environments
        "gradient_steps": 1,
        "exploration_initial_eps": 1.0 if train else 0.01,
        "exploration_fraction": 0.1,
        "exploration_final_eps": 0.01,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--algorithm", choices=ALGORITHMS, default="dqn")
    arguments.add_argument("--environments", type=int, choices=(1, 8), default=1, help="of DQN")
    given = arguments.parse_args()
    gymnasium.register_envs(ale_py)
    number = {"dqn": given.environments, "ppo": 8, "a2c": 16}[given.algorithm]
    settings = settings_of(given.algorithm, number, bool(given.train))
    environments = games(number, given.seed)
    model = ALGORITHMS[given.algorithm]("CnnPolicy", environments, seed=given.seed, device="cpu", **settings)
    if given.train:
        started = time.monotonic()
        model.learn(given.train, callback=Deadline(given.seconds))
        seconds = time.monotonic() - started
        if isinstance(model, DQN):
            model.exploration_rate = TEST_EPSILON
        # The scores are those of SB3's Monitor: raw, of full games, though the agent sees every life as an episode.
        scores, _ = evaluate_policy(
            model, games(1, given.seed + 1_000), given.games, deterministic=False, return_episode_rewards=True
        )
        report_scores(scores, model.num_timesteps, seconds, PACKAGES)
        return
    stopwatch = Stopwatch(given.steps)
    model.learn(stopwatch.total_steps, callback=Ticker(stopwatch, number))
    numbers = {name: value for name, value in settings.items() if isinstance(value, (int, float))}
    report(stopwatch, PACKAGES, {**numbers, "num_environments": number, "precision": "float32"})


if __name__ == "__main__":
    main()
