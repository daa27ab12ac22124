"""Saves the policy while it is being trained."""

from collections.abc import Callable

from keras_rl import rl


class PolicySaver(rl.callbacks.Callback):
    """Calls `save()` every `interval` steps, and `warn(error)` instead of stopping where that fails.

    A full disk must not end a training: the next interval may find room again.
    """

    def __init__(self, save: Callable[[], None], interval: int, warn: Callable[[Exception], None]) -> None:
        super().__init__()
        self.save = save
        self.interval = interval
        self.warn = warn
        self._step = 0

    def on_step_end(self, step: int, logs=None) -> None:
        self._step += 1
        if self._step % self.interval == 0:
            try:
                self.save()
            except (OSError, ValueError) as error:
                self.warn(error)
