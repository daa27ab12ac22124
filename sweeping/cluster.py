"""The trials of a sweep on Ray: it deals them out over the cores of one machine or a cluster, and takes them back.

Ray knows which cores are free and who has died. What a trial has come to is in its folder and nowhere else: an attempt
goes on from there, on whatever machine it is made. So the same command after any end is the restore.
"""

import contextlib
import os
import secrets
import signal
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import console
from config import Config
from environments.workers import usable_cores
from sweeping.attempt import Order, Outcome, attempt
from sweeping.plan import Trial
from sweeping.progress import DONE, FAILED, WAITING, Standing, SweepDisplay

NEEDED = "python -m pip install -r requirements-cluster.txt"
BYTES_OF_PROGRAM, BYTES_OF_OBSERVATION, BYTES_OF_WORKER = 1_200_000_000, 1_000, 60_000_000  # as measured, and more
SECONDS_TO_STOP = 120.0  # for all trainings to save
PASSED_ON = ("KERAS_BACKEND", "JAX_PLATFORMS", "TF_ENABLE_ONEDNN_OPTS")  # variables that mean the same everywhere


@dataclass(frozen=True)
class Means:
    """What a sweep may use."""

    address: str | None  # of a cluster; None: this machine
    cores: int  # for a trial
    gpus: float  # for a trial; a share of one, too
    tries: int  # attempts at a trial that come no further, before it is given up
    checkpoint_steps: int


