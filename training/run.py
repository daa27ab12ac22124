"""A run: one training in its folder, new or taken up again, with nobody else in it."""

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import reprlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

import console
from config import MAX_CONFIG_BYTES, MOST, Config, config_from, flag, up_to_date
from environments.atari import AtariEnvironment, canonical_game
from keras_h5 import files
from models.policy_file import SUFFIXES, load_policy
from training.background import background

NEWEST = "the newest"  # what --resume alone means


@dataclass(frozen=True)
class Run:
    """A training in its folder: what was asked for, and how far it is to go."""

    folder: Path
    config: Config
    out: Path
    steps: int  # agent steps to train; more than the config's if a resumed training was given more
    changes: tuple[dict[str, Any], ...] = ()  # of options, when it was resumed: their new values, and from which "step"

    @property
    def start_file(self) -> Path:
        """The policy it starts from, if any: a copy of `start_from`, as that may be what it writes, or change."""
        kept = self.folder / "start.h5"
        return kept if kept.exists() else Path(self.config.start_from)

    def keep_start(self) -> None:
        """Makes the copy, in a new run."""
        if self.config.start_from and not (self.folder / "config.json").exists():
            files.write(self.folder / "start.h5", Path(self.config.start_from).read_bytes())

    def write(self) -> None:
        """Writes config.json, from which `--resume` reads it."""
        facts = {**dataclasses.asdict(self.config), "out": str(self.out), "train_until_step": self.steps}
        facts |= {"changes": self.changes} if self.changes else {}
        files.write(self.folder / "config.json", (json.dumps(facts, indent=2) + "\n").encode())


def new_run(arguments: argparse.Namespace) -> Run:
    """The run that the command line asks for.

    Raises:
        UsageError: an option is out of range, or the name is none.
        UnknownGameError: there is no such game.
        FileError: the policy cannot be written, or there is none to start from.
    """
    config = config_from(arguments)
    config = dataclasses.replace(config, game=canonical_game(config.game), background=background(config))
    name = arguments.run
    if name is None:
        name = f"{config.game}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise console.UsageError(f"--run is {name!r}; give a plain name, it becomes a folder in {arguments.runs_dir}.")
    out = arguments.out or Path("smoke.h5" if arguments.preset == "smoke" else "policy.h5")
    run = Run(arguments.runs_dir / name, config, out, config.steps)
    if arguments.run:
        _refuse_a_taken_name(run.folder)
    files.require_writable(run.out, SUFFIXES)
    if config.start_from:
        load_policy(config.start_from, nb_actions=int(AtariEnvironment(game=config.game).action_space.n))
    return run


def resumed_run(arguments: argparse.Namespace) -> Run:
    """The run that --resume names, with what may be changed about it.

    Raises:
        UsageError: there is no such run, or an option cannot change.
        FileError: the policy cannot be written.
    """
    run = read_run(_resumed_folder(arguments))
    folder, config, steps = run.folder, run.config, run.steps
    for name in ("run", "minutes", *(["preset"] if arguments.preset != "default" else [])):
        if getattr(arguments, name) is not None:
            raise console.UsageError(f"--{name} does not go with --resume; leave it out, or start a new run.")
    new = {}
    for field in dataclasses.fields(Config):
        given, was = getattr(arguments, field.name), getattr(config, field.name)
        if field.name == "steps" or given is None or given == was:
            continue
        if not field.metadata["changeable"]:
            raise console.UsageError(f"{flag(field)} was {was} when {folder} began and cannot change; leave it out.")
        new[field.name] = given
    if arguments.steps is not None and arguments.steps < steps:
        raise console.UsageError(f"--steps is {arguments.steps:,}, but {folder} goes to {steps:,}; give more, or none.")
    run = dataclasses.replace(
        run,
        config=dataclasses.replace(config, **new),
        out=arguments.out or run.out,
        steps=arguments.steps or steps,
        changes=run.changes + ((new,) if new else ()),
    )
    files.require_writable(run.out, SUFFIXES)
    return run


def is_done(run: Run) -> bool:
    """Whether the policy is there that the training ends with, which is written after all else."""
    try:
        facts = load_policy(run.out).facts
    except files.FileError:
        return False
    steps = facts.get("steps_of_training")
    return (
        {"run": run.folder.name, "finished": True}.items() <= facts.items()
        and type(steps) is int
        and (steps >= run.steps)
    )


