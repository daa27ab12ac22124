"""keras-rl2 1.0.5, made importable and correct on Keras 3, current TensorFlow and NumPy 2.

    from keras_rl import rl          # or: import keras_rl; from rl.agents.dqn import DQNAgent

keras-rl2 (archived in 2021) stays as the package registry has it. While it is being imported, `tensorflow`
resolves to a stand-in made of Keras 3; afterwards a few of its functions are replaced, each named below with
the line of keras-rl2 that it answers to. Keras, NumPy and TensorFlow are left exactly as they were, eager
execution included; Gymnasium gets back what Gym had (`keras_rl.adapter.restore_gym`). Import this module from one
thread, as any module that others depend on.
"""

import contextlib
import functools
import importlib
import inspect
import os
import sys
import types
from collections.abc import Iterator

import keras
import numpy as np

from keras_h5.layers import load_weights, save_weights
from keras_rl.adapter import as_keras_rl_environment, is_number, restore_gym
from keras_rl.learner import huber


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


def _is_keras_rl(name: str) -> bool:
    return name == "rl" or name.startswith("rl.")


def _import_keras_rl() -> dict[str, types.ModuleType]:
    """keras-rl2's modules; whoever imported some before, without the stand-in, has these from now on."""
    stale = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_keras_rl(name)}
    try:
        with _tensorflow_made_of_keras_3():
            for name in ("agents", "callbacks", "core", "memory", "policy", "processors", "random", "util"):
                importlib.import_module(f"rl.{name}")
    except ModuleNotFoundError as error:
        if "rl" not in sys.modules or not _is_keras_rl(error.name or ""):
            raise
        place = getattr(sys.modules["rl"], "__file__", None) or "another package"
        raise ImportError(f"`import rl` has to find keras-rl2, but finds {place}; give that another name.") from error
    modules = {name: module for name, module in sys.modules.items() if _is_keras_rl(name)}
    for name in stale.keys() & modules.keys():
        vars(stale[name]).update(vars(modules[name]))
    return modules


_modules = _import_keras_rl()

import rl  # noqa: E402


def _numpy_of_2021() -> types.ModuleType:
    """NumPy as keras-rl2's modules see it.

    - rl/core.py:117 counts steps in `np.int16(0)`, which NumPy 2 wraps to -32768 after step 32,767.
    - rl/agents/dqn.py:56 and rl/agents/cem.py:87 make arrays of Python objects: 34 ms instead of 0.6 ms for 32 Atari
      states, and Keras 3 does not take one. Only observations that do not stack (a dict) still need it.
    - rl/core.py:181 asks whether a value of `info` is real, and takes None, texts and dicts for numbers.
    - rl/memory.py:38 calls `random_integers`, which NumPy 2.4 no longer has.
    """

    def array(values, dtype=None):
        try:
            return np.array(values, dtype=None if dtype is object else dtype)
        except ValueError:
            return np.array(values, dtype=dtype)

    random = _module(
        "numpy.random", np.random, random_integers=lambda low, high, size: np.random.randint(low, high + 1, size)
    )
    return _module("numpy", np, array=array, int16=int, isreal=is_number, random=random)


def _on_any_environment(method, attendant=None):
    """rl/core.py:131 expects a bare `reset()`, rl/core.py:176 a `step` with four values."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def run(self, env, *args, **kwargs):
        arguments = signature.bind(self, as_keras_rl_environment(env), *args, **kwargs).arguments
        if attendant is not None:
            arguments["callbacks"] = [*(arguments.get("callbacks") or []), attendant()]
        return method(**arguments)

    return run


def _compile_with_own_metrics(method):
    """rl/agents/dqn.py:164 appends to its own default argument: every agent adds one more `mean_q`."""

    @functools.wraps(method)
    def compile(self, optimizer, metrics=()):
        return method(self, require_optimizer(optimizer), list(metrics))

    return compile


def require_optimizer(optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that a person named.

    Raises:
        TypeError: If it is none of this Keras.
    """
    with contextlib.suppress(ValueError):
        found = keras.optimizers.get(optimizer)
        if found is not None:
            return found
    raise TypeError(
        f"The optimizer is {type(optimizer).__module__}.{type(optimizer).__name__} {str(optimizer)[:60]!r}; expected "
        f'one of Keras {keras.__version__}, or its name: keras.optimizers.Adam(learning_rate=1e-3), or "adam".'
    )


