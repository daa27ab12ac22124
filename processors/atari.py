"""Atari frames, rewards and states as the network sees them."""

import math
from typing import Any

import keras
import numpy as np

from keras_rl import rl
from processors.frames import small_grey


class AtariProcessor(rl.core.Processor):
    """The only place where frames become 84 x 84 grey, and rewards and states are scaled.

    Args:
        log_rewards: whether rewards count by their logarithm, as in train.py's default, instead of being clipped.
        life_loss_penalty: what is taken from the processed reward of a step that costs a life.
        background: the grey, 0 to 255, that the network sees as 0.

    Attributes:
        input_offset: what is taken from the scaled states, for `DQNAgent.plain_weights`.
    """

    def __init__(self, log_rewards: bool = False, life_loss_penalty: float = 0.0, background: int = 0) -> None:
        self.log_rewards = log_rewards
        self.life_loss_penalty = life_loss_penalty
        self.background = background
        self.input_offset = background / 255

    def process_step(self, observation: np.ndarray, reward: float, done: bool, info: dict[str, Any]) -> tuple:
        """All that a step returned, processed, as by keras-rl; a life is lost where `info["life_lost"]` says so."""
        observation, reward, done, info = super().process_step(observation, reward, done, info)
        return observation, reward - self.life_loss_penalty * bool(info.get("life_lost", False)), done, info

    def process_observation(self, observation: np.ndarray) -> np.ndarray:
        """One frame, uint8 (84, 84), as the replay memory keeps it, see `small_grey`."""
        return small_grey(observation)

    def process_reward(self, reward: float) -> float:
        """The reward clipped to [-1, 1] (Mnih et al. 2015, Methods, "Training details").

        With `log_rewards` it is sign(r) log2(1 + |r|) instead (Hester et al. 2018, "Experimental setup", to the base
        that leaves 1 as it is): 4 counts as 2.3, 7 as 3.
        """
        if self.log_rewards:
            return math.copysign(math.log2(1.0 + abs(reward)), reward)
        return max(-1.0, min(1.0, float(reward)))

    def process_state_batch(self, batch: Any) -> Any:
        """States scaled from [0, 255] to [0, 1], less the background.

        Args:
            batch: a tensor, inside a compiled function too, or what NumPy makes an array of; of any shape.

        Returns:
            float32 of the same shape, a tensor for a tensor and else an array, both with the same bits.
        """
        # Not x / 255: TensorFlow compiles that to this product, and the two differ in the last bit.
        scale = np.float32(1 / 255)
        states = keras.ops.cast(batch, "float32") if keras.ops.is_tensor(batch) else np.asarray(batch, np.float32)
        return (states - np.float32(self.background)) * scale  # the difference of greys is exact

    # The learner may trace it into its compiled update; an override without the mark runs before, in NumPy.
    process_state_batch.traceable = True  # type: ignore[attr-defined]
