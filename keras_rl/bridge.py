"""keras-rl2 1.0.5, made importable and correct on Keras 3, current TensorFlow and NumPy 2.

    from keras_rl import rl          # or: import keras_rl; from rl.agents.dqn import DQNAgent

keras-rl2 (archived in 2021) stays as the package registry has it. While it is being imported, `tensorflow`
resolves to a stand-in made of Keras 3; afterwards a few of its functions are replaced, each named below with
the line of keras-rl2 that it answers to. Keras, NumPy and TensorFlow are left exactly as they were, eager
execution included. Import this module from one thread, as any module that others depend on.
"""

import contextlib
import functools
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import gymnasium
import keras
import numpy as np

from keras_h5.layers import load_weights, save_weights


def _module(name: str, *sources: types.ModuleType, **attributes: object) -> types.ModuleType:
    """A module with the public names of `sources`, then `attributes`."""
    module = types.ModuleType(name)
    for source in sources:
        vars(module).update({key: value for key, value in vars(source).items() if key[0] != "_"})
    vars(module).update(attributes)
    return module


class Keras2Model(keras.Model):
    """A functional model that trains and saves as Keras 2's did, for keras-rl2's stock agents."""

    def compile(self, metrics=None, **kwargs):
        # rl/agents/dqn.py:341 reads the names before the first batch and drops entries 1 and 2, the two losses.
        self._names = ["loss", *(f"{output}_loss" for output in self.output_names)]
        for output, functions in (metrics or {}).items():
            self._names += [f"{output}_{f if isinstance(f, str) else f.__name__}" for f in functions]
        super().compile(metrics=metrics, **kwargs)

    @property
    def metrics_names(self) -> list[str]:
        return list(self._names)

    def train_on_batch(self, x, y):
        # Keras 2 reported this batch; Keras 3 reports the running mean since the last reset.
        self.reset_metrics()
        logs = super().train_on_batch(x, y, return_dict=True)
        return [float(logs.get(name, np.nan)) for name in self._names]


def clone_model(model: keras.Model, custom_objects: dict | None = None) -> keras.Model:
    """A copy of `model` with layers and weights of its own.

    rl/util.py:15 goes through the configuration, from which Keras 3 does not make a `Lambda` layer again. Such a
    layer has no weights here, so the copy may share it.
    """

    def clone_layer(layer):
        if isinstance(layer, keras.layers.Lambda):
            return layer
        return type(layer).from_config(layer.get_config())

    with keras.saving.custom_object_scope(custom_objects or {}):
        clone = keras.models.clone_model(model, clone_function=clone_layer)
    clone.set_weights(model.get_weights())
    return clone


@contextlib.contextmanager
def _tensorflow_made_of_keras_3() -> Iterator[None]:
    """Lets the import statements in keras-rl2 that name `tensorflow` find Keras 3's equivalents.

    - rl/util.py:3 imports `model_from_config`, which Keras 3 does not have.
    - rl/agents/ddpg.py:9 switches eager execution off for the whole process.
    - rl/callbacks.py:9 takes `CallbackList` from a private copy of Keras 2 that refuses Keras 3's callbacks.
    - `tensorflow.keras.backend` exists only with TensorFlow; `keras.ops` has the same functions everywhere.
    """
    modules = {
        "keras": _module("tensorflow.keras", keras, __version__=keras.__version__),
        "keras.backend": _module("tensorflow.keras.backend", keras.ops, keras.backend),
        "keras.callbacks": keras.callbacks,
        "keras.layers": keras.layers,
        "keras.models": _module("tensorflow.keras.models", keras.models, Model=Keras2Model, model_from_config=None),
        "keras.optimizers": keras.optimizers,
        "python": _module("tensorflow.python"),
        "python.keras": _module("tensorflow.python.keras"),
        "python.keras.callbacks": keras.callbacks,
        "python.keras.utils": _module("tensorflow.python.keras.utils"),
        "python.keras.utils.generic_utils": keras.utils,
    }
    v1 = types.SimpleNamespace(disable_eager_execution=lambda: None)
    root = _module("tensorflow", keras=modules["keras"], compat=types.SimpleNamespace(v1=v1))
    vars(modules["keras"])["backend"] = modules["keras.backend"]
    stand_ins = {"tensorflow": root, **{f"tensorflow.{name}": module for name, module in modules.items()}}
    originals = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, original in originals.items():
            if original is None:
                del sys.modules[name]
            else:
                sys.modules[name] = original


with _tensorflow_made_of_keras_3():
    import rl
    import rl.agents
    import rl.callbacks
    import rl.core
    import rl.memory
    import rl.policy
    import rl.processors


class KerasRLEnvironment(rl.core.Env):
    """A Gymnasium environment with the interface of 2016 that keras-rl's loops call.

    `reset()` returns the observation alone and `step(action)` four values. A truncation (the time is up, but
    the state is not terminal) sets `done` and, as in the last versions of Gym,
    `info["TimeLimit.truncated"] = True`; the key is in every `info`.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        self.env: Any = env
        self.action_space = env.action_space
        self.observation_space = env.observation_space

    def reset(self):
        observation, _ = self.env.reset()
        return observation

    def step(self, action):
        return self._in_four(*self.env.step(action))

    def receive(self):
        """What the step led to that was begun with `env.send(action)`, of an environment in another process."""
        return self._in_four(*self.env.receive())

    @staticmethod
    def _in_four(observation, reward, terminated, truncated, info):
        info = {**info, "TimeLimit.truncated": bool(truncated and not terminated)}
        return observation, reward, bool(terminated or truncated), info

    def render(self, mode: str = "human", close: bool = False):
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.env.reset(seed=seed)
        return [seed]

    def __del__(self) -> None:
        """Leaves the environment open: it belongs to whoever made it."""


def as_keras_rl_environment(env):
    """`env` itself if it already speaks keras-rl's interface, else a `KerasRLEnvironment` around it."""
    return KerasRLEnvironment(env) if isinstance(env, gymnasium.Env) else env


