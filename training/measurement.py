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
from environments.atari import AtariEnvironment
from keras_rl import rl
from keras_rl.memory import SequentialMemory
from models.policy_file import WINDOW_LENGTH
from processors.atari import AtariProcessor
from training.run import Run

BYTES_OF_WORKER = 60_000_000
BYTES_OF_PROGRAM = 1_200_000_000  # TensorFlow, networks, optimizer
SECONDS_OF_EVALUATION_GAME = 0.5  # a beginner's; a master's are longer, but in a longer training
SHARE_OF_EVALUATIONS = 0.05  # of the time, at least
SPEED_THAT_LASTS = 0.95  # of that measured at the start: the memory outgrows the caches, checkpoints are written


def bytes_per_observation(game: str, steps: int = 1_000) -> float:
    """What an observation takes in the replay memory, from some random play: 0.3 kB in Pong, 1 kB in Ms. Pac-Man."""
    environment, processor, memory = (
        AtariEnvironment(game=game),
        AtariProcessor(),
        SequentialMemory(steps, WINDOW_LENGTH),
    )
    observation, _ = environment.reset(seed=0)
    environment.action_space.seed(0)
    for _ in range(steps):
        memory.append(processor.process_observation(observation), 0, 0.0, False)
        observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        if terminated or truncated:
            observation, _ = environment.reset()
    return 1.2 * memory.nbytes / steps  # later levels may show more than the first


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
    """Decides what depends on the machine, if it is open: the number format and, for --minutes, the number of steps."""
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
    if minutes is not None:
        seconds_left = 60 * minutes - (time.monotonic() - started)
        if config.evaluations:
            of_games = SECONDS_OF_EVALUATION_GAME * config.evaluations * config.evaluation_games
            seconds_left -= min(max(of_games, SHARE_OF_EVALUATIONS * seconds_left), seconds_left / 2)
        config = dataclasses.replace(config, steps=max(1_000, int(speed * seconds_left)))
    updates = ", ".join(f"{1_000 * seconds:.1f} ms in {name}" for name, seconds in update_seconds.items())
    console.say(
        screen,
        f"Measured here: an update takes {updates}. {config.steps:,} steps in {precision} will take about "
        f"{console.duration(config.steps / speed)}.",
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
