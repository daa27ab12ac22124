"""What is judged and saved as the policy: the mean of the last networks, in place of the last one."""

from typing import Any

import numpy as np

from keras_rl import rl


class PolicyAverage(rl.callbacks.Callback):
    """Keeps the running mean of a training's networks, one every `interval` agent steps.

    The last network is one of many that lie around a better one, and their mean is nearer to that (Polyak & Juditsky
    1992; Izmailov et al. 2018, section 3). Nothing that is learned depends on it.

    Args:
        interval: Agent steps from one network to the next.
        window: How many networks the mean reaches back, roughly: each new one has a share of 1 / `window` in it, or
            an equal one as long as there are fewer. 1: the network as it is, at any step.
    """

    def __init__(self, interval: int, window: int) -> None:
        super().__init__()
        self.interval = interval
        self.window = window
        self.number = 0  # of networks so far
        self._mean: list[np.ndarray] = []

    def on_step_end(self, step: int, logs=None) -> None:
        if self.window > 1 and (self.model.step + 1) % self.interval == 0:
            self.number += 1
            newest, share = self.model.plain_weights(), np.float32(1 / min(self.number, self.window))
            mean = self._mean or newest
            self._mean = [old + share * (new - old) for old, new in zip(mean, newest, strict=True)]

    def weights(self) -> list[np.ndarray]:
        """The mean, as weights of the plain network."""
        return self._mean or self.model.plain_weights()

    def get_state(self) -> dict[str, Any]:
        """The mean, and of how many networks it is."""
        return {"number": self.number, "mean": self._mean}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called."""
        self.number, self._mean = state["number"], state["mean"]