@contextlib.contextmanager
def connected(means: Means) -> Iterator[Any]:
    """Ray, as a module: the cluster's, or one started in this machine for as long as this lasts.

    Raises:
        UsageError: It is not installed, no cluster answers, or no machine has so many cores.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else a training waits for everything else
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # no share of a GPU, no GPU
    try:
        import ray
    except ImportError:
        raise console.UsageError(f"A sweep needs Ray, which is not installed; install it: {NEEDED}") from None
    has_token = "RAY_AUTH_TOKEN" in os.environ or Path("~/.ray/auth_token").expanduser().exists()
    if means.address and has_token:  # as `ray start --head` does
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if not means.address:
        quiet |= {"num_cpus": usable_cores(), "include_dashboard": False}
        quiet |= {"object_store_memory": 80_000_000}  # hardly anything goes through it
    try:
        ray.init(address=means.address or "local", **quiet)
    except Exception as error:  # of many kinds, for many reasons
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        where = f"The cluster at {means.address} does not answer" if means.address else "Ray cannot start"
        raise console.UsageError(f"{where} ({reason}); see docs/cluster.md.") from error
    with contextlib.suppress(AttributeError):
        # What it prints of a worker that dies is pages long, and would go through the table. We say it ourselves.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield ray
    finally:
        ray.shutdown()


class Sweep:
    """Trials that are done, one after the other or side by side.

    Args:
        ray: The module, connected.
        standings: One of each trial.
        means: What it may use.
        display: Where it is shown.
    """

    def __init__(self, ray: Any, standings: Sequence[Standing], means: Means, display: SweepDisplay) -> None:
        self.ray, self.standings, self.means, self.display = ray, standings, means, display
        self.is_stopping = False
        self._running: dict[Any, Standing] = {}
        self._before: dict[str, tuple[bool, int]] = {}  # how far a trial was when an attempt began
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = max((machine.get("CPU", 0) for machine in machines), default=0)
        if most < means.cores:
            raise console.UsageError(
                f"--cores is {means.cores}, but the largest machine has {most:g}; give at most that."
            )
        if means.gpus and not any(machine.get("GPU", 0) for machine in machines):
            raise console.UsageError(f"--gpus is {means.gpus:g}, but no machine of the cluster has one; leave it out.")
        self._memory = max((machine.get("memory", 0) for machine in machines), default=0)
        self.places = sum(int(min(m.get("CPU", 0) // means.cores, self._fit(m))) for m in machines)
        self._task = ray.remote(attempt)

    def run(self) -> bool:
        """Does them all. Returns whether it came to the end: it did not if it was stopped."""
        with self._stopped_by_signals(), self.display:
            for standing in self.standings:
                if standing.state == WAITING:
                    self._begin(standing)
            while self._running:
                ready, _ = self.ray.wait(list(self._running), timeout=1.0)
                for reference in ready:
                    self._take(self._running.pop(reference), reference)
                if self.is_stopping:
                    self._stop()
                for standing in self._running.values():
                    standing.refresh()
                self.display.update()
            self.display.update(at_once=True)
        return not self.is_stopping

    def _begin(self, standing: Standing) -> None:
        trial, means = standing.trial, self.means
        standing.token = secrets.token_hex(8)
        self._before[trial.name] = trial.is_trained, trial.checkpoint_step
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        options: dict[str, Any] = {
            "num_cpus": means.cores,
            "num_gpus": means.gpus,
            "name": trial.name,
            "max_retries": 0,
        }
        options["memory"] = int(min(bytes_needed(trial.config, means.cores), self._memory))
        task = self._task.options(**options, scheduling_strategy="SPREAD")
        reference = task.remote(trial, Order(standing.token, means.cores, means.checkpoint_steps, environment))
        self._running[reference] = standing

    def _take(self, standing: Standing, reference: Any) -> None:
        """What has become of an attempt: the trial is done, or tried again, or given up."""
        trial = standing.trial
        try:
            outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:  # the worker has died, or its machine
            outcome = Outcome(False, _in_words(error))
        standing.token = ""
        if outcome.is_done:
            standing.finish()
            games = console.counted(trial.episodes, "game")
            self.display.say(f"{trial.name}: done, {standing.score:,.1f} points on average over {games}.")
        elif not self.is_stopping:
            came_further = (trial.is_trained, trial.checkpoint_step) > self._before[trial.name]
            standing.tries = 1 if came_further else standing.tries + 1
            if outcome.is_final or standing.tries >= self.means.tries:
                standing.fail(outcome.words)
                self.display.say(f"{trial.name}: failed for good. {outcome.words}. Its log is {trial.log}.")
            else:
                where = f"from step {trial.checkpoint_step:,}" if trial.checkpoint_step else "from the start"
                self.display.say(f"{trial.name}: tried again {where}. {outcome.words}.")
                self._begin(standing)

    def _stop(self) -> None:
        """Lets every training save and end, and waits for it."""
        self.display.note = "stopping"
        self.display.say("Stopping: every training is saved as it is now. Another Ctrl-C does not wait for it.")
        for reference in self._running:
            self.ray.cancel(reference)
        references = list(self._running)
        done, late = self.ray.wait(references, num_returns=len(references), timeout=SECONDS_TO_STOP)
        for reference in done:
            self._take(self._running[reference], reference)
        if late:
            self.display.say(f"{console.counted(len(late), 'training')} did not say that it was saved; see the logs.")
        self._running.clear()
        for standing in self.standings:
            standing.refresh()

    def _fit(self, machine: dict[str, float]) -> float:
        """How many trials a machine has the memory for."""
        needed = max(bytes_needed(s.trial.config, self.means.cores) for s in self.standings)
        return machine.get("memory", 0) // min(needed, self._memory) if self._memory else 0

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

        def stop(number: int, frame: object) -> None:
            if self.is_stopping:
                raise KeyboardInterrupt
            self.is_stopping = True

        before = {
            number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _in_words(error: Exception) -> str:
    """An exception of Ray."""
    known = {
        "WorkerCrashedError": "The process that it belonged to has died",
        "NodeDiedError": "The machine that it was on has gone",
        "LocalRayletDiedError": "Ray has died on the machine that it was on",
        "OutOfMemoryError": "The machine that it was on had no memory left",
    }
    cause = getattr(error, "cause", None) or error  # what was raised there
    words = textwrap.shorten(str(cause).partition("\n")[0], 160, placeholder=" ...").rstrip(".")
    return known.get(type(error).__name__, f"{type(cause).__name__}: {words}")


def bytes_needed(config: Config, cores: int) -> int:
    """What a trial takes of memory, at most: the program, the processes beside it, the replay memory."""
    observations = min(config.memory_size, config.steps)
    return BYTES_OF_PROGRAM + (cores - 1) * BYTES_OF_WORKER + observations * BYTES_OF_OBSERVATION


def do_all(trials: Sequence[Trial], means: Means, screen: Console, command: str) -> int:
    """Does what is left of some trials, and says how that went. Returns the exit status.

    Args:
        trials: What is wanted.
        means: What it may use.
        screen: Where to say so.
        command: That this is, to go on with it.
    """
    standings = [Standing(trial) for trial in trials]
    for standing in standings:
        if standing.trial.is_done:
            standing.finish()
        else:
            standing.refresh()
    done, all_of_them = sum(s.state == DONE for s in standings), console.counted(len(trials), "trial")
    if done < len(trials):
        with connected(means) as ray:
            sweep = Sweep(ray, standings, means, SweepDisplay(screen, standings))
            console.say(screen, f"{all_of_them}, {done} of them done, {sweep.places} at a time.")
            if not sweep.run():
                console.say(screen, f"Stopped. Go on with the same command: {command}")
                return console.STOPPED
    failed = [standing for standing in standings if standing.state == FAILED]
    for standing in failed:
        console.say(screen, f"{standing.trial.name} failed. {standing.words}. Its log is {standing.trial.log}.")
    again = " The same command tries those that failed again." if failed else ""
    console.say(screen, f"Done: {len(trials) - len(failed)} of {all_of_them}.{again}")
    return console.TRIAL_FAILED if failed else console.DONE
