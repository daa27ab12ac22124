"""Any environment, with the interface of 2016 that keras-rl's loops call; and what Gymnasium lacks of Gym's."""

import contextlib
import inspect
import re
from typing import Any

import gymnasium
import numpy as np

OWN_ATTRIBUTES = ("_environment", "_returns")


class KerasRLEnvironment:
    """An environment whose `reset()` returns the observation alone, and whose `step(action)` returns four values.

    What the environment inside speaks is seen in what it returns, not in its class. `reset()` returns an observation,
    or a tuple of an observation and a dict; `step()` returns four values, or Gymnasium's five. What it returned first
    it has to return ever after. A truncation (the time is up, but the state is not terminal) sets `done` and, as in
    the last versions of Gym, `info["TimeLimit.truncated"] = True`; where five values come, the key is in every `info`.

    Everything else is the environment's own: what a callback reads of this, or sets, it reads and sets there.

    Args:
        environment: Anything with `reset()` and `step(action)`. It stays open: it belongs to whoever made it.

    Raises:
        TypeError: If it has no `reset` or `step`, or is many environments in one.
        ValueError: If it returns something else than these, later, or a reward that is not one number.
    """

    def __init__(self, environment: Any) -> None:
        if not (hasattr(environment, "reset") and hasattr(environment, "step")):
            raise TypeError(
                f"Got {type(environment).__name__} {str(environment)[:60]!r}, expected an environment with reset() and "
                'step(), such as gymnasium.make("CartPole-v1").'
            )
        if hasattr(environment, "num_envs"):
            raise TypeError(
                f"{type(environment).__name__} is a vector environment; expected a single one. keras_rl.DQNAgent takes "
                "a list of single ones as well."
            )
        self._environment = environment
        self._returns: dict[str, str] = {}  # by method: what it returned first

    def __getattr__(self, name: str) -> Any:
        if name in OWN_ATTRIBUTES:  # in a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._environment, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OWN_ATTRIBUTES:
            super().__setattr__(name, value)
        else:
            setattr(self._environment, name, value)

    def reset(self, **kwargs):
        """The first observation of an episode."""
        returned = self._environment.reset(**kwargs)
        if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], dict):
            self._hold_to("reset", "an observation and a dict")
            return returned[0]
        self._hold_to("reset", "an observation")
        return returned

    def step(self, action) -> tuple[Any, Any, bool, dict[str, Any]]:
        """The observation, the reward, whether the episode is over, and `info`, a dict in any case."""
        return self._in_four(self._environment.step(action))

    def receive(self) -> tuple[Any, Any, bool, dict[str, Any]]:
        """The same of the step that was begun with `send(action)`, by an environment in another process."""
        return self._in_four(self._environment.receive())

    def _in_four(self, returned: Any) -> tuple[Any, Any, bool, dict[str, Any]]:
        number = len(returned) if isinstance(returned, (tuple, list)) else 1
        if number not in (4, 5):
            raise ValueError(
                f"{self._name}.step() returned {number} value(s), expected Gymnasium's observation, reward, "
                "terminated, truncated, info, or Gym's observation, reward, done, info."
            )
        self._hold_to("step", f"{number} values")
        observation, reward, *ends, info = returned
        if reward is None or np.ndim(reward):
            raise ValueError(
                f"{self._name}.step() returned the reward {str(reward)[:60]}, of shape {np.shape(reward)}; expected "
                "one number: return float(reward)."
            )
        info = info if isinstance(info, dict) else {}
        if number == 5:
            terminated, truncated = ends
            info = {**info, "TimeLimit.truncated": bool(truncated and not terminated)}
        return observation, reward, any(map(bool, ends)), info

    def render(self, mode: str = "human", close: bool = False) -> Any:
        """What the environment's own `render` returns; it gets `mode` only if it takes it, as Gym's did."""
        render = self._environment.render
        return render(mode=mode) if "mode" in inspect.signature(render).parameters else render()

    def _hold_to(self, method: str, returned: str) -> None:
        first = self._returns.setdefault(method, returned)
        if first != returned:
            raise ValueError(
                f"{self._name}.{method}() returned {returned}, but {first} before; expected one of the two."
            )

    @property
    def _name(self) -> str:
        return type(self._environment).__name__


def as_keras_rl_environment(env: Any) -> KerasRLEnvironment:
    """`env` itself if it is a `KerasRLEnvironment`, else one around it."""
    return env if isinstance(env, KerasRLEnvironment) else KerasRLEnvironment(env)


def inner_environment(env: Any) -> Any:
    """What is in a `KerasRLEnvironment`, or `env` if it is none."""
    return env._environment if isinstance(env, KerasRLEnvironment) else env


def is_number(value: Any) -> bool:
    """Whether a value of `info` is one number, a truth value included, which can be summed and averaged."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "biuf"
    return isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating))


def restore_gym() -> None:
    """Gives Gymnasium back what keras-rl's scripts call and Gym had; nothing that Gymnasium has itself is lost.

    - `env.seed(seed)`: the next episodes are those after `env.reset(seed=seed)`.
    - `env.action_space.n` is a Python int, as it was until 2022; Keras 3's `Dense` refuses a `numpy.int64`.
    - Atari games by their names of then, `BreakoutDeterministic-v4` included, if ale-py is installed.
    """
    if not hasattr(gymnasium.Env, "seed"):
        gymnasium.Env.seed = _seed  # type: ignore[attr-defined]
    if "n" not in vars(gymnasium.spaces.Discrete):
        gymnasium.spaces.Discrete.n = property(_get_n, _set_n)  # type: ignore[assignment, misc]
    with contextlib.suppress(ImportError):
        import ale_py  # noqa: F401, registers its games
    for spec in list(gymnasium.registry.values()):
        old_id = re.sub(r"NoFrameskip(-v[04])$", r"Deterministic\1", spec.id)
        if old_id not in gymnasium.registry:
            gymnasium.register(old_id, spec.entry_point, kwargs={**spec.kwargs, "frameskip": 4})


def _seed(self: gymnasium.Env, seed: int | None = None) -> list[int | None]:
    """Gym's `seed`: the episodes from the next `reset` on follow from it."""
    self.reset(seed=seed)
    return [seed]


def _get_n(self: gymnasium.spaces.Discrete) -> int:
    return int(vars(self)["n"])


def _set_n(self: gymnasium.spaces.Discrete, n: Any) -> None:
    vars(self)["n"] = n
