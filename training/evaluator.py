"""Measures the policy while it is being trained, and keeps the best."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_rl import rl


@dataclass(frozen=True)
class Evaluation:
    """Raw scores of full games of the policy that a training had come to."""

    step: int  # agent steps of the training
    scores: list[float]

    @property
    def mean(self) -> float:
        """The mean score."""
        return float(np.mean(self.scores))

    @property
    def standard_error(self) -> float:
        """Of the mean; of a single game 0."""
        return float(np.std(self.scores, ddof=1) / len(self.scores) ** 0.5) if len(self.scores) > 1 else 0.0

    @property
    def certain_mean(self) -> float:
        """The mean less its standard error, so that one lucky game makes none the highest."""
        return self.mean - self.standard_error

    def is_clearly_below(self, other: "Evaluation") -> bool:
        """Whether the mean is lower by more than two standard errors of the difference (by chance: once in 40)."""
        return other.mean - self.mean > 2 * float(np.hypot(self.standard_error, other.standard_error))


class Evaluator(rl.callbacks.Callback):
    """Plays games with the policy as it is, every `interval` agent steps and when `fit` is done; keeps the best one.

    They begin when the tick has ended that an interval ends in.
    Where the training is stopped meanwhile, the games are broken off. They are played again when it goes on.

    The best is the newest that is not clearly below the highest. A few games tell apart what differs much, such as a
    policy and what is left of it once a training has become unstable. Else the highest of several is the luckiest,
    and the newest has learned longest.

    Args:
        play: Called with weights as `DQNAgent.plain_weights` gives them, and the number of the evaluation, from 1 on,
            as a seed; returns raw scores of full games, or None if they were broken off. It must leave the training
            and its random generators alone: then the training goes on, bit for bit, as it would have without.
        interval: Agent steps from one evaluation to the next.
        listeners: Called with each `Evaluation`, once `best` is up to date.
        weights: The policy to be judged. Default: `DQNAgent.plain_weights`, the network as it is.
    """

    def __init__(
        self,
        play: Callable[[list[np.ndarray], int], list[float] | None],
        interval: int,
        listeners: Sequence[Callable[[Evaluation], None]] = (),
        weights: Callable[[], list[np.ndarray]] | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.play = play
        self.interval = interval
        self.listeners = listeners
        self.number = 0  # of evaluations so far
        self.last: Evaluation | None = None
        self.highest: Evaluation | None = None  # by `certain_mean`
        self.best: Evaluation | None = None
        self.best_weights: list[np.ndarray] = []

    def has_evaluated(self, step: int) -> bool:
        """Whether there is an evaluation of the policy after so many agent steps."""
        return self.last is not None and self.last.step >= step

    def on_step_begin(self, step: int, logs=None) -> None:
        due = self.model.step // self.interval * self.interval
        # Between two ticks the training can be stopped and go on, and then plays again what was broken off.
        if due and not self.model.pending_steps and not self.has_evaluated(due):
            self._evaluate(self.model.step)

    def on_train_end(self, logs=None) -> None:
        was_stopped = self.model.stop_training or (logs or {}).get("did_abort")
        if not was_stopped and not self.has_evaluated(self.model.step):
            self._evaluate(self.model.step)

    def get_state(self) -> dict[str, Any]:
        """What the end of the training depends on: JSON values and arrays."""
        evaluations = {"last": self.last, "highest": self.highest, "best": self.best}
        states = {name: evaluation and asdict(evaluation) for name, evaluation in evaluations.items()}
        return {"number": self.number, **states, "best_weights": self.best_weights}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called."""
        self.number = state["number"]
        state = {"highest": state["best"], **state}  # a checkpoint from when the highest was the best
        self.last, self.highest, self.best = (
            state[name] and Evaluation(**state[name]) for name in ("last", "highest", "best")
        )
        self.best_weights = state["best_weights"]

    def _evaluate(self, step: int) -> None:
        weights = (self.weights or self.model.plain_weights)()
        scores = self.play(weights, self.number + 1)
        if scores is None:
            return
        self.number += 1
        self.last = Evaluation(step, scores)
        if self.highest is None or self.last.certain_mean >= self.highest.certain_mean:
            self.highest = self.last
        if not self.last.is_clearly_below(self.highest):
            self.best, self.best_weights = self.last, weights
        for listener in self.listeners:
            listener(self.last)
