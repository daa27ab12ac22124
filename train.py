"""Trains a Deep Q-Network on an Atari game, the keras-rl way, and saves it as policy.h5.

    python train.py --minutes 10                 Breakout, as far as it gets in ten minutes
    python train.py                              Breakout, 4,000,000 agent steps: hours
    python train.py --resume                     go on with the newest run, exactly where it stopped
    python train.py --game pong --minutes 30     another game
    python train.py --preset keras-rl            keras-rl's own example, setting for setting
    python train.py --preset smoke               a minute to see that everything works, into smoke.h5
    python train.py --list-games                 the games, and what random play, a human and this agent score

Ctrl-C finishes the step, saves and ends.

Exit status: 0 done, 2 bad input, 3 the training diverged, 130 stopped after saving.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import console
from config import MOST, Config, add_options
from environments.atari import AtariEnvironment, UnknownGameError
from environments.workers import HERE, WorkerError, Workers, default_workers
from evaluation.games import list_of_games
from keras_h5.files import FileError
from models.policy_file import WINDOW_LENGTH
from processors.frames import small_grey
from training.background import background
from training.run import NEWEST, Run, await_lock, is_done, new_run, opening_words, resumed_run, sole_owner


def build_environments(config: Config, workers: Workers = HERE) -> list[AtariEnvironment]:
    """The games played side by side, each with a seed of its own."""
    makers, share = [], config.keras_rl_views
    observe = small_grey if workers.number else None  # what AtariProcessor would do here
    for index in range(config.num_environments):
        own_view = int((index + 1) * share) == int(index * share)
        view: dict[str, Any] = {"max_of_two": own_view, "press_fire": own_view}
        makers.append(partial(AtariEnvironment, game=config.game, sticky=config.sticky, observe=observe, **view))
    environments = workers.environments(makers)
    for index, environment in enumerate(environments):
        environment.reset(seed=1_000 * config.seed + index)
        environment.action_space.seed(1_000 * config.seed + index)
    return environments


def build_agent(config: Config, environments: list[AtariEnvironment]):
    """Network, processor, memory, policy and agent, put together as in keras-rl's Atari example."""
    import keras  # here, and not above: with TensorFlow it takes seconds, and --help should not

    from keras_rl import rl
    from keras_rl.agent import DQNAgent
    from keras_rl.learner import set_compute_dtype
    from keras_rl.memory import SequentialMemory
    from models.nature_cnn import nature_cnn
    from processors.atari import AtariProcessor

    # keras-rl's policies draw from NumPy's global generator, Keras' initial weights come from its own.
    keras.utils.set_random_seed(config.seed)
    nb_actions = int(environments[0].action_space.n)
    model = nature_cnn(nb_actions, window_length=WINDOW_LENGTH)
    set_compute_dtype(model, config.precision)
    memory = SequentialMemory(
        limit=config.memory_size,
        window_length=WINDOW_LENGTH,
        n_step=config.n_step,
        num_streams=config.num_environments,
        rng=np.random.default_rng([config.seed, 1]),
    )
    policy = rl.policy.LinearAnnealedPolicy(
        rl.policy.EpsGreedyQPolicy(),
        attr="eps",
        value_max=config.epsilon_start,
        value_min=config.epsilon_end,
        value_test=0.05,
        nb_steps=config.exploration_steps,
    )
    dqn = DQNAgent(
        model=model,
        nb_actions=nb_actions,
        policy=policy,
        memory=memory,
        processor=AtariProcessor(config.log_rewards, config.life_loss_penalty, background(config)),
        nb_steps_warmup=config.first_update_step,
        batch_size=config.batch_size,
        gamma=config.gamma,
        train_interval=config.train_interval,
        target_model_update=config.target_update_steps,
        delta_clip=config.delta_clip,
        enable_double_dqn=config.double,
        enable_dueling_network=config.dueling,
        terminal_on_life_loss=config.terminal_on_life_loss,
        num_quantiles=config.num_quantiles,
    )
    learning_rate = keras.optimizers.schedules.PolynomialDecay(
        config.learning_rate,
        decay_steps=config.num_updates,
        end_learning_rate=config.learning_rate * config.learning_rate_end,
    )
    dqn.compile(keras.optimizers.Adam(learning_rate, epsilon=config.adam_epsilon))
    return dqn


def main() -> int:
    """Checks everything that can be checked before an hour has passed, then trains."""
    arguments = _parse_arguments()
    await_lock(arguments)
    run = resumed_run(arguments) if arguments.resume else new_run(arguments)
    if arguments.resume and is_done(run):
        words = f"{run.folder} has done its {run.steps:,} steps, and {run.out} is its policy; for more, raise --steps."
        console.say(console.screen(), words)
        return console.DONE
    try:
        with Workers(_num_workers(arguments.workers, run.config)) as workers:
            return _train(run, arguments, workers)
    except WorkerError as error:
        raise console.UsageError(f"{error}; --workers 0 does without.") from error


def _train(run: Run, arguments: argparse.Namespace, workers: Workers) -> int:
    console.start_keras()
    from training.measurement import check_memory, settle_by_measurement
    from training.session import Training

    bytes_needed = check_memory(run.config, workers.number)
    screen = console.screen()
    build = partial(build_environments, workers=workers)
    run = settle_by_measurement(run, arguments.minutes, screen, build, build_agent)
    environments = build(run.config)
    agent = build_agent(run.config, environments)
    with sole_owner(run, arguments) as run:
        console.say(screen, opening_words(run, arguments, bytes_needed))
        return Training(run, agent, environments, screen, workers, arguments.checkpoint_steps).fit()


def _num_workers(given: int | None, config: Config) -> int:
    games = config.num_environments
    if given is None:
        return default_workers(games)
    if given > games:
        raise console.UsageError(
            f"--workers is {given}, but there are {games} games to deal out; give at most {games}."
        )
    return given


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: policy.h5; smoke.h5 with --preset smoke)")
    parser.add_argument(
        "--run", metavar="NAME", help="name of this run's folder in --runs-dir (default: game and time)"
    )
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where runs have their folders (default: runs)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        metavar="runs/NAME",
        help="go on with a run that was stopped or killed, or with --steps that is done (default: the newest)",
    )
    parser.add_argument(
        "--minutes",
        type=console.number(float, 1, 100_000),
        metavar="M",
        help="train as many steps as fit into this time",
    )
    parser.add_argument(
        "--workers",
        type=console.number(int, 0),
        metavar="N",
        help=f"processes that the games are played in; 0: this one (default here: {default_workers(256)}). The results "
        "are the same for any number",
    )
    parser.add_argument("--list-games", action=_ListGames, nargs=0, help="show every game with its scores, and exit")
    parser.add_argument(
        "--checkpoint-steps",
        type=console.number(int, 1, MOST),
        default=25_000,
        metavar="N",
        help="agent steps from one checkpoint, and policy saved, to the next (default: 25,000). The results are the "
        "same for any number",
    )
    parser.add_argument(
        "--wait-for-lock",
        type=console.number(float, 0, 10**6),
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for another process that trains in the same folder to end (default: 0)",
    )
    add_options(parser)
    arguments = parser.parse_args()
    if arguments.minutes is not None and arguments.steps is not None:
        raise console.UsageError("--steps and --minutes both say how long to train; give one of them.")
    return arguments


class _ListGames(argparse.Action):
    """As argparse's `version`: prints and ends."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        print(list_of_games())
        parser.exit(console.DONE)


if __name__ == "__main__":
    console.run(main, FileError, UnknownGameError)
