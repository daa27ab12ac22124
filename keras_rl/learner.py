"""The update of deep Q-learning, in `keras.ops`: one compiled call on any backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_rl.backends import backend
from keras_rl.frames import FrameStacks
from keras_rl.heads import QuantileMean, network_to

Preprocess = Callable[[Any], Any]


class Learner:
    """Turns batches of transitions into gradient steps on a Q-network (Mnih et al. 2015, algorithm 1).

    The memory hands over states as they are stored (uint8, for Atari): stacking and converting them happens in
    the compiled call, where it is nearly free. An update is only started by `update`: it runs beside whatever
    Python does next, the emulators say, and everything that reads a weight waits for it.

    Args:
        model: The Q-network: state -> (batch, num_actions) Q-values. Its weights are what is learned. If it ends
            in `QuantileMean`, the quantiles are learned, and so the Q-values, their means.
        target_model: The frozen copy that the TD targets come from.
        optimizer: Any Keras optimizer.
        preprocess: Maps a batch of states, as a tensor, to the network's input. Default: they are it.
        double_dqn: Let the online network choose the action that the target network values (van Hasselt et
            al. 2016).
        delta_clip: Where the Huber loss turns from square to linear. Infinite: half the squared error.
        target_model_update: Below 1, the fraction by which each update moves the target network towards the
            online one (Lillicrap et al. 2016). From 1 on it stays as it is until somebody copies the weights.
        metrics: Keras metrics, functions or their names, called with (TD targets, Q-values), each of shape
            (batch, num_actions), the targets zero but for the actions taken, as in keras-rl. They are of one batch.
    """

    def __init__(
        self,
        model: keras.Model,
        target_model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        *,
        preprocess: Preprocess | None = None,
        double_dqn: bool = False,
        delta_clip: float = np.inf,
        target_model_update: float = 1.0,
        metrics: Sequence[Any] = (),
    ) -> None:
        self.model = model
        self.target_model = target_model
        self.optimizer = optimizer
        self.preprocess = preprocess or (lambda states: states)
        self.double_dqn = double_dqn
        self.delta_clip = delta_clip
        self.soft_update = target_model_update if target_model_update < 1 else 0.0
        self.metrics = [keras.metrics.get(metric) for metric in metrics]
        self._quantiles: list[keras.Model] = []  # the networks without their last layer
        if isinstance(model.layers[-1], QuantileMean):
            self._quantiles = [network_to(m.layers[-1].input, m) for m in (model, target_model)]
        optimizer.build(model.trainable_variables)
        self._backend = backend()
        self._gradient_step = self._backend.gradient_step(optimizer, model.trainable_variables)
        learned, frozen = model.trainable_variables, target_model.trainable_variables
        states = [*model.non_trainable_variables]  # of layers that have one
        self._compiled_q_values = self._backend.compile(self._q_values, learned, states, any_batch_size=True)
        self._compiled_saliency = self._backend.compile(self._saliency, learned, states, any_batch_size=True)
        changes = [*learned, *states, *target_model.non_trainable_variables, *optimizer.variables]
        changes += [variable for metric in self.metrics for variable in getattr(metric, "variables", ())]
        changes += frozen if self.soft_update else []
        self._compiled_update = self._backend.compile(self._update, [] if self.soft_update else frozen, changes)

    def q_values(self, states) -> np.ndarray:
        """Q-values of the online network, (batch, num_actions) float32."""
        return ops.convert_to_numpy(self._compiled_q_values(_without_overlap(states)))

    def saliency(self, states) -> np.ndarray:
        """The gradient of max_a Q(s, a) by the network's input, of its shape (Simonyan et al. 2014, section 3)."""
        return ops.convert_to_numpy(self._compiled_saliency(_without_overlap(states)))

    def update(self, state0, action, reward, state1, discount) -> Any:
        """Starts one gradient step on a batch.

        Args:
            state0: States, (batch, ...), or a list of such for a network of several inputs, or `FrameStacks`.
            action: (batch,) int32, taken there.
            reward: (batch,) float32, the n-step return that followed.
            state1: States after those n steps.
            discount: (batch,) float32, gamma^n, or 0 after a terminal.

        Returns:
            The loss before the step, the metrics, and the mean over the batch of max Q: a float32 tensor that
            `keras.ops.convert_to_numpy` waits for.
        """
        if isinstance(state0, FrameStacks):  # of the same frames as state1
            frames = self._backend.tensor(state0.frames)
            state0, state1 = state0._replace(frames=frames), state1._replace(frames=frames)
        return self._compiled_update(state0, action, reward, state1, discount)

    def _q_values(self, states):
        return ops.cast(self.model(self._network_input(states), training=False), "float32")

    def _saliency(self, states):
        def highest_q(states):
            return ops.sum(ops.max(self.model(states, training=False), axis=-1))

        return self._backend.gradient(highest_q, self._network_input(states))

    def _network_input(self, states):
        if isinstance(states, FrameStacks):
            states = ops.take(states.frames, states.indices, axis=0)  # (batch, window_length, ...)
        return self.preprocess(states)

    def _update(self, state0, action, reward, state1, discount):
        state0, state1 = self._network_input(state0), self._network_input(state1)
        td_target, td_loss = self._td_target, self._td_loss
        if self._quantiles:
            td_target, td_loss = self._quantile_target, self._quantile_loss
        y = td_target(reward, state1, discount)  # (batch,), or (batch, N) of N quantiles

        def loss_and_q():
            losses, q = td_loss(state0, action, y)  # (batch,), (batch, num_actions)
            loss = ops.mean(losses)
            for penalty in self.model.losses:  # the layers' regularisation, if they have any
                loss = loss + penalty
            return loss, q

        loss, q, gradients = self._backend.value_and_gradients(loss_and_q, self.model)
        self._gradient_step(gradients)
        if self.soft_update:
            for target, source in zip(self.target_model.weights, self.model.weights, strict=True):
                target.assign(self.soft_update * source + (1.0 - self.soft_update) * target)
        y_mean = ops.mean(ops.reshape(y, (action.shape[0], -1)), axis=1)  # (batch,)
        y_matrix = y_mean[:, None] * ops.one_hot(action, q.shape[-1])  # (batch, num_actions)
        for metric in self.metrics:
            if isinstance(metric, keras.metrics.Metric):  # as Keras makes of a name; it would report a running mean
                metric.reset_state()
        metrics = [ops.mean(ops.cast(metric(y_matrix, q), "float32")) for metric in self.metrics]
        return ops.stack([loss, *metrics, ops.mean(ops.max(q, axis=-1))])

    def _td_target(self, reward, state1, discount):
        target_q = ops.cast(self.target_model(state1, training=False), "float32")  # (batch, num_actions)
        next_q = ops.max(target_q, axis=-1)  # (batch,)
        if self.double_dqn:
            next_q = of_action(target_q, self._best_action(state1))  # (batch,)
        return reward + discount * next_q  # (batch,) the TD target r + gamma * max_a Q_target(s', a)

    def _td_loss(self, state0, action, y):
        q = ops.cast(self.model(state0, training=True), "float32")  # (batch, num_actions)
        q_taken = of_action(q, action)  # (batch,) Q(s, a)
        return huber(y - q_taken, self.delta_clip), q

    # The same with the distribution of the return, as N quantiles, in place of its mean (Dabney et al. 2018).

    def _quantile_target(self, reward, state1, discount):
        _, target_network = self._quantiles
        quantiles = ops.cast(target_network(state1, training=False), "float32")  # (batch, num_actions, N)
        target_q = ops.mean(quantiles, axis=-1)  # (batch, num_actions)
        best_action = self._best_action(state1) if self.double_dqn else ops.argmax(target_q, axis=-1)  # (batch,)
        return reward[:, None] + discount[:, None] * of_action(quantiles, best_action)  # (batch, N)

    def _quantile_loss(self, state0, action, y):
        network, _ = self._quantiles
        quantiles = ops.cast(network(state0, training=True), "float32")  # (batch, num_actions, N)
        taken = of_action(quantiles, action)  # (batch, N)
        error = y[:, None, :] - taken[:, :, None]  # (batch, N, N): each target's from each quantile
        number = taken.shape[-1]
        tau = (ops.arange(number, dtype="float32") + 0.5) / number  # (N,) shares of the targets below each quantile
        weight = ops.abs(tau[:, None] - ops.cast(error < 0.0, "float32"))  # (batch, N, N)
        loss = ops.mean(weight * huber(error, self.delta_clip), axis=2)  # (batch, N)
        return ops.sum(loss, axis=1), ops.mean(quantiles, axis=-1)

    def _best_action(self, states):
        return ops.argmax(self.model(states, training=False), axis=-1)  # (batch,) argmax_a Q(s, a), for double DQN


