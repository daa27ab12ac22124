"""Trains a Deep Q-Network on an Atari game, the keras-rl way, and saves it as policy.h5.

    python train.py                              Breakout, 4,000,000 agent steps
    python train.py --game pong --minutes 30     another game, as far as it gets in half an hour
    python train.py --preset keras-rl            keras-rl's own example, setting for setting
    python train.py --resume                     go on with the newest run, exactly where it stopped

Ctrl-C finishes the step, saves and ends.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import filelock
import numpy as np
import psutil
from rich.console import Console

import console
from config import Config, Run, add_options, config_from, flag, up_to_date
from environments.atari import AtariEnvironment, UnknownGameError, canonical_game
from models.policy_file import WINDOW_LENGTH, PolicyFileError, check_writable, load_policy

BYTES_OF_PROGRAM = 1_200_000_000  # TensorFlow, networks, optimizer
SECONDS_OF_EVALUATION_GAME = 0.5  # a beginner's; a master's are longer, but in a longer training
SHARE_OF_EVALUATIONS = 0.05  # of the time, at least
SPEED_THAT_LASTS = 0.95  # of that measured at the start: the memory outgrows the caches, checkpoints are written
NEWEST = "the newest"


def build_environments(config: Config) -> list[AtariEnvironment]:
    """The games played side by side, each with a seed of its own."""
    environments, share = [], config.keras_rl_views
    for index in range(config.num_environments):
        own_view = int((index + 1) * share) == int(index * share)
        environments.append(
            AtariEnvironment(game=config.game, sticky=config.sticky, max_of_two=own_view, press_fire=own_view)
        )
    for index, environment in enumerate(environments):
        environment.reset(seed=1_000 * config.seed + index)
        environment.action_space.seed(1_000 * config.seed + index)
    return environments


def build_agent(config: Config, environments: list[AtariEnvironment]):
    """Network, processor, memory, policy and agent, put together as in keras-rl's Atari example."""
    import keras  # here, and not above: with TensorFlow it takes seconds, and --help should not

    from agents.dqn import DQNAgent
    from agents.learner import set_compute_dtype
    from keras_rl import rl
    from memory.prioritized import PrioritizedMemory
    from memory.replay import SequentialMemory
    from models.nature_cnn import nature_cnn
    from processors.atari import AtariProcessor

    # keras-rl's policies draw from NumPy's global generator, Keras' initial weights come from its own.
    keras.utils.set_random_seed(config.seed)
    nb_actions = int(environments[0].action_space.n)
    model = nature_cnn(nb_actions, window_length=WINDOW_LENGTH)
    set_compute_dtype(model, config.precision)
    memory_type = partial(PrioritizedMemory, alpha=config.priority_alpha) if config.priority_alpha else SequentialMemory
    memory = memory_type(
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
        processor=AtariProcessor(log_rewards=config.log_rewards, life_loss_penalty=config.life_loss_penalty),
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
    run = _resumed_run(arguments) if arguments.resume else _new_run(arguments)
    check_writable(run.out)
    if run.config.start_from and not arguments.resume:
        load_policy(run.config.start_from, nb_actions=int(AtariEnvironment(game=run.config.game).action_space.n))
    console.start_keras()
    console.require_tensorflow("Training")
    from training import Training

    bytes_needed = _check_memory(run.config)
    with _sole_owner(run.folder, new=not arguments.resume):
        screen = Console(highlight=False)
        length = f"{run.steps:,} agent steps" if arguments.minutes is None else f"{arguments.minutes:g} minutes"
        screen.print(
            f"{'Going on with' if arguments.resume else 'Training'} {run.config.game} for {length} into {run.out}, "
            f"numbers into {run.folder}. It will need up to {bytes_needed / 1e9:.1f} GB of memory.",
            soft_wrap=True,
        )
        if run.config.precision == "auto" or arguments.minutes is not None:
            config = settle_by_measurement(run.config, arguments.minutes, screen)
            run = dataclasses.replace(run, config=config, steps=config.steps)
        environments = build_environments(run.config)
        return Training(run, build_agent(run.config, environments), environments, screen).fit()


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: policy.h5)")
    parser.add_argument("--run", metavar="NAME", help="name of this run's folder in runs/ (default: game and time)")
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
    add_options(parser)
    arguments = parser.parse_args()
    if arguments.minutes is not None and arguments.steps is not None:
        raise console.UsageError("--steps and --minutes both say how long to train; give one of them.")
    return arguments


def _new_run(arguments: argparse.Namespace) -> Run:
    config = config_from(arguments)
    config = dataclasses.replace(config, game=canonical_game(config.game))
    name = arguments.run or f"{config.game}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if Path(name).name != name:
        raise console.UsageError(f"--run is {name!r}; give a plain name, it becomes a folder in runs/.")
    return Run(Path("runs", name), config, arguments.out or Path("policy.h5"), config.steps)