def require_network(model) -> None:
    """Lets a model be used that an agent can learn with: one output, and an input whose shape is known.

    rl/agents/dqn.py:106 reads `model.output`, which a Keras 3 `Sequential` has only once it was called.

    Raises:
        TypeError: If it is no model of this Keras.
        ValueError: If its input has no shape yet, or it has several outputs.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The model is a {type(model).__module__}.{type(model).__name__}, expected one of Keras "
            f"{keras.__version__}; build it with `import keras`, and do not set TF_USE_LEGACY_KERAS."
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"The model {model.name!r} does not know the shape of its input yet; begin it with "
            "keras.Input((window_length, *observation_shape)), or build a functional model."
        )
    if len(model.outputs) > 1:
        raise ValueError(
            f"The model {model.name!r} has {len(model.outputs)} outputs, expected one: a Q-value per action."
        )
    if isinstance(model, keras.Sequential):
        model(model.inputs[0])


def _with_sound_network(method):
    """rl/agents/dqn.py:106 is the only line that looks at the network, and at its output alone."""

    @functools.wraps(method)
    def __init__(self, model, *args, **kwargs):
        require_network(model)
        method(self, model, *args, **kwargs)
        self.nb_actions = int(self.nb_actions)

    return __init__


def require_numbers(q_values: np.ndarray, step: int) -> np.ndarray:
    """The Q-values, if they are all finite.

    Raises:
        FloatingPointError: If they are not, as nothing can be learned from there on.
    """
    if not np.isfinite(q_values).all():
        raise FloatingPointError(
            f"The network's Q-values are no finite numbers at step {step}: the training has diverged. Use a lower "
            "learning rate, delta_clip=1.0, or smaller rewards, and begin anew."
        )
    return q_values


def _with_finite_q_values(method):
    """rl/policy.py:167 takes action 0 where all Q-values are NaN, and the training goes on in silence."""

    @functools.wraps(method)
    def compute_batch_q_values(self, state_batch):
        return require_numbers(method(self, state_batch), self.step)

    return compute_batch_q_values


class NetworkOfAgent:
    """What Keras' own callbacks look for in a model, by an agent: its network's."""

    model: keras.Model
    stop_training = False
    train_function = None
    built = True

    @property
    def optimizer(self):
        """The optimizer that learns, once the agent is compiled."""
        return getattr(getattr(self, "trainable_model", None), "optimizer", None)

    def get_weights(self) -> list[np.ndarray]:
        """The network's weights."""
        return self.model.get_weights()

    def set_weights(self, weights) -> None:
        """Sets the network's weights, and the target network's."""
        for model in (self.model, getattr(self, "target_model", None)):
            if model is not None:
                model.set_weights(weights)

    def save(self, filepath, overwrite: bool = True, **kwargs) -> None:
        """Saves the network, as `keras.Model.save` does."""
        self.model.save(filepath, overwrite=overwrite, **kwargs)


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
    def refuse(self, *args, **kwargs):
        raise NotImplementedError(f"{name} does not run on Keras 3 ({reason}); DQNAgent and SARSAAgent do.")

    return refuse


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


def _huber_loss(y_true, y_pred, clip_value):
    """rl/util.py:76 imports TensorFlow, whatever Keras runs on."""
    return huber(y_true - y_pred, clip_value)


def _repair() -> None:
    from keras_rl import callbacks  # here: it imports rl

    callbacks.repair()
    numpy = _numpy_of_2021()
    helpers = {
        "clone_model": clone_model,
        "get_soft_target_model_updates": _soft_target_model_updates,
        "AdditionalUpdatesOptimizer": _SoftUpdateOptimizer,
        "huber_loss": _huber_loss,
    }
    for module in (rl.core, rl.memory, rl.agents.dqn, rl.agents.cem):
        module.np = numpy
    for module in _modules.values():  # rl.util's functions are in all that say `from rl.util import *`
        vars(module).update({name: helper for name, helper in helpers.items() if name in vars(module)})
    rl.core.Agent.fit = _on_any_environment(rl.core.Agent.fit, callbacks.LoopAttendant)
    rl.core.Agent.test = _on_any_environment(rl.core.Agent.test)

    dqn, sarsa, cem = rl.agents.dqn.DQNAgent, rl.agents.sarsa.SARSAAgent, rl.agents.cem.CEMAgent
    for name, attribute in vars(NetworkOfAgent).items():
        if not name.startswith("__"):
            setattr(rl.core.Agent, name, attribute)
    for agent in (dqn, sarsa):
        agent.__init__ = _with_sound_network(agent.__init__)
        agent.reset_states = _reset_states_on_keras_3(agent.reset_states)
        agent.compile = _compile_with_own_metrics(agent.compile)
        agent.compute_batch_q_values = _with_finite_q_values(agent.compute_batch_q_values)
    for agent in (dqn, sarsa, cem):
        agent.save_weights = _save_weights
        agent.load_weights = _load_weights
    rl.agents.dqn.NAFLayer.__init__ = _not_on_keras_3("NAFLayer", "it uses functions of TensorFlow 1")
    rl.agents.dqn.NAFAgent.compile = _not_on_keras_3("NAFAgent", "its layer uses functions of TensorFlow 1")
    rl.agents.ddpg.DDPGAgent.compile = _not_on_keras_3("DDPGAgent", "it needs K.function and get_updates")


restore_gym()
_repair()