def await_lock(arguments: argparse.Namespace) -> None:
    """Waits, as long as --wait-for-lock says, for another process that trains in the folder of a run.

    That is before anything of the run is read, which the other may still change.

    Raises:
        UsageError: the other has not ended in time.
    """
    seconds = arguments.wait_for_lock
    if not seconds or not (arguments.resume or arguments.run):
        return
    folder = _resumed_folder(arguments) if arguments.resume else arguments.runs_dir / arguments.run
    if not (folder / ".lock").exists():
        return
    lock = filelock.FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            words = f"Another process is training in {folder}; waiting up to {console.duration(seconds)} for it to end."
            console.say(console.screen(), words)
            lock.acquire(timeout=seconds)
        lock.release()
    except filelock.Timeout:
        raise console.UsageError(
            f"Another process is still training in {folder}; stop it, or wait longer with --wait-for-lock."
        ) from None
    except OSError as error:
        raise console.UsageError(f"{lock.lock_file} cannot be locked ({error.strerror}); give permission.") from None


def _resumed_folder(arguments: argparse.Namespace) -> Path:
    if arguments.resume != NEWEST:
        return Path(arguments.resume)
    runs = sorted(arguments.runs_dir.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise console.UsageError(f"There is no run in {arguments.runs_dir} to resume; start one with python train.py.")
    return runs[-1].parent


def read_run(folder: Path) -> Run:
    """The run that the config.json in a folder tells of.

    Raises:
        UsageError: there is none, or train.py did not write it.
    """
    try:
        facts = json.loads(files.read(folder / "config.json", MAX_CONFIG_BYTES))
        out, steps = Path(facts.pop("out")), facts.pop("train_until_step")
        changes = tuple(map(dict, facts.pop("changes", ())))
        config = Config(**up_to_date(facts))
        canonical_game(config.game)
        if type(steps) is not int or not config.steps <= steps <= MOST:
            raise ValueError(f"train_until_step is {reprlib.repr(steps)}")
        return Run(folder, config, out, steps, changes)
    except OSError as error:
        raise console.UsageError(
            f"{folder / 'config.json'} cannot be read ({error.strerror}); give the folder of a run, such as runs/NAME."
        ) from error
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise console.UsageError(f"{folder / 'config.json'} is not one that train.py wrote ({reason}).") from error


@contextlib.contextmanager
def sole_owner(run: Run, arguments: argparse.Namespace) -> Iterator[Run]:
    """Makes the folder of a new run, and keeps other processes out of it, until this one ends in whatever way.

    Gives the run, in another folder if its name is not the person's and was taken meanwhile.

    Raises:
        UsageError: somebody else is in the folder, or it cannot be made.
    """
    folder = run.folder
    try:
        if arguments.resume or arguments.run:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _new_folder(folder)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise console.UsageError(f"Another process is training in {folder}; wait for it, or stop it.") from None
    except OSError as error:
        raise console.UsageError(f"{folder} cannot be made ({error.strerror}); start from another folder.") from None
    with lock:
        if not arguments.resume:
            _refuse_a_taken_name(folder)
        try:
            yield dataclasses.replace(run, folder=folder)
        finally:
            _remove_if_empty(folder)


def _new_folder(folder: Path) -> Path:
    """Makes `folder`, or the first of folder-2, folder-3, ... that is not there yet, and returns it."""
    for number in itertools.count(1):
        free = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            free.mkdir(parents=True)
            break
    return free


def _refuse_a_taken_name(folder: Path) -> None:
    if (folder / "config.json").exists():
        raise console.UsageError(
            f"There is a run in {folder} already; give another name with --run, or go on with it with --resume."
        )


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder of a run that never began: there was no room for its first files, say."""
    if not (folder / "config.json").exists():
        with contextlib.suppress(OSError):
            for name in ("start.h5", ".lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def opening_words(run: Run, arguments: argparse.Namespace, bytes_needed: int) -> str:
    """What is trained, for how long, into which files, and in how much memory."""
    length = (
        console.counted(run.steps, "agent step")
        if arguments.minutes is None
        else console.counted(arguments.minutes, "minute")
    )
    return (
        f"{'Going on with' if arguments.resume else 'Training'} {run.config.game}: {length}, up to "
        f"{bytes_needed / 1e9:.1f} GB of memory.\n"
        f"The policy will be in {run.out}, everything else in {run.folder}."
    )
