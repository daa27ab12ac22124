"""Short measurements before a long training: what this machine does, and how fast."""

import time

import numpy as np

from environments.atari import AtariEnvironment
from keras_rl import rl
from memory.replay import SequentialMemory
from models.policy_file import WINDOW_LENGTH
from processors.atari import AtariProcessor


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
            np.asarray(agent.learner.update(states, action, zeros, states, zeros))
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
