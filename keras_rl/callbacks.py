"""keras-rl's callbacks, repaired, and Keras' own callbacks on an agent. `keras_rl.bridge` applies it."""

import functools
import os
import warnings

import keras
import numpy as np
import rl.callbacks
import rl.memory

from keras_rl.adapter import is_number

# What Keras' fit tells its callbacks, ProgbarLogger say; the number of episodes is not known.
KERAS_PARAMS = {"verbose": 1, "epochs": 1, "steps": None}


def repair() -> None:
    """Replaces the methods of keras-rl's callbacks that fail, each with the line that it answers to."""
    callback_list = rl.callbacks.CallbackList
    callback_list.set_params = _with_params_of_keras(callback_list.set_params)
    callback_list.on_step_begin = _begin_step
    callback_list.on_step_end = _end_step
    rl.callbacks.TrainIntervalLogger.on_step_end = _with_any_info(rl.callbacks.TrainIntervalLogger.on_step_end)
    rl.callbacks.FileLogger.save_data = _into_a_new_folder(rl.callbacks.FileLogger.save_data)
    rl.callbacks.Visualizer.on_action_end = _show


class LoopAttendant(rl.callbacks.Callback):
    """What keras-rl's own training loop leaves out.

    - rl/core.py:123 does not look at `stop_training`, which `EarlyStopping` sets. Ctrl-C is what ends the loop.
    - rl/core.py:237 returns in the middle of an episode and leaves it open: see `end_episode`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observation = None  # the newest one, while an episode goes on

    def on_step_begin(self, step, logs=None) -> None:
        """Ends the training if somebody said so."""
        if self.model.stop_training:
            raise KeyboardInterrupt

    def on_step_end(self, step, logs) -> None:
        """Remembers the observation."""
        self.observation = logs["observation"]

    def on_episode_end(self, episode, logs=None) -> None:
        """The agent itself has ended this one."""
        self.observation = None

    def on_train_end(self, logs=None) -> None:
        """Ends the episode that is still open."""
        self.model.stop_training = False
        if self.observation is not None:
            end_episode(getattr(self.model, "memory", None), self.observation)


def end_episode(memory, observation) -> None:
    """Lets a memory end its episode with `observation`, as a training ends there.

    Without it the next training's first observation would follow this episode's last action. keras-rl's memory has one
    flag for the end of an episode and a terminal state, so there the last reward counts as if nothing came after it.
    """
    if hasattr(memory, "end_episode"):
        memory.end_episode(observation)
    elif isinstance(memory, _StockMemory) and memory.nb_entries:
        memory.terminals[-1] = memory.recent_terminals[-1] = True
        memory.append(observation, 0, 0.0, False)


_StockMemory = rl.memory.SequentialMemory  # a script may bind the name anew


def _with_params_of_keras(method):
    """rl/core.py:107 gives `nb_steps` alone."""

    @functools.wraps(method)
    def set_params(self, params):
        return method(self, {**KERAS_PARAMS, **params})

    return set_params


# rl/callbacks.py:76 and rl/callbacks.py:86 know no `on_train_batch_begin` and `on_train_batch_end` of today's Keras.


def _begin_step(self, step, logs=None):
    for callback in self.callbacks:
        if callable(getattr(callback, "on_step_begin", None)):
            callback.on_step_begin(step, logs=logs or {})
        else:
            callback.on_train_batch_begin(step, {})


def _end_step(self, step, logs=None):
    for callback in self.callbacks:
        if callable(getattr(callback, "on_step_end", None)):
            callback.on_step_end(step, logs=logs or {})
        elif _overrides(callback, "on_train_batch_end"):
            # They write every value down, and expect numbers.
            callback.on_train_batch_end(step, {name: value for name, value in logs.items() if is_number(value)})
        else:
            callback.on_batch_end(step, logs=logs or {})


def _overrides(callback, name: str) -> bool:
    return getattr(getattr(callback, name), "__func__", None) is not getattr(keras.callbacks.Callback, name)


def _with_any_info(method):
    """rl/callbacks.py:273 expects the keys of the first step in every `info`; a number that is not there is NaN."""

    @functools.wraps(method)
    def on_step_end(self, step, logs):
        info = {name: value for name, value in logs["info"].items() if is_number(value)}
        self.info_names = list(self.info_names or [])
        new = [name for name in info if name not in self.info_names]
        self.info_names += new
        self.infos = [[*row, *[np.nan] * len(new)] for row in self.infos] if new else self.infos
        info = {name: info.get(name, np.nan) for name in self.info_names}
        method(self, step, {**logs, "info": info})

    return on_step_end


def _into_a_new_folder(method):
    """rl/callbacks.py:353 opens a file in a folder that may not be there, at the end of a training."""

    @functools.wraps(method)
    def save_data(self):
        os.makedirs(os.path.dirname(os.path.abspath(self.filepath)), exist_ok=True)
        method(self)

    return save_data


def _show(self, action, logs=None):
    """rl/callbacks.py:360 lets a training or a test end where the environment cannot be shown; here it is said once."""
    if not getattr(self, "shows", True):
        return
    try:
        if isinstance(self.env, list):
            raise TypeError("only a single environment can be shown.")
        self.env.render(mode="human")
    except Exception as error:
        self.shows = False
        warnings.warn(
            f'The game goes on, but is not shown: {error} Make the environment with render_mode="human", or call with '
            "visualize=False.",
            stacklevel=2,
        )
