"""A training from its first step to its saved policy, and everything that accompanies it."""

import contextlib
import dataclasses
import math
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import console
from environments.atari import AtariEnvironment
from environments.workers import WorkerError, Workers
from evaluation.protocol import Protocol, score_games
from evaluation.reference_scores import REFERENCES
from keras_h5 import files
from keras_rl import rl
from keras_rl.agent import DQNAgent
from keras_rl.checkpoint import Checkpointer, CheckpointError
from models.policy_file import TrainedPolicy, load_policy, save_policy
from reports.film import GameFilm
from reports.inline import in_notebook, show_inline
from reports.learning_curve import draw_learning_curve
from training.averaging import PolicyAverage
from training.evaluator import Evaluation, Evaluator
from training.monitor import MetricsFile, Snapshot, TrainingMonitor
from training.progress import ProgressDisplay
from training.run import Run
from training.tensorboard import TensorBoardFile

REPORT_INTERVAL_STEPS = 500
SUSPICIOUS_LOSS = 1e9  # no sum of rewards squared comes near it
MAX_FILM_SECONDS = 60  # of an evaluation game, for TensorBoard
MAX_IDLE_STEPS = 1_800  # two minutes: a beginner can stand still for the half hour that a game may last


class Training:
    """A run's agent with what accompanies it: it is shown, evaluated and saved, and goes on where it was stopped."""

    def __init__(
        self,
        run: Run,
        dqn: DQNAgent,
        environments: list[AtariEnvironment],
        screen: Console,
        workers: Workers,
        checkpoint_steps: int,
    ) -> None:
        self.workers = workers  # the environments' own, and those of the evaluations
        self.run, self.dqn, self.environments, self.screen, config = run, dqn, environments, screen, run.config
        view = config.keras_rl_views > 0.5  # what most of the games are seen in
        self.protocol = Protocol(
            config.game,
            config.evaluation_games,
            sticky=config.sticky,
            max_idle_steps=MAX_IDLE_STEPS,
            keras_rl_view=view,
        )
        self.games: list[dict[str, Any]] = []  # of the last evaluation
        self._is_suspicious = False
        self.aside: Path | None = None  # where the policy of another run is that was in the way
        self.monitor = TrainingMonitor(REPORT_INTERVAL_STEPS)
        self.average = PolicyAverage(config.average_interval, config.average_window)
        self.evaluator = Evaluator(
            self._play,
            config.evaluation_steps,
            listeners=[self.monitor.on_evaluation, self._on_evaluation],
            weights=self.average.weights,
        )
        extras = {"monitor": self.monitor, "average": self.average, "evaluator": self.evaluator}
        self.checkpointer = Checkpointer(
            run.folder / "checkpoint", checkpoint_steps, extras, self._warn, then=self._save_newest
        )
        with files.in_words(run.folder):
            run.keep_start()
            self.start = self._take_up()
            if run.changes:
                run.changes[-1].setdefault("step", self.start)
            run.write()
            metrics_file = MetricsFile(run.folder / "metrics.csv", self._warn, self.monitor.reported_step)
            self.tensorboard = TensorBoardFile(
                run.folder, self._warn, self.monitor.reported_step, lambda: float(dqn.learner.optimizer.learning_rate)
            )
            self.tensorboard.add_settings(self.start, dataclasses.asdict(config))
        self.display = ProgressDisplay(run.steps, screen)
        self.monitor.listeners = [self.display, metrics_file, self.tensorboard, self._look_at_the_loss]

    def fit(self) -> int:
        """Trains to the end or until it is stopped or diverges, and saves. Returns the exit status."""
        callbacks = [
            StopNotice(self._print),
            self.average,
            *([self.evaluator] if self.run.config.evaluations else []),
            self.checkpointer,  # after the last evaluation, before the report that only a stopped training makes
            self.monitor,
        ]
        started = time.monotonic()
        with _stopped_by_signals(self.dqn, self.screen):
            try:
                with self.display, self._death_of_a_worker_in_words():
                    self.dqn.fit(self.environments, nb_steps=self.run.steps, callbacks=callbacks, verbose=0)
            except FloatingPointError as error:
                return self._diverged(error)
            return self._finish(time.monotonic() - started)

    @contextlib.contextmanager
    def _death_of_a_worker_in_words(self) -> Iterator[None]:
        try:
            yield
        except WorkerError as error:
            raise console.UsageError(
                f"{error}. The training is kept up to step {self.checkpointer.last_step:,}; go on with it: "
                f"python train.py --resume {self.run.folder}"
            ) from error

    def _take_up(self) -> int:
        """Goes to where the run was stopped, if it was, and tidies up after it. Returns the agent steps so far."""
        run = self.run
        try:
            start = self.checkpointer.restore(self.dqn, self.environments) or 0
        except CheckpointError as error:
            raise console.UsageError(f"{run.folder} cannot be resumed: {error}.") from error
        files.remove_leftovers(run.out, older_than=600)  # another run may be writing there
        for name in ("best.h5", "config.json", "learning_curve.png", "metrics.csv", "policy.h5", "start.h5"):
            files.remove_leftovers(run.folder / name)
        if run.config.start_from and not start:
            self.dqn.set_plain_weights(load_policy(run.start_file, nb_actions=self.dqn.nb_actions).weights)
        return start

    def _play(self, weights: list[np.ndarray], number: int) -> list[float] | None:
        """Plays the games of an evaluation; None if the training was stopped meanwhile."""
        self.games.clear()
        protocol = dataclasses.replace(self.protocol, seed=number)
        scores = score_games(
            TrainedPolicy(tuple(weights), {}),
            protocol,
            [BreakOff(self.dqn), GamesSoFar(protocol.episodes, partial(self._say_meanwhile, number))],
            self.games,
            self.workers,
        )
        if self.dqn.stop_training:
            self._print("The evaluation is broken off; it is played again when the training goes on.")
            return None
        return scores

    def _say_meanwhile(self, number: int, games: str) -> None:
        self.display.say_meanwhile(f"Evaluation {number} of {self._num_evaluations}: {games}")

    def _on_evaluation(self, evaluation: Evaluation) -> None:
        is_best, highest = evaluation is self.evaluator.best, self.evaluator.highest
        if highest is None or evaluation.mean >= highest.mean:  # it need not be as certain
            rank = "the best so far"
        else:
            rank = "within chance of the best so far" if is_best else "clearly below the best so far"
            rank += f", {highest.mean:,.1f} at step {highest.step:,}"
        number = f"Evaluation {self.evaluator.number} of {self._num_evaluations}"
        self._print(f"{number}, step {evaluation.step:,}: {_in_words(evaluation)}; {rank}.")
        self.tensorboard.add_evaluation(evaluation)
        if is_best:
            with self._spared():
                self._save(evaluation.step, self.run.folder / "best.h5", evaluation)
        self._draw()
        with self._spared():
            film = GameFilm(".gif", MAX_FILM_SECONDS)
            best_game = self.games[int(np.argmax(evaluation.scores))]
            self.protocol.build_environment(on_frame=film.on_frame).set_state(best_game)
            self.tensorboard.add_picture(evaluation.step, "score/best_evaluation_game", film.to_bytes())

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """Lets nothing that only accompanies a training end it: what goes wrong is told, and it goes on."""
        try:
            yield
        except Exception as error:
            self._warn(error)

    def _save_newest(self) -> None:
        """Writes the policy as it is into policy.h5."""
        with self._spared():
            self._save(self.dqn.step, self.run.out)

    def _save(self, step: int, path: Path, evaluation: Evaluation | None = None, finished: bool = False) -> None:
        """Writes the policy as it is, or the best one so far, whose evaluation it is; `finished`: as the last word."""
        config = self.run.config
        facts = {
            "game": config.game,
            "actions": self.environments[0].get_action_meanings(),
            "steps": evaluation.step if evaluation else step,
            "steps_of_training": step,
            "seed": config.seed,
            "sticky": config.sticky,
            "run": self.run.folder.name,
            "finished": finished,
            **self._training_score(),
            "config": dataclasses.asdict(config),
            **({"changes": self.run.changes} if self.run.changes else {}),
            "versions": console.versions("keras", "ale-py"),
        }
        if evaluation:
            facts |= {"evaluation_score": evaluation.mean, "evaluation_protocol": f"mean raw score, {self.protocol}"}
        aside = save_policy(path, self.evaluator.best_weights if evaluation else self.average.weights(), facts)
        if aside:
            self.aside = path.with_name(aside.name)
            self._print(f"The policy that was in {path} is of another run; it is kept as {self.aside}.")

    def _training_score(self) -> dict[str, Any]:
        """What the training games say of the policy; nothing before the first has ended."""
        number = console.counted(len(self.monitor.scores), "training game")
        facts = {
            "training_score": self.monitor.mean_score,
            "training_score_protocol": f"mean raw score of the last {number}",
        }
        return facts if self.monitor.scores else {}

    def _draw(self) -> None:
        game, folder = self.run.config.game, self.run.folder
        human = REFERENCES[game][1] if game in REFERENCES else None
        with self._spared():
            draw_learning_curve(folder / "metrics.csv", folder / "learning_curve.png", game, human)

    def _finish(self, seconds: float) -> int:
        """Saves the policy, then says what was done, which policy was kept and what can be done with it."""
        run, evaluator, done = self.run, self.evaluator, self.dqn.step - self.start
        finished = self.dqn.step >= run.steps and (evaluator.has_evaluated(run.steps) or not run.config.evaluations)
        best = evaluator.best if finished else None
        places = [run.out, run.folder / "policy.h5", Path(tempfile.gettempdir(), "policy.h5")]
        saved = self._save_at_first(places, best, finished)
        self._draw()
        steps = f"{self.dqn.step:,}" if finished else f"{self.dqn.step:,} of {run.steps:,}"
        these = f", {done:,} of them" if self.start else ""
        self._print(
            f"{'Done' if finished else 'Stopped'}: {steps} agent steps{these} in {console.duration(seconds)}, "
            f"{done / seconds:,.0f} a second."
        )
        if saved is None:
            go_on = console.command("train.py", "--resume", run.folder)
            raise console.UsageError(f"The policy cannot be written anywhere, as said above; make room, then {go_on}.")
        self._print(f"{saved} is {self._which_policy(best)}")
        play = console.command("play.py", *([] if saved == Path("policy.h5") else ["--policy", saved]))
        commands = {"Watch it play": play, "Look at the curve": run.folder / "learning_curve.png"}
        if not finished:
            commands["Go on with it"] = console.command("train.py", "--resume", run.folder)
        if self.aside:
            commands["Watch the other"] = console.command("play.py", "--policy", self.aside)
        self._print_commands(commands)
        if in_notebook():
            with self._spared():
                show_inline(run.folder / "learning_curve.png")
        return console.DONE if finished else console.STOPPED

    def _save_at_first(self, places: list[Path], best: Evaluation | None, finished: bool) -> Path | None:
        """Saves the policy of the end, elsewhere if it must be: an hour's work is not lost to a full disk."""
        for place in places:
            try:
                self._save(self.dqn.step, place, best, finished)
                return place
            except (OSError, files.FileError) as error:
                self._warn(error)
        return None

    def _diverged(self, reason: FloatingPointError) -> int:
        """Says that nothing sound can come of it, and what to do; what was saved before stays. Returns the status."""
        run, config, saved = self.run, self.run.config, self.checkpointer.last_step
        what = str(reason).partition(":")[0].rstrip(".")  # what to do about it is said below
        self._print(f"The training has diverged after {self.dqn.step:,} steps, and ends. {what}.")
        options = [
            "--learning-rate",
            f"{config.learning_rate / 4:g}",
            *(["--delta-clip", 1] if config.delta_clip > 1 else []),
        ]
        if saved:
            self._print(f"The checkpoint of step {saved:,} is sound, and so is the policy of then in {run.out}.")
            go_on = console.command("train.py", "--resume", run.folder, *options)
            self._print(f"Go on from there with smaller updates: {go_on}")
        else:
            self._print(f"Nothing was saved yet. Start again with smaller updates, with {' '.join(map(str, options))}.")
        return console.DIVERGED

    def _look_at_the_loss(self, snapshot: Snapshot) -> None:
        if snapshot.loss > SUSPICIOUS_LOSS and not self._is_suspicious:
            self._is_suspicious = True
            self._print(
                f"The loss is {snapshot.loss:.0e}, as of a training that diverges; it goes on. "
                "A smaller --learning-rate or --delta-clip helps."
            )

    def _which_policy(self, best: Evaluation | None) -> str:
        """Which policy has been saved, and why: the best of those evaluated, or the one of now."""
        highest, last = self.evaluator.highest, self.evaluator.last
        if best is None:
            words = f"the policy as it is now, at step {self.dqn.step:,}; it has not been evaluated."
            if self.evaluator.best:
                where, known = self.run.folder / "best.h5", self.evaluator.best
                words += f" The best that has is that of step {known.step:,}, in {where}: {_in_words(known)}."
            return words
        words = f"the policy of step {best.step:,}: {_in_words(best)}."
        if last is None or highest is None or last.mean >= highest.mean:
            return words if self.evaluator.number < 2 else f"{words} No other evaluation was clearly better."
        if best is last:
            return (
                f"{words} Step {highest.step:,} had {highest.mean:,.1f}, but so small a difference can be luck, and "
                "the newer policy has learned longer."
            )
        words += f" The last one, of step {last.step:,}, is clearly below: {last.mean:,.1f}."
        if best.mean < highest.mean:
            words += f" Step {highest.step:,} had {highest.mean:,.1f}; so small a difference can be luck."
        return words

    @property
    def _num_evaluations(self) -> int:
        """Evaluations up to the end of the training."""
        return math.ceil(self.run.steps / self.run.config.evaluation_steps)

    def _warn(self, error: Exception) -> None:
        if isinstance(error, CheckpointError):
            self._print(f"Going on from the checkpoint before: {error}.")
        else:
            self._print(f"Not saved this time, the training goes on: {error}")

    def _print(self, text: str) -> None:
        console.say(self.screen, text)

    def _print_commands(self, commands: dict[str, object]) -> None:
        """What to do next, each in a line that can be copied."""
        for what, words in commands.items():
            self.screen.print(f"{what + ':':19} {words}", soft_wrap=True, markup=False)


