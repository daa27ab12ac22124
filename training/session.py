"""A training from its first step to its saved policy, and everything that accompanies it."""

import contextlib
import dataclasses
import importlib.metadata
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import console
from environments.atari import AtariEnvironment
from evaluation.protocol import Protocol, score_games
from evaluation.reference_scores import REFERENCES
from keras_h5 import files
from keras_rl.agent import DQNAgent
from keras_rl.checkpoint import Checkpointer, CheckpointError
from models.policy_file import PolicyFileError, TrainedPolicy, load_policy, save_policy
from reports.film import GameFilm
from reports.learning_curve import draw_learning_curve
from training.averaging import PolicyAverage
from training.evaluator import Evaluation, Evaluator
from training.monitor import MetricsFile, TrainingMonitor
from training.progress import ProgressDisplay, duration
from training.run import Run
from training.saving import PolicySaver
from training.tensorboard import TensorBoardFile

SAVE_INTERVAL_STEPS = 25_000  # of the policy and of the checkpoint
REPORT_INTERVAL_STEPS = 500
MAX_FILM_SECONDS = 60  # of an evaluation game, for TensorBoard


class Training:
    """A run's agent with what accompanies it: it is shown, evaluated and saved, and goes on where it was stopped."""

    def __init__(self, run: Run, dqn: DQNAgent, environments: list[AtariEnvironment], screen: Console) -> None:
        self.run, self.dqn, self.environments, self.screen, config = run, dqn, environments, screen, run.config
        self.protocol = Protocol(config.game, config.evaluation_games, sticky=config.sticky)
        self.games: list[dict[str, Any]] = []  # of the last evaluation
        self.monitor = TrainingMonitor(REPORT_INTERVAL_STEPS)
        self.average = PolicyAverage(config.average_interval, config.average_window)
        self.evaluator = Evaluator(
            self._play,
            config.evaluation_steps,
            listeners=[self.monitor.on_evaluation, self._on_evaluation],
            weights=self.average.weights,
        )
        extras = {"monitor": self.monitor, "average": self.average, "evaluator": self.evaluator}
        self.checkpointer = Checkpointer(run.folder / "checkpoint", SAVE_INTERVAL_STEPS, extras, self._warn)
        self.start = self._take_up()
        if run.changes:
            run.changes[-1].setdefault("step", self.start)
        try:
            run.write()
            metrics_file = MetricsFile(run.folder / "metrics.csv", self._warn, self.monitor.reported_step)
            self.tensorboard = TensorBoardFile(run.folder, self._warn, self.monitor.reported_step)
        except OSError as error:
            raise console.UsageError(f"{run.folder} cannot be written ({error.strerror}); make room there.") from error
        self.display = ProgressDisplay(run.steps, screen)
        self.monitor.listeners = [self.display, metrics_file, self.tensorboard]

    def fit(self) -> int:
        """Trains to the end or until it is stopped, and saves. Returns the exit status."""
        callbacks = [
            self.checkpointer,
            self.average,
            *([self.evaluator] if self.run.config.evaluations else []),
            self.monitor,
            PolicySaver(self._save, SAVE_INTERVAL_STEPS, self._warn),
        ]
        started = time.monotonic()
        with _stopped_by_signals(self.dqn):
            with self.display:
                self.dqn.fit(self.environments, nb_steps=self.run.steps, callbacks=callbacks, verbose=0)
            return self._finish(time.monotonic() - started)

    def _take_up(self) -> int:
        """Goes to where the run was stopped, if it was, and tidies up after it. Returns the agent steps so far."""
        run = self.run
        try:
            start = self.checkpointer.restore(self.dqn, self.environments) or 0
        except CheckpointError as error:
            raise console.UsageError(f"{run.folder} cannot be resumed: {error}.") from error
        if start >= run.steps and _is_saved(run, start):
            raise console.UsageError(f"{run.folder} has done its {start:,} steps; give a larger number with --steps.")
        files.remove_leftovers(run.out, older_than=600)  # another run may be writing there
        for name in ("config.json", "metrics.csv"):
            files.remove_leftovers(run.folder / name)
        if run.config.start_from and not start:
            self.dqn.set_plain_weights(load_policy(run.config.start_from, nb_actions=self.dqn.nb_actions).weights)
        return start

    def _play(self, weights: list[np.ndarray], number: int) -> list[float]:
        self.games.clear()
        protocol = dataclasses.replace(self.protocol, seed=number)
        return score_games(TrainedPolicy(tuple(weights), {}), protocol, games=self.games)

    def _on_evaluation(self, evaluation: Evaluation) -> None:
        is_best = evaluation is self.evaluator.best
        is_highest = evaluation is self.evaluator.highest
        rank = ", the best so far" if is_highest else ", within two standard errors of the best" if is_best else ""
        self._print(f"{_in_words(evaluation)}{rank}.")
        try:
            if is_best:
                self._save(evaluation.step, self.run.folder / "best.h5", evaluation)
            self._draw()
            film = GameFilm(".gif", MAX_FILM_SECONDS)
            best_game = self.games[int(np.argmax(evaluation.scores))]
            self.protocol.build_environment(film.on_frame).set_state(best_game)
            self.tensorboard.add_picture(evaluation.step, "best_evaluation_game", film.to_bytes())
        except (OSError, ValueError) as error:
            self._warn(error)

    def _save(self, step: int, path: Path | None = None, evaluation: Evaluation | None = None) -> None:
        """Writes the policy as it is, or the best one so far, whose evaluation it is."""
        config, path = self.run.config, path or self.run.out
        facts = {
            "game": config.game,
            "actions": self.environments[0].get_action_meanings(),
            "steps": evaluation.step if evaluation else step,
            "steps_of_training": step,
            "seed": config.seed,
            "sticky": config.sticky,
            "run": self.run.folder.name,
            "training_score": self.monitor.mean_score,
            "training_score_protocol": f"mean raw score of the last {len(self.monitor.scores)} training games",
            "config": dataclasses.asdict(config),
            **({"changes": self.run.changes} if self.run.changes else {}),
            "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "ale-py")},
        }
        if evaluation:
            facts |= {"evaluation_score": evaluation.mean, "evaluation_protocol": f"mean raw score, {self.protocol}"}
        aside = save_policy(path, self.evaluator.best_weights if evaluation else self.average.weights(), facts)
        if aside:
            kept = path.with_name(aside.name)
            self._print(f"The policy that was in {path} is of another run; it is kept as {kept}.")

    def _draw(self) -> None:
        game, folder = self.run.config.game, self.run.folder
        human = REFERENCES[game][1] if game in REFERENCES else None
        draw_learning_curve(folder / "metrics.csv", folder / "learning_curve.png", game, human)

    def _finish(self, seconds: float) -> int:
        """Says what was done, saves the policy, says which one it is. Returns the exit status."""
        run, done = self.run, self.dqn.step - self.start
        stopped = self.dqn.step < run.steps
        self._print(
            f"{'Stopped after' if stopped else 'Done:'} {self.dqn.step:,} steps, {done:,} of them in the last "
            f"{duration(seconds)}, {done / seconds:,.0f} steps/s. "
            f"The numbers are in {run.folder / 'metrics.csv'}, drawn in {run.folder / 'learning_curve.png'}."
        )
        try:
            self._draw()
        except OSError as error:
            self._warn(error)
        if stopped:
            self._print(f"Go on with it: python train.py --resume {run.folder}")
        best = None if stopped else self.evaluator.best
        places = [run.out, run.folder / "policy.h5", Path(tempfile.gettempdir(), "policy.h5")]
        saved = _save_at_first_place(lambda path: self._save(self.dqn.step, path, best), places, self._warn)
        option = "" if saved == Path("policy.h5") else f" --policy {saved}"
        self._print(f"The policy is in {saved}. Watch it play: python play.py{option}")
        if self.evaluator.best:
            self._print(self._which_policy(self.evaluator.best, is_best=best is not None))
        return console.STOPPED if stopped else console.DONE

    def _which_policy(self, best: Evaluation, is_best: bool) -> str:
        """Which of the evaluated policies policy.h5 is, and why."""
        if not is_best:
            where = self.run.folder / "best.h5"
            return f"It is the newest one, not evaluated; the best so far is in {where}. {_in_words(best)}."
        rule = f"the newest of {self.evaluator.number} evaluations within two standard errors of the highest"
        ranks = {"highest by mean less standard error": self.evaluator.highest, "last": self.evaluator.last}
        others = [f" The {rank}: {_in_words(other)}." for rank, other in ranks.items() if other and other != best]
        return f"It is {rule}. {_in_words(best)}.{''.join(others)}"

    def _warn(self, error: Exception) -> None:
        if isinstance(error, CheckpointError):
            self._print(f"Going on from the checkpoint before: {error}.")
        else:
            self._print(f"Not saved this time, the training goes on: {error}")

    def _print(self, text: str) -> None:
        self.screen.print(text, soft_wrap=True)


