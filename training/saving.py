"""Saves the policy while it is being trained."""

from collections.abc import Callable

from keras_rl import rl


class PolicySaver(rl.callbacks.Callback):
    """Calls `save(agent steps so far)` every `interval` steps, and `warn(error)` instead of stopping where that fails.

    A full disk must not end a training: the next interval may find room again.
    """

    def __init__(self, save: Callable[[int], None], interval: int, warn: Callable[[Exception], None]) -> None:
        super().__init__()
        self.save = save
        self.interval = interval
        self.warn = warn

    def on_step_end(self, step: int, logs=None) -> None:
        if (self.model.step + 1) % self.interval == 0:
            try:
                self.save(self.model.step + 1)
            except (OSError, ValueError) as error:
                self.warn(error)
