"""Short measurements before a long training: what this machine does, and how fast."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import psutil
from rich.console import Console

import console
from config import Config
from environments.atari import random_play
from keras_rl import rl
from keras_rl.memory import SequentialMemory
from models.policy_file import WINDOW_LENGTH
from processors.atari import AtariProcessor
from training.run import Run

BYTES_OF_WORKER = 60_000_000
BYTES_OF_PROGRAM = 1_200_000_000  # TensorFlow, networks, optimizer
SHARE_OF_EVALUATIONS = 0.25  # of the time, at most, if there is more than one
SPEED_THAT_LASTS = 0.95  # of that measured at the start: the memory outgrows the caches, checkpoints are written


def bytes_per_observation(game: str, steps: int = 1_000) -> float:
    """What an observation takes in the replay memory, from some random play: 0.3 kB in Pong, 1 kB in Ms. Pac-Man."""
    processor, memory = AtariProcessor(), SequentialMemory(steps, WINDOW_LENGTH)
    for screen, _, _ in random_play(game, steps):
        memory.append(processor.process_observation(screen), 0, 0.0, False)
    return 1.2 * memory.nbytes / steps  # later levels may show more than the first


def steps_per_game(game: str, steps: int = 3_000) -> float:
    """How long a random player's games last, in agent steps; at most `steps`, which are played for it."""
    return steps / max(1, sum(ended for _, _, ended in random_play(game, steps)))


def fit_into(config: Config, steps: float, game_steps: float) -> Config:
    """Divides the agent steps that a time allows between the training and its evaluations.

    A step takes about as long in both: an evaluation does not learn, but plays fewer games side by side. A game
    lasts some 600 steps more after 1,000,000 steps of training than 1.5 times as long as a random player's, the median
    of eight games. Where it lasts long, as in Name This Game, there are fewer evaluations; the one at the end stays.

    Args:
        config: Of the training; its `steps` are replaced, and its `evaluations` where they are too many.
        steps: That fit into the time. The training gets at least half of them.
        game_steps: See `steps_per_game`.
    """
    evaluation_steps = config.evaluation_games * (1.5 * game_steps + 600 * min(1.0, steps / 1_000_000))
    affordable = max(1, int(SHARE_OF_EVALUATIONS * steps / evaluation_steps))
    evaluations = min(config.evaluations, affordable)
    of_training = max(steps - evaluations * evaluation_steps, steps / 2)
    return dataclasses.replace(config, steps=max(1_000, int(of_training)), evaluations=evaluations)


def seconds_per_update(agents: dict, batch_size: int, rounds: int = 10) -> dict[str, float]:
    """The fastest of some updates of each agent, taken in turn: other work on the machine then spoils neither."""
    states = np.random.default_rng(0).integers(256, size=(batch_size, WINDOW_LENGTH, 84, 84), dtype=np.uint8)
    action, zeros = np.zeros(batch_size, np.int32), np.zeros(batch_size, np.float32)
    fastest = dict.fromkeys(agents, float("inf"))
    for round_number in range(1 + rounds):
        for name, agent in agents.items():
            started = time.perf_counter()
            keras.ops.convert_to_numpy(agent.learner.update(states, action, zeros, states, zeros))
            if round_number:  # the first one compiles
                fastest[name] = min(fastest[name], time.perf_counter() - started)
    return fastest


def steps_per_second(agent, environments: list, first_step: int, seconds: float = 4.0) -> float:
    """How fast an agent trains from `first_step` on.

    Raises:
        KeyboardInterrupt: If that was stopped.
    """
    speed_test = _SpeedTest(first_step, seconds)
    agent.fit(environments, nb_steps=10**9, callbacks=[speed_test], verbose=0)
    if not speed_test.done:  # fit() also ends at Ctrl-C
        raise KeyboardInterrupt
    return speed_test.steps_per_second


def check_memory(config: Config, num_workers: int = 0) -> int:
    """The bytes that the training will need; refuses, before anything is allocated, what the machine does not have."""
    per_observation = bytes_per_observation(config.game, min(config.steps, 1_000))
    program, present = BYTES_OF_PROGRAM + num_workers * BYTES_OF_WORKER, psutil.virtual_memory().total
    needed = program + int(config.memory_size * per_observation)
    if needed > present:
        raise console.UsageError(
            f"--memory-size {config.memory_size:,} needs about {needed / 1e9:,.1f} GB and this machine has "
            f"{present / 1e9:.1f} GB; at most {max(0, int((present - program) / per_observation)):,} fit."
        )
    return needed


def settle_by_measurement(
    run: Run,
    minutes: float | None,
    screen: Console,
    build_environments: Callable[[Config], list],
    build_agent: Callable[[Config, list], Any],
) -> Run:
    """Decides what depends on the machine, if it is open: number format and, for --minutes, steps and evaluations."""
    config = run.config
    if config.precision != "auto" and minutes is None:
        return run

    console.say(screen, "Measuring how fast this machine is ...")
    started = time.monotonic()
    trial = dataclasses.replace(config, steps=10**6, warmup_steps=1_000, memory_size=20_000)
    environments = build_environments(trial)
    precisions = ("float32", "bfloat16") if config.precision == "auto" else (config.precision,)
    agents = {name: build_agent(dataclasses.replace(trial, precision=name), environments) for name in precisions}
    with console.quiet_tensorflow():  # it remarks on bfloat16 where the CPU has no instructions for it
        update_seconds = seconds_per_update(agents, config.batch_size)
    precision = min(update_seconds, key=update_seconds.__getitem__)
    first_step = trial.first_update_step + 10 * trial.train_interval
    speed = SPEED_THAT_LASTS * steps_per_second(agents[precision], environments, first_step)
    for environment in environments:
        environment.close()
    config = dataclasses.replace(config, precision=precision)
    the_rest = ""
    if minutes is not None:
        game_steps = steps_per_game(config.game)
        seconds_left = 60 * minutes - (time.monotonic() - started)
        config = fit_into(config, speed * max(0.0, seconds_left), game_steps)
        if config.evaluations:
            the_rest = f", {console.counted(config.evaluations, 'evaluation')} the rest"
        if config.evaluations < run.config.evaluations:
            the_rest += f" ({run.config.evaluations} would take too long)"
    updates = ", ".join(f"{1_000 * seconds:.1f} ms in {name}" for name, seconds in update_seconds.items())
    console.say(
        screen,
        f"Measured here: an update takes {updates}. {config.steps:,} steps in {precision} will take about "
        f"{console.duration(config.steps / speed)}{the_rest}.",
    )
    return dataclasses.replace(run, config=config, steps=config.steps)


class _SpeedTest(rl.callbacks.Callback):
    """Measures `steps_per_second` from `first_step` on, for `seconds`, then ends the training."""

    def __init__(self, first_step: int, seconds: float) -> None:
        super().__init__()
        self.first_step = first_step
        self.seconds = seconds
        self.done = False

    def on_step_end(self, step: int, logs=None) -> None:
        if self.model.step == self.first_step:
            self._started = time.monotonic()
        elif self.model.step > self.first_step:
            elapsed = time.monotonic() - self._started
            self.steps_per_second = (self.model.step - self.first_step) / elapsed
            self.model.stop_training = self.done = elapsed >= self.seconds
