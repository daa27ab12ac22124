"""The network where nobody learns: any backend of Keras."""

from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np

from keras_rl.frames import FrameStacks


class Reader:
    """Takes `Learner`'s place where Keras runs on JAX or Torch: Q-values as ever, and a sentence instead of an update.

    Args:
        model: The Q-network.
        preprocess: As `Learner` has it.
    """

    def __init__(self, model: keras.Model, preprocess: Callable[[Any], Any] | None) -> None:
        self.model = model
        self.preprocess = preprocess or (lambda states: states)

    def q_values(self, states) -> np.ndarray:
        """Q-values of the network, (batch, num_actions) float32."""
        states = self.preprocess(np.asarray(states) if isinstance(states, FrameStacks) else states)
        return np.asarray(self.model.predict_on_batch(states), np.float32)

    def update(self, *batch) -> NoReturn:
        """Refuses.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            f"Learning needs Keras on TensorFlow, and this is Keras on {keras.backend.backend()}; "
            "set KERAS_BACKEND=tensorflow."
        )

    saliency = update
