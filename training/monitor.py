"""What is going on in a training, in numbers: gathered once, for the display and for metrics.csv."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from keras_h5 import files
from keras_rl import rl
from reports.learning_curve import numbers
from training.evaluator import Evaluation


@dataclass(frozen=True)
class Snapshot:
    """A moment of a training. Scores are raw scores of full games; NaN means: not known yet."""

    step: int  # agent steps so far
    seconds: float  # since the start
    steps_per_second: float  # over the last interval
    episodes: int  # games finished so far
    score: float  # mean of the last 100 games
    best_score: float  # of a single game
    evaluation: float  # mean score of the last evaluation
    epsilon: float  # share of random actions, at the last update
    loss: float  # mean over the updates of the last interval
    mean_q: float  # likewise: mean over the batch of max Q
    evaluations: int = 0  # so far: two in a row may have the same mean


class TrainingMonitor(rl.callbacks.Callback):
    """Makes a `Snapshot` every `interval` steps and at the end, and hands it to each of `listeners`.

    That is before the step that follows, and after an `Evaluator` that is called before it: where the training is
    stopped then, an evaluation is broken off, and both are made when it goes on.

    Raises:
        FloatingPointError: In a training, after the report: the loss is no finite number any more.
    """

    def __init__(self, interval: int, listeners: Sequence[Callable[[Snapshot], None]] = ()) -> None:
        super().__init__()
        self.interval = interval
        self.listeners = listeners
        self.scores: deque[float] = deque(maxlen=100)
        self.best_score = np.nan
        self.episodes = 0
        self._metrics: list[Sequence[float]] = []  # of the interval so far
        self.reported_step = 0
        self._epsilon = self._evaluation = np.nan
        self._evaluations = 0
        self._seconds_before = 0.0  # of the sessions before, if the training was resumed

    def on_train_begin(self, logs=None) -> None:
        self._started = self._interval_started = time.monotonic()
        self._names = self.model.metrics_names

    def on_step_begin(self, step: int, logs=None) -> None:
        now, is_last = self.model.step, self.model.stop_training and not self.model.pending_steps
        if now % self.interval == 0 and now > self.reported_step and not is_last:
            self._report(now)

    def on_step_end(self, step: int, logs) -> None:
        self._metrics.append(logs["metrics"])  # looked at later: an update may be running still

    def on_episode_end(self, episode: int, logs) -> None:
        self.episodes += 1
        self.scores.append(logs["episode_score"])
        self.best_score = np.fmax(self.best_score, logs["episode_score"])

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """For `Evaluator.listeners`."""
        self._evaluation = evaluation.mean
        self._evaluations += 1

    def on_train_end(self, logs=None) -> None:
        if self.model.step > self.reported_step:
            self._report(self.model.step)

    def get_state(self) -> dict[str, Any]:
        """What the next reports depend on, of JSON values."""
        return {
            "scores": list(self.scores),
            "best_score": float(self.best_score),
            "episodes": self.episodes,
            "metrics": [list(metrics) for metrics in self._metrics],
            "reported_step": self.reported_step,
            "epsilon": float(self._epsilon),
            "evaluation": float(self._evaluation),
            "evaluations": self._evaluations,
            "seconds": self._seconds_before + time.monotonic() - self._started,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where `get_state` was called."""
        self.scores.extend(state["scores"])
        self.best_score, self.episodes = state["best_score"], state["episodes"]
        self._metrics, self.reported_step = state["metrics"], state["reported_step"]
        self._epsilon, self._evaluation = state["epsilon"], state["evaluation"]
        self._evaluations = state.get("evaluations", 0)  # an older checkpoint does not tell
        self._seconds_before = state["seconds"]

    @property
    def mean_score(self) -> float:
        """Mean raw score of the last 100 games, NaN before the first has ended."""
        return float(np.mean(self.scores)) if self.scores else np.nan

    def _report(self, step: int) -> None:
        now = time.monotonic()
        updates = [metrics for metrics in self._metrics if not np.isnan(metrics).all()]  # epsilon is always a number
        columns = list(np.mean(updates, axis=0)) if updates else [np.nan] * len(self._names)
        means = dict(zip(self._names, columns, strict=True))
        if updates:
            self._epsilon = dict(zip(self._names, updates[-1], strict=True)).get("mean_eps", np.nan)
        snapshot = Snapshot(
            step=step,
            seconds=self._seconds_before + now - self._started,
            steps_per_second=(step - self.reported_step) / max(now - self._interval_started, 1e-9),
            episodes=self.episodes,
            score=self.mean_score,
            best_score=float(self.best_score),
            evaluation=float(self._evaluation),
            epsilon=float(self._epsilon),
            loss=float(means["loss"]),
            mean_q=float(means["mean_q"]),
            evaluations=self._evaluations,
        )
        self._interval_started, self.reported_step, self._metrics = now, step, []
        for listener in self.listeners:
            listener(snapshot)
        if updates and not np.isfinite(snapshot.loss):
            raise FloatingPointError("The loss is no finite number.")


class MetricsFile:
    """Writes snapshots to a CSV file as they come, one line each, under the names of `Snapshot`.

    Where that fails later on, it calls `warn(error)` once and writes the lines when there is room again: a full disk
    must not end a training.

    Args:
        path: The file. When a training is resumed, it keeps its whole lines up to `step`, and what an older version
            did not write into them becomes NaN.
        warn: See above.
        step: Agent steps of the last snapshot before.

    Raises:
        OSError: If the file cannot be begun.
    """

    def __init__(self, path: Path, warn: Callable[[Exception], None], step: int = 0) -> None:
        self.path = path
        self.warn = warn
        names = [field.name for field in fields(Snapshot)]
        lines = [",".join(names)]
        if step and path.exists():
            header, *before = path.read_text(errors="replace").splitlines() or [""]
            known = header.split(",")
            for line in before:
                if len(row := numbers(line)) == len(known) and row[0] <= step:
                    words = dict(zip(known, line.split(","), strict=True))
                    lines.append(",".join(words.get(name, "nan") for name in names))
        files.write(path, _as_csv(lines))
        self._waiting: list[str] = []  # lines that there was no room for

    def __call__(self, snapshot: Snapshot) -> None:
        row = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in astuple(snapshot)]
        self._waiting.append(",".join(row))
        try:
            files.append(self.path, _as_csv(self._waiting))
        except OSError as error:
            if len(self._waiting) == 1:
                self.warn(error)
        else:
            self._waiting.clear()


def _as_csv(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()  # the line ends of the csv module