def _numpy_of_2021() -> types.ModuleType:
    """NumPy as keras-rl2's modules see it.

    - rl/core.py:117 counts steps in `np.int16(0)`, which NumPy 2 wraps to -32768 after step 32,767.
    - rl/agents/dqn.py:56 and rl/agents/cem.py:87 make arrays of Python objects: 34 ms instead of 0.6 ms for 32 Atari
      states, and Keras 3 does not take one. Only observations that do not stack (a dict) still need it.
    """

    def array(values, dtype=None):
        try:
            return np.array(values, dtype=None if dtype is object else dtype)
        except ValueError:
            return np.array(values, dtype=dtype)

    return _module("numpy", np, array=array, int16=int)


def _accept_gymnasium(method):
    """rl/core.py:131 expects a bare `reset()`, rl/core.py:176 a `step` with four values."""

    @functools.wraps(method)
    def run(self, env, *args, **kwargs):
        return method(self, as_keras_rl_environment(env), *args, **kwargs)

    return run


def _compile_with_own_metrics(method):
    """rl/agents/dqn.py:164 appends to its own default argument: every agent adds one more `mean_q`."""

    @functools.wraps(method)
    def compile(self, optimizer, metrics=()):
        return method(self, optimizer, list(metrics))

    return compile


def _with_defined_output(method):
    """rl/agents/dqn.py:106 reads `model.output`, which a Keras 3 `Sequential` has only once it was called."""

    @functools.wraps(method)
    def __init__(self, model, *args, **kwargs):
        if isinstance(model, keras.Sequential):
            model(model.inputs[0])
        method(self, model, *args, **kwargs)

    return __init__


def _reset_states_on_keras_3(method):
    """rl/agents/dqn.py:215 calls `Model.reset_states`, which Keras 3 does not have."""

    @functools.wraps(method)
    def reset_states(self):
        compiled, self.compiled = self.compiled, False
        method(self)
        self.compiled = compiled
        for model in (self.model, getattr(self, "target_model", None)):
            for layer in model.layers if model and compiled else ():
                if getattr(layer, "stateful", False):
                    layer.reset_state()

    return reset_states


def _not_on_keras_3(name: str, reason: str):
    def compile(self, *args, **kwargs):
        raise NotImplementedError(f"{name} does not run on Keras 3 ({reason}); DQNAgent and SARSAAgent do.")

    return compile


def _save_weights(self, filepath, overwrite=False):
    # rl/agents/dqn.py:209 leaves it to Keras, and Keras 3 takes no other name than *.weights.h5.
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{filepath} exists; choose another name or pass overwrite=True.")
    save_weights(self.model, filepath)


def _load_weights(self, filepath):
    load_weights(self.model, filepath)
    if hasattr(self, "target_model"):
        self.update_target_model_hard()


class _SoftUpdateOptimizer:
    """rl/util.py:84 hooks into `get_updates`, gone from Keras 3; this calls the soft update after `apply`."""

    def __new__(cls, optimizer, updates):
        optimizer = keras.optimizers.get(optimizer)
        apply = optimizer.apply

        def apply_then_update_target(*args, **kwargs):
            apply(*args, **kwargs)
            for target, source, tau in updates:
                target.assign(tau * source + (1.0 - tau) * target)

        optimizer.apply = apply_then_update_target
        return optimizer


def _soft_target_model_updates(target, source, tau):
    """(target variable, source variable, tau) of every weight; rl/util.py:46 evaluates the sum only once."""
    return [(t, s, tau) for t, s in zip(target.weights, source.weights, strict=True)]


def _repair() -> None:
    for module in (rl.core, rl.agents.dqn, rl.agents.cem):
        module.np = _numpy_of_2021()
    rl.core.Agent.fit = _accept_gymnasium(rl.core.Agent.fit)
    rl.core.Agent.test = _accept_gymnasium(rl.core.Agent.test)

    dqn, sarsa, ddpg = rl.agents.dqn, rl.agents.sarsa, rl.agents.ddpg
    dqn.get_soft_target_model_updates = _soft_target_model_updates
    dqn.AdditionalUpdatesOptimizer = _SoftUpdateOptimizer
    dqn.clone_model = clone_model
    for agent in (dqn.DQNAgent, sarsa.SARSAAgent):
        agent.__init__ = _with_defined_output(agent.__init__)
        agent.reset_states = _reset_states_on_keras_3(agent.reset_states)
        agent.compile = _compile_with_own_metrics(agent.compile)
    for agent in (dqn.DQNAgent, sarsa.SARSAAgent, rl.agents.cem.CEMAgent):
        agent.save_weights = _save_weights
        agent.load_weights = _load_weights
    dqn.NAFAgent.compile = _not_on_keras_3("NAFAgent", "its layer uses functions of TensorFlow 1")
    ddpg.DDPGAgent.compile = _not_on_keras_3("DDPGAgent", "it needs K.function and get_updates")


_repair()