def _resumed_run(arguments: argparse.Namespace) -> Run:
    """The run that --resume names, with what may be changed about it."""
    folder = Path(arguments.resume)
    if arguments.resume == NEWEST:
        runs = sorted(Path("runs").glob("*/config.json"), key=lambda path: path.stat().st_mtime)
        if not runs:
            raise console.UsageError("There is no run in runs/ to resume; start one with python train.py.")
        folder = runs[-1].parent
    try:
        facts = json.loads((folder / "config.json").read_text())
        out, steps = Path(facts.pop("out")), int(facts.pop("train_until_step"))
        changes = tuple(map(dict, facts.pop("changes", ())))
        config = Config(**up_to_date(facts))
    except OSError as error:
        raise console.UsageError(
            f"--resume is {folder}, and {folder / 'config.json'} cannot be read ({error.strerror}); "
            "give the folder of a run, such as runs/NAME."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, console.UsageError) as error:
        raise console.UsageError(f"{folder / 'config.json'} is not one that train.py wrote ({error}).") from error
    for name in ("run", "minutes", *(["preset"] if arguments.preset != "default" else [])):
        if getattr(arguments, name) is not None:
            raise console.UsageError(f"--{name} does not go with --resume; leave it out, or start a new run.")
    new = {}
    for field in dataclasses.fields(Config):
        given, was = getattr(arguments, field.name), getattr(config, field.name)
        if field.name == "steps" or given is None or given == was:
            continue
        if not field.metadata["changeable"]:
            raise console.UsageError(f"{flag(field)} was {was} when {folder} began and cannot change; leave it out.")
        new[field.name] = given
    if arguments.steps is not None and arguments.steps < steps:
        raise console.UsageError(f"--steps is {arguments.steps:,}, but {folder} goes to {steps:,}; give more, or none.")
    changes += (new,) if new else ()
    return Run(folder, dataclasses.replace(config, **new), arguments.out or out, arguments.steps or steps, changes)


@contextlib.contextmanager
def _sole_owner(folder: Path, new: bool) -> Iterator[None]:
    """Makes the folder of a new run, and keeps other processes out of it, until this one ends in whatever way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise console.UsageError(f"Another process is training in {folder}; wait for it, or stop it.") from None
    except OSError as error:
        raise console.UsageError(f"{folder} cannot be made ({error.strerror}); start from another folder.") from None
    with lock:
        if new and (folder / "config.json").exists():
            raise console.UsageError(
                f"There is a run in {folder} already; give another name with --run, or go on with it with --resume."
            )
        yield


def _check_memory(config: Config) -> int:
    """The bytes that the training will need; refuses, before anything is allocated, what the machine does not have."""
    from measurement import bytes_per_observation

    per_observation = bytes_per_observation(config.game)
    needed, present = BYTES_OF_PROGRAM + int(config.memory_size * per_observation), psutil.virtual_memory().total
    if needed > present:
        raise console.UsageError(
            f"--memory-size {config.memory_size:,} needs about {needed / 1e9:,.1f} GB and this machine has "
            f"{present / 1e9:.1f} GB; at most {max(0, int((present - BYTES_OF_PROGRAM) / per_observation)):,} fit."
        )
    return needed


def settle_by_measurement(config: Config, minutes: float | None, screen: Console) -> Config:
    """Decides what depends on the machine: the number format and, for --minutes, the number of steps."""
    from callbacks.progress import duration
    from measurement import seconds_per_update, steps_per_second

    started = time.monotonic()
    trial = dataclasses.replace(config, steps=10**6, warmup_steps=1_000, memory_size=20_000)
    environments = build_environments(trial)
    precisions = ("float32", "bfloat16") if config.precision == "auto" else (config.precision,)
    agents = {name: build_agent(dataclasses.replace(trial, precision=name), environments) for name in precisions}
    update_seconds = seconds_per_update(agents, config.batch_size)
    precision = min(update_seconds, key=update_seconds.__getitem__)
    first_step = trial.first_update_step + 10 * trial.train_interval
    speed = SPEED_THAT_LASTS * steps_per_second(agents[precision], environments, first_step)
    config = dataclasses.replace(config, precision=precision)
    if minutes is not None:
        seconds_left = 60 * minutes - (time.monotonic() - started)
        if config.evaluations:
            of_games = SECONDS_OF_EVALUATION_GAME * config.evaluations * config.evaluation_games
            seconds_left -= min(max(of_games, SHARE_OF_EVALUATIONS * seconds_left), seconds_left / 2)
        config = dataclasses.replace(config, steps=max(1_000, int(speed * seconds_left)))
    updates = ", ".join(f"{1_000 * seconds:.1f} ms in {name}" for name, seconds in update_seconds.items())
    screen.print(
        f"Measured here: an update takes {updates}. {config.steps:,} steps in {precision} will take about "
        f"{duration(config.steps / speed)}.",
        soft_wrap=True,
    )
    return config


if __name__ == "__main__":
    console.run(main, UnknownGameError, PolicyFileError)
