"""What helps a network to learn and folds into the plain layers of a policy.h5: other last layers, an input offset."""

from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("keras_rl")
class DuelingAggregation(keras.layers.Layer):
    """Q-values from a state value V = y[:, 0] and advantages A = y[:, 1:] (Wang et al. 2016, section 3).

    Input shape: (batch, 1 + nb_actions, ...). Output shape: (batch, nb_actions, ...).
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


def with_head(model: keras.Model, *, dueling_type: str | None = None, num_quantiles: int = 1) -> keras.Model:
    """`model` with another head in place of its last layer. Its output remains (batch, nb_actions) Q-values.

    Args:
        model: a network that ends in a Dense layer of one Q-value per action.
        dueling_type: a state value and advantages, put together as keras-rl does: "avg", "max" or "naive".
        num_quantiles: from 2 on, so many quantiles of the return of each action; the last layer is `QuantileMean`.

    Raises:
        ValueError: an argument is none of these.
    """
    if dueling_type not in (None, "avg", "max", "naive"):
        raise ValueError(f'dueling_type is "{dueling_type}", expected "avg", "max" or "naive".')
    if num_quantiles < 1:
        raise ValueError(f"num_quantiles is {num_quantiles}, expected 1 or more.")
    rows = model.outputs[0].shape[-1] + (dueling_type is not None)
    dtype = model.layers[-1].dtype_policy.name  # not the one that a keras.json may name
    y = keras.layers.Dense(rows * num_quantiles, dtype=dtype, name="head")(model.layers[-2].output)
    if num_quantiles > 1:
        y = keras.layers.Reshape((rows, num_quantiles), dtype=dtype, name="quantiles")(y)
    if dueling_type is not None:
        y = DuelingAggregation(dueling_type, dtype=dtype, name="q_values" if num_quantiles == 1 else "dueling")(y)
    if num_quantiles > 1:
        y = QuantileMean(dtype=dtype, name="q_values")(y)
    return network_to(y, model)


def network_to(output: Any, model: keras.Model) -> keras.Model:
    """The part of `model`, with its weights, that leads to `output`, a tensor in it or made of those in it."""
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs  # Keras warns when it misses a list of one
    return keras.Model(inputs, output)


def fold_head(
    kernel: np.ndarray, bias: np.ndarray, *, dueling_type: str | None = None, num_quantiles: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel and bias of a plain Dense layer with the same Q-values: all of a head that is linear folds exactly.

    Args:
        kernel: (inputs, outputs) float, of the Dense layer in the head.
        bias: (outputs,) float.
        dueling_type, num_quantiles: as `with_head` was told. Q = V + A - mean A ("avg"), Q = V + A ("naive") and the
            mean of quantiles are linear.

    Returns:
        kernel (inputs, nb_actions) and bias (nb_actions,), float32.

    Raises:
        ValueError: any other `dueling_type`; "max" (Q = V + A - max A) is not linear.
    """
    if dueling_type not in (None, "avg", "naive"):
        raise ValueError(
            f"A dueling head of type {dueling_type!r} cannot be folded into a Dense layer; expected 'avg' or "
            "'naive', which are linear: train with one of these to get a policy.h5."
        )
    head = np.vstack([kernel, bias]).astype(np.float64)  # (inputs + 1, outputs)
    head = head.reshape(len(head), -1, num_quantiles).mean(axis=-1)
    if dueling_type is not None:
        value, advantage = head[:, :1], head[:, 1:]
        head = value + advantage - (advantage.mean(axis=1, keepdims=True) if dueling_type == "avg" else 0.0)
    q_values = head.astype(np.float32)  # (inputs + 1, nb_actions)
    return q_values[:-1], q_values[-1]


def unfold_head(
    kernel: np.ndarray, bias: np.ndarray, *, dueling_type: str | None = None, num_quantiles: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The opposite of `fold_head`: a head with the Q-values of a plain Dense layer, its quantiles all alike at first.

    Args:
        kernel: (inputs, nb_actions) float.
        bias: (nb_actions,) float.
        dueling_type, num_quantiles: as `with_head` was told.

    Returns:
        kernel (inputs, outputs) and bias (outputs,), float32, of the Dense layer in the head.

    Raises:
        ValueError: a `dueling_type` that `fold_head` refuses as well.
    """
    head = np.vstack([kernel, bias]).astype(np.float64)  # (inputs + 1, nb_actions)
    if dueling_type is not None:
        value = head.mean(axis=1, keepdims=True) if dueling_type == "avg" else np.zeros((len(head), 1))
        head = np.hstack([value, head])
    head = head.repeat(num_quantiles, axis=1).astype(np.float32)
    fold_head(head[:-1], head[-1], dueling_type=dueling_type, num_quantiles=num_quantiles)  # refuses what is not linear
    return head[:-1], head[-1]


def fold_input_offset(kernel: np.ndarray, bias: np.ndarray, offset: float) -> np.ndarray:
    """The bias with which a layer makes of x what it makes with `bias` of x - offset; -offset leads back.

    Exact for Dense, and for a convolution without padding: the zeros around a padded state have no offset.

    Args:
        kernel: (..., outputs) float.
        bias: (outputs,) float.
        offset: what is taken from every input.

    Returns:
        bias (outputs,), float32.
    """
    common = kernel.sum(axis=tuple(range(kernel.ndim - 1)), dtype=np.float64)  # (outputs,)
    return (bias - offset * common).astype(np.float32)
