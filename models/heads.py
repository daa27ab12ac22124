"""Last layers that help a network to learn, and how each folds into the plain Dense layer of a policy.h5."""

from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("keras_rl")
class DuelingAggregation(keras.layers.Layer):
    """Q-values from a state value V = y[:, 0] and advantages A = y[:, 1:] (Wang et al. 2016, section 3).

    Input shape: (batch, 1 + nb_actions). Output shape: (batch, nb_actions).
    """

    def __init__(self, dueling_type: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dueling_type = dueling_type

    def call(self, y):
        value, advantage = y[:, :1], y[:, 1:]
        if self.dueling_type == "avg":
            return value + advantage - keras.ops.mean(advantage, axis=1, keepdims=True)
        if self.dueling_type == "max":
            return value + advantage - keras.ops.max(advantage, axis=1, keepdims=True)
        return value + advantage

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dueling_type": self.dueling_type}


@keras.saving.register_keras_serializable("keras_rl")
class QuantileMean(keras.layers.Layer):
    """Q-values from quantiles of the return: their mean (Dabney et al. 2018, equation 2).

    Input shape: (batch, nb_actions, num_quantiles). Output shape: (batch, nb_actions).
    """

    def call(self, quantiles):
        return keras.ops.mean(quantiles, axis=-1)


def dueling_network(model: keras.Model, dueling_type: str) -> keras.Model:
    """`model` with its last layer replaced by a dueling head, as keras-rl builds it.

    Raises:
        ValueError: If `dueling_type` is none of "avg", "max", "naive".
    """
    if dueling_type not in ("avg", "max", "naive"):
        raise ValueError(f'dueling_type is "{dueling_type}", expected "avg", "max" or "naive".')
    y = keras.layers.Dense(1 + model.outputs[0].shape[-1], name="value_and_advantages")(model.layers[-2].output)
    return keras.Model(model.inputs, DuelingAggregation(dueling_type, name="q_values")(y))


def quantile_network(model: keras.Model, num_quantiles: int) -> keras.Model:
    """`model` with its last layer replaced by `num_quantiles` quantiles an action and their mean, the Q-value."""
    nb_actions = model.outputs[0].shape[-1]
    y = keras.layers.Dense(nb_actions * num_quantiles, name="quantiles")(model.layers[-2].output)
    y = keras.layers.Reshape((nb_actions, num_quantiles), name="quantiles_by_action")(y)
    return keras.Model(model.inputs, QuantileMean(name="q_values")(y))


def fold_dueling(kernel: np.ndarray, bias: np.ndarray, dueling_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Folds the dueling head of keras-rl into one plain Dense layer with the same Q-values.

    keras-rl's head is a Dense y of one state value V = y[:, 0] and an advantage A = y[:, 1:] for each action.
    "avg" (Q = V + A - mean A) and "naive" (Q = V + A) are linear in y, so they fold exactly.

    Args:
        kernel: (inputs, nb_actions + 1) float.
        bias: (nb_actions + 1,) float.
        dueling_type: "avg" or "naive".

    Returns:
        kernel (inputs, nb_actions) and bias (nb_actions,), float32.

    Raises:
        ValueError: any other `dueling_type`; "max" (Q = V + A - max A) is not linear.
    """
    if dueling_type not in ("avg", "naive"):
        raise ValueError(
            f"A dueling head of type {dueling_type!r} cannot be folded into a Dense layer; expected 'avg' or "
            "'naive', which are linear: train with one of these to get a policy.h5."
        )
    head = np.vstack([kernel, bias]).astype(np.float64)  # (inputs + 1, nb_actions + 1)
    value, advantage = head[:, :1], head[:, 1:]
    if dueling_type == "avg":
        advantage = advantage - advantage.mean(axis=1, keepdims=True)
    q_values = (value + advantage).astype(np.float32)  # (inputs + 1, nb_actions)
    return q_values[:-1], q_values[-1]


def fold_quantiles(kernel: np.ndarray, bias: np.ndarray, num_quantiles: int) -> tuple[np.ndarray, np.ndarray]:
    """Folds the head of `quantile_network` into one plain Dense layer with the same Q-values: a mean is linear.

    Args:
        kernel: (inputs, nb_actions * num_quantiles) float.
        bias: (nb_actions * num_quantiles,) float.

    Returns:
        kernel (inputs, nb_actions) and bias (nb_actions,), float32.
    """
    head = np.vstack([kernel, bias]).astype(np.float64)
    q_values = head.reshape(len(head), -1, num_quantiles).mean(axis=-1).astype(np.float32)  # (inputs + 1, nb_actions)
    return q_values[:-1], q_values[-1]
