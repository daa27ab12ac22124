"""What differs between Keras' backends where a network learns, and nothing else: the rest is `keras.ops`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
elif keras.backend.backend() == "torch":
    import torch

Variables = Sequence[keras.Variable]


class Backend:
    """What `Learner` asks of a backend. This much every backend has; each of them adds to it or does it better."""

    def compile(
        self, function: Callable, reads: Variables, writes: Variables = (), any_batch_size: bool = False
    ) -> Callable:
        """`function` as one compiled call.

        Args:
            function: Takes tensors, or lists and named tuples of such, and returns one tensor.
            reads: The Keras variables that it reads.
            writes: Those that it reads and may change. Nobody may keep their old `value`: its memory is used again.
            any_batch_size: Whether the first axis of all arguments, and of the result, has another length each time.
        """
        raise NotImplementedError

    def value_and_gradients(self, function: Callable, model: keras.Model) -> tuple[Any, Any, list]:
        """Of `function() -> (loss, another tensor)`: both, and the loss's gradients by `model.trainable_variables`.

        A gradient may be None if the loss does not depend on the variable.
        """
        raise NotImplementedError

    def gradient(self, function: Callable, tensor) -> Any:
        """The gradient of `function(tensor)`, a scalar, by the tensor."""
        raise NotImplementedError

    def tensor(self, array: np.ndarray) -> Any:
        """The array as a tensor, without a copy where that is possible. Nobody may write to the array any more."""
        return keras.ops.convert_to_tensor(array)

    def gradient_step(self, optimizer: keras.optimizers.Optimizer, variables: Variables) -> Callable[[list], None]:
        """A function that takes the gradients of `variables` and lets the optimizer, which is built, change these."""
        return lambda gradients: optimizer.apply(gradients, variables)


class TensorFlow(Backend):
    """Variables are changed in place. A call returns before its work is done, and who reads a variable waits for it."""

    def __init__(self) -> None:
        # From here on TensorFlow executes this thread's calls in their order, but behind its back.
        tf.config.experimental.set_synchronous_execution(False)

    def compile(self, function, reads, writes=(), any_batch_size=False):
        # AutoGraph would take seconds to rewrite Python that has no branches on tensors, and Keras does without, too.
        return tf.function(function, autograph=False, reduce_retracing=any_batch_size)

    def value_and_gradients(self, function, model):
        with tf.GradientTape() as tape:
            loss, other = function()
        return loss, other, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    def gradient(self, function, tensor):
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return tape.gradient(value, tensor)

    def tensor(self, array):
        if array.ctypes.data % 64 == 0 and array.flags.writeable and array.flags.c_contiguous:
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
        return tf.constant(array)

    def gradient_step(self, optimizer, variables):
        """`Adam` without extras is applied by TensorFlow's fused kernel to its own variables.

        The numbers are the same, 4 to 5 ms sooner per update of the Nature CNN.
        """
        apply = super().gradient_step(optimizer, variables)
        is_plain = not any(variable.constraint or variable.dtype != "float32" for variable in variables)
        if not (is_plain and _is_plain_adam(optimizer)):
            return apply
        return lambda gradients: (
            apply(gradients)
            if any(gradient is None for gradient in gradients)
            else _apply_fused_adam(optimizer, gradients, variables)
        )


class JAX(Backend):
    """Functions are pure: the values of variables go in as arguments and come out as results."""

    def compile(self, function, reads, writes=(), any_batch_size=False):
        @functools.partial(jax.jit, donate_argnums=0)
        def stateless(values_to_write, values_to_read, arguments):
            mapping = [*zip(writes, values_to_write, strict=True), *zip(reads, values_to_read, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                result = function(*arguments)
            return result, [scope.get_current_value(variable) for variable in writes]

        def call(*arguments):
            if any_batch_size:  # each new one would be compiled anew, for seconds: few are left
                size = len(keras.tree.flatten(arguments)[0])
                arguments = keras.tree.map_structure(lambda array: _padded(np.asarray(array)), arguments)
            result, written = stateless([each.value for each in writes], [each.value for each in reads], arguments)
            for variable, value in zip(writes, written, strict=True):
                variable._direct_assign(value)  # assign() checks it first, which takes 20 times as long
            return result[:size] if any_batch_size else result

        return call

    def value_and_gradients(self, function, model):
        learned, others = model.trainable_variables, model.non_trainable_variables

        def stateless(values):
            mapping = [*zip(learned, values, strict=True), *((variable, variable.value) for variable in others)]
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                loss, other = function()
            return loss, (other, [scope.get_current_value(variable) for variable in others])

        values = [variable.value for variable in learned]
        (loss, (other, changed)), gradients = jax.value_and_grad(stateless, has_aux=True)(values)
        for variable, value in zip(others, changed, strict=True):
            variable.assign(value)
        return loss, other, gradients

    def gradient(self, function, tensor):
        return jax.grad(function)(tensor)

    def tensor(self, array):
        return jax.device_put(array)


class Torch(Backend):
    """Nothing is compiled: each operation runs as it comes."""

    def compile(self, function, reads, writes=(), any_batch_size=False):
        def call(*arguments):
            with torch.no_grad():
                return function(*keras.tree.map_structure(self.tensor, arguments))

        return call

    def value_and_gradients(self, function, model):
        with torch.enable_grad():
            loss, other = function()
            variables = [variable.value for variable in model.trainable_variables]
            gradients = torch.autograd.grad(loss, variables, allow_unused=True)
        return loss.detach(), other.detach(), list(gradients)

    def gradient(self, function, tensor):
        with torch.enable_grad():
            tensor = tensor.detach().requires_grad_()
            return torch.autograd.grad(function(tensor), tensor)[0]


@functools.cache
def backend() -> Backend:
    """The one that Keras runs on.

    Raises:
        NotImplementedError: If it is none on which a network learns, such as OpenVINO.
    """
    name = keras.backend.backend()
    classes = {"tensorflow": TensorFlow, "jax": JAX, "torch": Torch}
    if name not in classes:
        raise NotImplementedError(f'Keras runs on "{name}", expected one of {", ".join(classes)}: set KERAS_BACKEND.')
    return classes[name]()


def _padded(array: np.ndarray) -> np.ndarray:
    """The array, its first axis lengthened with zeros to the next power of two."""
    missing = (1 << (len(array) - 1).bit_length()) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array


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


def _apply_fused_adam(adam: keras.optimizers.Adam, gradients: list, variables: Variables) -> None:
    learning_rate = tf.cast(adam.learning_rate, tf.float32)
    step = tf.cast(adam.iterations.value + 1, tf.float32)
    for variable, m, v, gradient in zip(variables, adam._momentums, adam._velocities, gradients, strict=True):
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