@contextlib.contextmanager
def _stopped_by_signals(dqn: DQNAgent) -> Iterator[None]:
    """Lets the agent finish its step at Ctrl-C or SIGTERM; a second one does not wait."""

    def stop(number: int, frame: object) -> None:
        dqn.stop_training = True
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:  # a notebook goes on, and wants its own
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_words(evaluation: Evaluation) -> str:
    error = f" +- {evaluation.standard_error:.1f}" if len(evaluation.scores) > 1 else ""
    return f"Step {evaluation.step:,}: mean {evaluation.mean:.1f}{error} in {len(evaluation.scores)} games"


def _is_saved(run: Run, step: int) -> bool:
    """Whether the policy is there that a training ends with, which is written after its last checkpoint."""
    try:
        facts = load_policy(run.out).facts
    except PolicyFileError:
        return False
    return (facts.get("run"), facts.get("steps_of_training")) == (run.folder.name, step)


def _save_at_first_place(save: Callable[[Path], None], places: list[Path], warn: Callable[[Exception], None]) -> Path:
    """Saves the finished policy, elsewhere if it must be: an hour's work is not lost to a full disk."""
    for place in places[:-1]:
        try:
            save(place)
            return place
        except (OSError, PolicyFileError) as error:
            warn(error)
    save(places[-1])
    return places[-1]
