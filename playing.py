"""A saved policy, ready to play: what play.py and evaluate.py share."""

from pathlib import Path

import console
from environments.atari import AtariEnvironment, canonical_game
from models.policy_file import WINDOW_LENGTH, Policy, load_policy


def load_policy_and_game(path: Path, game: str | None) -> tuple[Policy, str]:
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


def build_agent(policy: Policy, test_policy, num_environments: int = 1):
    """Network, processor, memory and agent, put together as in keras-rl's Atari example, for `DQNAgent.test`.

    Args:
        policy: The trained network.
        test_policy: keras-rl policy that chooses the actions, such as `GreedyQPolicy()`.
        num_environments: Number of games played side by side.
    """
    import keras  # here, and not above: with TensorFlow it takes seconds, and --help should not

    from agents.dqn import DQNAgent
    from memory.replay import SequentialMemory
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
