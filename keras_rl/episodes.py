"""One environment being stepped by an agent, episode after episode."""

import warnings
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from keras_rl.adapter import as_keras_rl_environment, inner_environment, is_number

COUNTERS = ("episode", "episode_step", "episode_reward", "episode_score")


class Step(NamedTuple):
    """What an action led to."""

    reward: float  # as the processor gave it, summed over the repetitions of the action
    terminated: bool  # the new state is terminal
    episode_end: bool  # terminated, or truncated: the time is up
    life_lost: bool  # the environment's info["life_lost"]
    info: dict[str, Any]  # the environment's numbers, summed over the repetitions


class Stepper:
    """Steps one environment, episode after episode, as keras-rl's loop does, with its callbacks at the same places.

    Args:
        env: An environment, with Gymnasium's interface or keras-rl's.
        stream: Which of the memory's streams belongs to it.
        processor: keras-rl `Processor` or None.
        callbacks: keras-rl `CallbackList`.
        action_repetition: Number of times each action is given to the environment.
        nb_max_start_steps: Each episode starts with 0 to `nb_max_start_steps - 1` steps that nobody learns from.
        start_step_policy: observation -> action for these. Default: random actions.
        nb_max_episode_steps: Number of steps after which an episode is truncated.

    Raises:
        ValueError: If `action_repetition` is below 1.
    """

    def __init__(
        self,
        env,
        stream: int,
        processor,
        callbacks,
        action_repetition: int = 1,
        nb_max_start_steps: int = 0,
        start_step_policy=None,
        nb_max_episode_steps: int | None = None,
    ) -> None:
        if action_repetition < 1:
            raise ValueError(f"action_repetition must be >= 1, is {action_repetition}.")
        self.env = as_keras_rl_environment(env)
        self.stream = stream
        self.processor = processor
        self.callbacks = callbacks
        self.action_repetition = action_repetition
        self.nb_max_start_steps = nb_max_start_steps
        self.start_step_policy = start_step_policy
        self.nb_max_episode_steps = nb_max_episode_steps or np.inf
        self.observation: Any = None  # None between episodes
        self.episode = self.episode_step = 0
        self.episode_reward = self.episode_score = 0.0
        inner = inner_environment(env)  # which may take its steps in another process
        self._send = getattr(inner, "send", None) if hasattr(inner, "receive") else None
        self._sent: list = []  # the action of a step that it has begun

    def begin_episode(self, episode: int) -> None:
        """Resets the environment and takes the random start steps."""
        self.episode = episode
        self.episode_step = 0
        self.episode_reward = 0.0
        self.episode_score = 0.0
        self.callbacks.on_episode_begin(episode)
        self.observation = self._reset()
        start_steps = np.random.randint(self.nb_max_start_steps) if self.nb_max_start_steps else 0
        for _ in range(start_steps):
            policy = self.start_step_policy
            action = self.env.action_space.sample() if policy is None else policy(self.observation)
            self.observation, _, done, _ = self._act(action)
            if done:
                warnings.warn(
                    f"The episode ended within its {start_steps} start steps; lower nb_max_start_steps.",
                    stacklevel=2,
                )
                self.observation = self._reset()
                break

    def begin_step(self, action: int) -> None:
        """Lets an environment in another process begin the step that `step` is called for next."""
        if self._send is not None:
            self._sent = [self._processed(action)]
            self._send(*self._sent)

    def step(self, action: int) -> Step:
        """Takes one agent step; `observation` is the new one afterwards, also at an episode's end."""
        reward, done, info = 0.0, False, {}
        total_info: dict[str, Any] = {}
        for _ in range(self.action_repetition):
            self.observation, part, done, info = self._act(action)
            reward += part
            for key, value in info.items():
                if is_number(value):
                    total_info[key] = total_info.get(key, 0) + value
            if done:
                break
        terminated = done and not info.get("TimeLimit.truncated", False)
        self.episode_step += 1
        self.episode_reward += reward
        episode_end = done or self.episode_step >= self.nb_max_episode_steps
        return Step(reward, terminated, episode_end, bool(info.get("life_lost", False)), total_info)

    def end_episode(self, nb_steps: int) -> None:
        """Reports the episode. `nb_steps` as in keras-rl: steps so far in training, of the episode in a test."""
        logs = {
            "episode_reward": self.episode_reward,
            "episode_score": self.episode_score,
            "nb_episode_steps": self.episode_step,
            "nb_steps": nb_steps,
        }
        self.observation = None
        self.callbacks.on_episode_end(self.episode, logs)

    def get_state(self) -> dict[str, Any]:
        """Where the game and its counters are.

        Raises:
            TypeError: If the environment cannot tell.
        """
        environment = require_state(self.env).get_state()
        counters = {name: getattr(self, name) for name in COUNTERS}
        return {"environment": environment, "observation": self.observation, **counters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes back to where `get_state` was called, but for the environment."""
        self.observation = state["observation"]
        for name in COUNTERS:
            setattr(self, name, state[name])

    def _reset(self):
        observation = deepcopy(self.env.reset())
        return observation if self.processor is None else self.processor.process_observation(observation)

    def _processed(self, action):
        return action if self.processor is None else self.processor.process_action(action)

    def _act(self, action):
        """One action, once: (observation, reward, done, info) as the processor gives them."""
        sent, self._sent = self._sent, []
        action = sent[0] if sent else self._processed(action)
        self.callbacks.on_action_begin(action)
        observation, reward, done, info = self.env.receive() if sent else self.env.step(action)
        self.episode_score += reward
        observation = deepcopy(observation)
        if self.processor is not None:
            observation, reward, done, info = self.processor.process_step(observation, reward, done, info)
        self.callbacks.on_action_end(action)
        return observation, float(reward), bool(done), info


def require_state(env):
    """The environment that has the state: `env`, or what is in the adapter.

    Raises:
        TypeError: If it cannot tell its state.
    """
    env = inner_environment(env)
    if not (hasattr(env, "get_state") and hasattr(env, "set_state")):
        raise TypeError(
            f"{type(env).__name__} has no get_state() and set_state(), so a training on it cannot be resumed; "
            "environments.atari.AtariEnvironment shows what they have to do."
        )
    return env