def of_action(values, action):
    """Of (batch, num_actions, ...) values those of one action each: (batch, ...)."""
    # Not take_along_axis: it transposes 64-bit indices, of which oneDNN complains on standard error.
    taken = action[:, None] == ops.arange(values.shape[1], dtype=action.dtype)  # (batch, num_actions)
    taken = ops.reshape(taken, taken.shape + (1,) * (len(values.shape) - 2))  # (batch, num_actions, 1, ...)
    return ops.sum(ops.where(taken, values, 0.0), axis=1)


def huber(error, delta_clip: float):
    """Huber loss of TD errors, elementwise: error^2 / 2 up to |error| = delta_clip, linear beyond."""
    if np.isinf(delta_clip):
        return 0.5 * ops.square(error)
    size = ops.abs(error)
    return ops.where(size < delta_clip, 0.5 * ops.square(error), delta_clip * (size - 0.5 * delta_clip))


def set_compute_dtype(model: keras.Model, dtype: str) -> None:
    """Lets a network compute in `dtype` ("float32" or "bfloat16"), its Q-values and weights staying float32."""
    for layer in model.layers[:-1]:
        layer.dtype_policy = "float32" if dtype == "float32" else f"mixed_{dtype}"


def _without_overlap(states):
    return np.asarray(states) if isinstance(states, FrameStacks) else states
