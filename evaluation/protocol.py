"""A policy, ready to play: what play.py, evaluate.py and the evaluations in a training share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import console
from environments.atari import AtariEnvironment, canonical_game
from environments.workers import HERE, Workers
from models.policy_file import WINDOW_LENGTH, TrainedPolicy, load_policy
from processors.frames import small_grey

MAX_ENVIRONMENTS = 8


@dataclass(frozen=True)
class Protocol:
    """How games are played whose raw scores count (Mnih et al. 2015, Methods, "Evaluation procedure")."""

    game: str
    episodes: int  # full games
    epsilon: float = 0.05  # share of random actions
    sticky: float = 0.0  # probability that the emulator repeats the last action
    seed: int = 0
    noop_max: int = 30  # most emulator frames of NOOP at the start of a game
    max_steps: int = 27_000  # agent steps of a game, half an hour
    max_idle_steps: int = 27_000  # of them without a reward or a lost life in between
    keras_rl_view: bool = False  # as in keras-rl's example: the last frame as it is, FIRE left to the policy

    def __str__(self) -> str:
        return (
            f"{console.counted(self.episodes, 'full game')} of {self.game}, "
            f"epsilon {self.epsilon:g}, sticky actions {self.sticky:g}, "
            f"1 to {self.noop_max} no-op frames at the start, at most {self.max_steps:,} steps of 4 frames"
            f"{f' and {self.max_idle_steps:,} without a reward' * (self.max_idle_steps < self.max_steps)}, "
            f"seed {self.seed}{', seen as by keras-rl' * self.keras_rl_view}"
        )

    def build_environment(self, **more: Any) -> AtariEnvironment:
        """The emulator for such games, with `more` arguments of `AtariEnvironment`."""
        return self.maker(**more)()

    def maker(self, **more: Any) -> partial[AtariEnvironment]:
        """What builds it, for `Workers`."""
        return partial(
            AtariEnvironment,
            game=self.game,
            sticky=self.sticky,
            noop_max=self.noop_max,
            max_episode_steps=self.max_steps,
            max_idle_steps=self.max_idle_steps,
            max_of_two=not self.keras_rl_view,
            press_fire=not self.keras_rl_view,
            **more,
        )


class KeepsGames(gymnasium.Wrapper):
    """Appends the state in which each game ended to a list; `AtariEnvironment.set_state` plays it again from that."""

    def __init__(self, env: Any, games: list[dict[str, Any]]) -> None:
        super().__init__(env)
        self.atari = env
        self.games = games
        if hasattr(env, "send"):  # it lives in a worker
            self.send, self.receive = env.send, lambda: self._kept(*env.receive())

    def step(self, action):
        return self._kept(*self.env.step(action))

    def _kept(self, observation, reward, terminated, truncated, info):
        if terminated or truncated:
            self.games.append(self.atari.get_state())
        return observation, reward, terminated, truncated, info


def score_games(
    policy: TrainedPolicy,
    protocol: Protocol,
    callbacks: Sequence = (),
    games: list[dict[str, Any]] | None = None,
    workers: Workers = HERE,
) -> list[float]:
    """Plays full games, several side by side, and returns their raw scores in the order in which they ended.

    The same protocol gives the same scores, and the global random generators are left as they were.

    Args:
        policy: The trained network.
        protocol: How it plays.
        callbacks: keras-rl callbacks for `DQNAgent.test`.
        games: A list that takes the state in which each game ended, see `KeepsGames`; None: they are not kept.
        workers: Where they are played.
    """
    from keras_rl import rl
    from keras_rl.resume import get_random_state, set_random_state

    before = get_random_state()
    try:
        np.random.seed(protocol.seed)  # keras-rl's policies draw from NumPy's global generator
        maker = protocol.maker(observe=small_grey if workers.number else None)
        environments = workers.environments([maker] * min(MAX_ENVIRONMENTS, protocol.episodes))
        for index, environment in enumerate(environments):
            environment.reset(seed=1_000 * protocol.seed + index)
        dqn = build_test_agent(policy, rl.policy.EpsGreedyQPolicy(protocol.epsilon), len(environments))
        history = dqn.test(
            environments if games is None else [KeepsGames(environment, games) for environment in environments],
            nb_episodes=protocol.episodes,
            visualize=False,
            verbose=0,
            callbacks=list(callbacks),
        )
        for environment in environments:
            environment.close()
    finally:
        set_random_state(before)
    return history.history.get("episode_score", [])  # there is none if it was stopped before a game had ended


def load_policy_and_game(path: Path, game: str | None) -> tuple[TrainedPolicy, str]:
    """Loads a policy and finds the game that it plays: `game`, else the one in its file, else Breakout.

    Raises:
        PolicyFileError: If there is no policy in the file.
        UnknownGameError: If there is no such game.
        UsageError: If the game has another number of actions.
    """
    policy = load_policy(path)
    game = canonical_game(game or str(policy.facts.get("game", "breakout")))
    nb_actions = AtariEnvironment(game=game).action_space.n
    if policy.nb_actions != nb_actions:
        raise console.UsageError(
            f"{path} values {policy.nb_actions} actions, but {game} has {nb_actions}; "
            "name the game that it was trained on with --game."
        )
    return policy, game


def build_test_agent(policy: TrainedPolicy, test_policy, num_environments: int = 1):
    """Network, processor, memory and agent, put together as in keras-rl's Atari example, for `DQNAgent.test`.

    Args:
        policy: The trained network.
        test_policy: keras-rl policy that chooses the actions, such as `GreedyQPolicy()`.
        num_environments: Number of games played side by side.
    """
    import keras  # here, and not above: with TensorFlow it takes seconds, and --help should not

    from keras_rl.agent import DQNAgent
    from keras_rl.memory import SequentialMemory
    from processors.atari import AtariProcessor

    dqn = DQNAgent(
        model=policy.build_model(),
        nb_actions=policy.nb_actions,
        test_policy=test_policy,
        memory=SequentialMemory(  # a test stores nothing in it but the current state
            limit=10 * num_environments, window_length=WINDOW_LENGTH, num_streams=num_environments
        ),
        processor=AtariProcessor(),
    )
    dqn.compile(keras.optimizers.Adam())  # required by keras-rl; a test does not learn
    return dqn
