"""The update of deep Q-learning, compiled into one TensorFlow call. Nothing else here knows TensorFlow."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_rl.frames import FrameStacks
from keras_rl.heads import QuantileMean, network_to

Preprocess = Callable[[tf.Tensor], tf.Tensor]


class Learner:
    """Turns batches of transitions into gradient steps on a Q-network (Mnih et al. 2015, algorithm 1).

    The memory hands over states as they are stored (uint8, for Atari): stacking and converting them happens in
    the compiled call, where it is nearly free. An update is only started by `update`: it runs beside whatever
    Python does next, the emulators say, and everything that reads a weight waits for it.

    Args:
        model: The Q-network: state -> (batch, num_actions) Q-values. Its weights are what is learned. If it ends
            in `QuantileMean`, the quantiles are learned, and so the Q-values, their means.
        target_model: The frozen copy that the TD targets come from.
        optimizer: Any Keras optimizer. `Adam` without extras is applied by TensorFlow's fused kernel to its
            own variables: the same numbers, 4 to 5 ms sooner per update of the Nature CNN.
        preprocess: Maps a batch of states, as a tensor, to the network's input. Default: they are it.
        double_dqn: Let the online network choose the action that the target network values (van Hasselt et
            al. 2016).
        delta_clip: Where the Huber loss turns from square to linear. Infinite: half the squared error.
        target_model_update: Below 1, the fraction by which each update moves the target network towards the
            online one (Lillicrap et al. 2016). From 1 on it stays as it is until somebody copies the weights.
        metrics: Keras metric functions or their names, called with (TD targets, Q-values), each of shape
            (batch, num_actions), the targets zero but for the actions taken, as in keras-rl.
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
        metrics: Sequence[str | Callable] = (),
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
        # From here on TensorFlow executes this thread's calls in their order, but behind its back.
        tf.config.experimental.set_synchronous_execution(False)
        self.fused_adam = _is_plain_adam(optimizer) and not any(v.constraint for v in model.trainable_variables)
        self._compiled_q_values = tf.function(self._q_values, reduce_retracing=True)
        self._compiled_update = tf.function(self._update)
        self._compiled_saliency = tf.function(self._saliency, reduce_retracing=True)

    def q_values(self, states) -> np.ndarray:
        """Q-values of the online network, (batch, num_actions) float32."""
        return self._compiled_q_values(states).numpy()

    def saliency(self, states) -> np.ndarray:
        """The gradient of max_a Q(s, a) by the network's input, of its shape (Simonyan et al. 2014, section 3)."""
        return self._compiled_saliency(states).numpy()

    def update(self, state0, action, reward, state1, discount) -> Any:
        """Starts one gradient step on a batch.

        Args:
            state0: States, (batch, ...), or a list of such for a network of several inputs, or `FrameStacks`.
            action: (batch,) int32, taken there.
            reward: (batch,) float32, the n-step return that followed.
            state1: States after those n steps.
            discount: (batch,) float32, gamma^n, or 0 after a terminal.

        Returns:
            The loss before the step, the metrics, and the mean over the batch of max Q: float32 numbers that
            `np.asarray` waits for.
        """
        if isinstance(state0, FrameStacks):  # of the same frames as state1
            frames = _tensor(state0.frames)
            state0, state1 = state0._replace(frames=frames), state1._replace(frames=frames)
        return self._compiled_update(state0, action, reward, state1, discount)

    def _q_values(self, states):
        return tf.cast(self.model(self._network_input(states), training=False), tf.float32)

    def _saliency(self, states):
        states = self._network_input(states)
        with tf.GradientTape() as tape:
            tape.watch(states)
            highest_q = tf.reduce_max(self.model(states, training=False), axis=-1)
        return tape.gradient(highest_q, states)

    def _network_input(self, states):
        if isinstance(states, FrameStacks):
            states = tf.gather(states.frames, states.indices)  # (batch, window_length, ...)
        return self.preprocess(states)

    def _update(self, state0, action, reward, state1, discount):
        state0, state1 = self._network_input(state0), self._network_input(state1)
        td_target, td_loss = self._td_target, self._td_loss
        if self._quantiles:
            td_target, td_loss = self._quantile_target, self._quantile_loss
        y = td_target(reward, state1, discount)  # (batch,), or (batch, N) of N quantiles
        with tf.GradientTape() as tape:
            losses, q = td_loss(state0, action, y)  # (batch,), (batch, num_actions)
            loss = tf.add_n(
                [tf.reduce_mean(losses), *self.model.losses]
            )  # with the layers' regularisation, if they have any
        gradients = tape.gradient(loss, [variable.value for variable in self.model.trainable_variables])
        if self.fused_adam and not any(gradient is None for gradient in gradients):
            self._apply_fused_adam(gradients)
        else:
            self.optimizer.apply(gradients, self.model.trainable_variables)
        if self.soft_update:
            for target, source in zip(self.target_model.weights, self.model.weights, strict=True):
                target.assign(self.soft_update * source + (1.0 - self.soft_update) * target)
        y_mean = tf.reduce_mean(tf.reshape(y, (len(action), -1)), axis=1)  # (batch,)
        y_matrix = y_mean[:, None] * tf.one_hot(action, q.shape[-1])  # (batch, num_actions)
        metrics = [tf.reduce_mean(tf.cast(metric(y_matrix, q), tf.float32)) for metric in self.metrics]
        return tf.stack([loss, *metrics, tf.reduce_mean(tf.reduce_max(q, axis=-1))])

    def _td_target(self, reward, state1, discount):
        target_q = tf.cast(self.target_model(state1, training=False), tf.float32)  # (batch, num_actions)
        if self.double_dqn:
            next_q = tf.gather(target_q, self._best_action(state1), batch_dims=1)  # (batch,)
        else:
            next_q = tf.reduce_max(target_q, axis=-1)  # (batch,)
        return reward + discount * next_q  # (batch,) the TD target r + gamma * max_a Q_target(s', a)

    def _td_loss(self, state0, action, y):
        q = tf.cast(self.model(state0, training=True), tf.float32)  # (batch, num_actions)
        q_taken = tf.gather(q, action, batch_dims=1)  # (batch,) Q(s, a)
        return huber(y - q_taken, self.delta_clip), q

    # The same with the distribution of the return, as N quantiles, in place of its mean (Dabney et al. 2018).

    def _quantile_target(self, reward, state1, discount):
        _, target_network = self._quantiles
        quantiles = tf.cast(target_network(state1, training=False), tf.float32)  # (batch, num_actions, N)
        target_q = tf.reduce_mean(quantiles, axis=-1)  # (batch, num_actions)
        best_action = self._best_action(state1) if self.double_dqn else tf.argmax(target_q, axis=-1)  # (batch,)
        return reward[:, None] + discount[:, None] * tf.gather(quantiles, best_action, batch_dims=1)  # (batch, N)

    def _quantile_loss(self, state0, action, y):
        network, _ = self._quantiles
        quantiles = tf.cast(network(state0, training=True), tf.float32)  # (batch, num_actions, N)
        taken = tf.gather(quantiles, action, batch_dims=1)  # (batch, N)
        error = y[:, None, :] - taken[:, :, None]  # (batch, N, N): each target's from each quantile
        number = taken.shape[-1]
        tau = (tf.range(number, dtype=tf.float32) + 0.5) / number  # (N,) shares of the targets below each quantile
        weight = tf.abs(tau[:, None] - tf.cast(error < 0.0, tf.float32))  # (batch, N, N)
        loss = tf.reduce_mean(weight * huber(error, self.delta_clip), axis=2)  # (batch, N)
        return tf.reduce_sum(loss, axis=1), tf.reduce_mean(quantiles, axis=-1)

    def _best_action(self, states):
        return tf.argmax(self.model(states, training=False), axis=-1)  # (batch,) argmax_a Q(s, a), for double DQN

    def _apply_fused_adam(self, gradients) -> None:
        adam = self.optimizer
        learning_rate = tf.cast(adam.learning_rate, tf.float32)
        step = tf.cast(adam.iterations.value + 1, tf.float32)
        for variable, m, v, gradient in zip(
            self.model.trainable_variables, adam._momentums, adam._velocities, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=m.value.handle,
                v=v.value.handle,
                beta1_power=tf.pow(tf.cast(adam.beta_1, tf.float32), step),
                beta2_power=tf.pow(tf.cast(adam.beta_2, tf.float32), step),
                lr=learning_rate,
                beta1=adam.beta_1,
                beta2=adam.beta_2,
                epsilon=adam.epsilon,
                grad=gradient,
            )
        adam.iterations.assign_add(1)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The array as a tensor, which takes it over without a copy if it lies as tensors do."""
    if array.ctypes.data % 64 == 0 and array.flags.writeable and array.flags.c_contiguous:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)


def huber(error, delta_clip: float):
    """Huber loss of TD errors, elementwise: error^2 / 2 up to |error| = delta_clip, linear beyond."""
    if np.isinf(delta_clip):
        return 0.5 * tf.square(error)
    size = tf.abs(error)
    return tf.where(size < delta_clip, 0.5 * tf.square(error), delta_clip * (size - 0.5 * delta_clip))


def set_compute_dtype(model: keras.Model, dtype: str) -> None:
    """Lets a network compute in `dtype` ("float32" or "bfloat16"), its Q-values and weights staying float32."""
    for layer in model.layers[:-1]:
        layer.dtype_policy = "float32" if dtype == "float32" else f"mixed_{dtype}"


def _is_plain_adam(optimizer: keras.optimizers.Optimizer) -> bool:
    extras = (
        "amsgrad",
        "weight_decay",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "loss_scale_factor",
        "gradient_accumulation_steps",
    )
    return type(optimizer) is keras.optimizers.Adam and not any(getattr(optimizer, name) for name in extras)
