"""Stable-Baselines3's DQN with the Atari hyper-parameters of RL Baselines3 Zoo.

With `--environments 8` it has eight games instead, and a batch of 64 every 8 agent steps. Changed for the
measurement: `learning_starts`, and exploration at its final rate from the start.

With `--train` it learns as Zoo has it, but for a lower `learning_starts`, and then plays full games.
"""

import time

import ale_py
import gymnasium
from measuring import SCORED_WARMUP_STEPS, TEST_EPSILON, WARMUP_STEPS, Stopwatch, parser, report, report_scores
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack

PACKAGES = ("stable-baselines3", "torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless")


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


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--environments", type=int, choices=(1, 8), default=1)
    given = arguments.parse_args()
    settings = {
        "buffer_size": 100_000,
        "learning_rate": 1e-4,
        "batch_size": 32 if given.environments == 1 else 64,
        "learning_starts": WARMUP_STEPS,
        "target_update_interval": 1_000,
        "train_freq": 4 if given.environments == 1 else 1,  # steps of all environments
        "gradient_steps": 1,
        "exploration_initial_eps": 0.01,
        "exploration_final_eps": 0.01,
    }
    gymnasium.register_envs(ale_py)
    environments = games(given.environments, given.seed)
    if given.train:
        exploration = {"exploration_initial_eps": 1.0, "exploration_fraction": 0.1}
        settings |= {"learning_starts": SCORED_WARMUP_STEPS, **exploration}
        model = DQN("CnnPolicy", environments, seed=given.seed, device="cpu", **settings)
        started = time.monotonic()
        model.learn(given.train, callback=Deadline(given.seconds))
        seconds = time.monotonic() - started
        model.exploration_rate = TEST_EPSILON
        # The scores are those of SB3's Monitor: raw, of full games, though the agent sees every life as an episode.
        scores, _ = evaluate_policy(
            model, games(1, given.seed + 1_000), given.games, deterministic=False, return_episode_rewards=True
        )
        report_scores(scores, model.num_timesteps, seconds, PACKAGES)
        return
    stopwatch = Stopwatch(given.steps)
    model = DQN("CnnPolicy", environments, seed=0, device="cpu", **settings)
    model.learn(stopwatch.total_steps, callback=Ticker(stopwatch, given.environments))
    report(stopwatch, PACKAGES, {**settings, "num_environments": given.environments, "precision": "float32"})


if __name__ == "__main__":
    main()