class StopNotice(rl.callbacks.Callback):
    """Says what happens now that a training has been stopped, before anything else does."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.say = say

    def on_train_end(self, logs=None) -> None:
        if self.model.stop_training:
            self.say("Stopping: the training is saved as it is now. Another Ctrl-C ends it without that.")


class BreakOff(rl.callbacks.Callback):
    """Ends the games of an evaluation once the training is to end."""

    def __init__(self, training_agent: DQNAgent) -> None:
        super().__init__()
        self.training_agent = training_agent

    def on_step_end(self, step: int, logs=None) -> None:
        self.model.stop_training = self.training_agent.stop_training


class GamesSoFar(rl.callbacks.Callback):
    """Says how far the games of an evaluation are, five times a second."""

    def __init__(self, num_games: int, say: Callable[[str], None]) -> None:
        super().__init__()
        self.num_games, self.say = num_games, say
        self.num_over = self.num_steps = 0
        self._told = time.monotonic()

    def on_step_end(self, step: int, logs=None) -> None:
        self.num_steps += 1
        if time.monotonic() - self._told > 0.2:
            self._told = time.monotonic()
            self.say(f"{self.num_over} of {console.counted(self.num_games, 'game')} over, {self.num_steps:,} steps")

    def on_episode_end(self, episode: int, logs=None) -> None:
        self.num_over += 1


@contextlib.contextmanager
def _stopped_by_signals(dqn: DQNAgent, screen: Console) -> Iterator[None]:
    """Lets the agent finish its step at Ctrl-C, SIGTERM, or SIGHUP from a terminal that closes.

    A second Ctrl-C or SIGTERM does not wait. SIGHUP comes more than once, and after nohup it is ignored.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)

    def stop(number: int, frame: object) -> None:
        dqn.stop_training = True
        signal.signal(number, signal.SIG_IGN if number == hang_up else leave_at_once)

    def leave_at_once(number: int, frame: object) -> None:
        screen.show_cursor(True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:  # a notebook goes on, and wants its own
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_words(evaluation: Evaluation) -> str:
    num_games = len(evaluation.scores)
    if num_games == 1:
        return f"{evaluation.mean:,.1f} points in 1 game"
    error = f"standard error {evaluation.standard_error:,.1f}"
    return f"{evaluation.mean:,.1f} points on average over {num_games} games ({error})"
