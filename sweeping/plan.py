"""What a sweep consists of: each combination of game, setting and seed is a trial with a run's folder of its own."""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

import console
from config import Config, config_from, flag, options_of
from environments.atari import AtariEnvironment, canonical_game
from evaluation.protocol import Protocol
from keras_h5 import files
from models.policy_file import load_policy
from training.background import background
from training.run import Run, is_done, read_run

MAX_EVALUATION_BYTES, MAX_SWEEP_BYTES = 2**24, 2**20  # of an evaluation.json, of a sweep.json
SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


@dataclass(frozen=True)
class Trial:
    """One training of a sweep and the evaluation of its policy."""

    folder: Path  # of its run
    config: Config
    episodes: int  # full games of the evaluation
    epsilon: float  # share of random actions in it

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def policy(self) -> Path:
        """The file that the training writes."""
        return self.folder / "policy.h5"

    @property
    def evaluation(self) -> Path:
        """The file that the evaluation writes, last of all."""
        return self.folder / "evaluation.json"

    @property
    def log(self) -> Path:
        """What both have printed."""
        return self.folder / "log.txt"

    @property
    def protocol(self) -> Protocol:
        """How the policy is scored: with the sticky actions and the view that it was trained in."""
        view = self.config.keras_rl_views > 0.5
        return Protocol(self.config.game, self.episodes, self.epsilon, self.config.sticky, keras_rl_view=view)

    @property
    def is_trained(self) -> bool:
        """Whether the training has ended and left its policy."""
        return is_done(Run(self.folder, self.config, self.policy, self.config.steps))

    @property
    def is_done(self) -> bool:
        """Whether all is done: the policy is there, and its games have been played by this protocol."""
        return evaluated_scores(self.evaluation, str(self.protocol)) is not None and self.is_trained

    @property
    def checkpoint_step(self) -> int:
        """Agent steps up to the newest checkpoint, 0 if there is none."""
        steps = [
            path.stem.removeprefix("checkpoint-") for path in (self.folder / "checkpoint").glob("checkpoint-*.json")
        ]
        return max((int(step) for step in steps if step.isdecimal()), default=0)

    def training_command(self) -> list[str]:
        """Words for train.py: to go on with its run, or to begin it."""
        if (self.folder / "config.json").exists():
            return ["--resume", str(self.folder), "--out", str(self.policy)]
        options = options_of(dataclasses.asdict(self.config)) or []
        return ["--run", self.name, "--runs-dir", str(self.folder.parent), "--out", str(self.policy), *options]

    def evaluation_command(self) -> list[str]:
        """Words for evaluate.py."""
        p = self.protocol
        words = ["--policy", self.policy, "--json", self.evaluation, "--episodes", p.episodes]
        words += ["--epsilon", p.epsilon, "--sticky", p.sticky, *(["--keras-rl-view"] if p.keras_rl_view else [])]
        return [str(word) for word in words]


@functools.cache
def usual_background(game: str) -> int:
    """The grey that a training of this game takes for the background, if no other is named."""
    return background(Config(game=game))


def evaluated_scores(path: Path, protocol: str | None = None) -> list[float] | None:
    """The raw scores in a file that `evaluate.py --json` wrote; None if it is none, or of another protocol."""
    try:
        facts = json.loads(files.read(path, MAX_EVALUATION_BYTES))
        scores = [float(score) for score in facts["scores"]]
        return scores if scores and protocol in (None, facts["protocol"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def plan(arguments: argparse.Namespace) -> list[Trial]:
    """The trials that a command line asks for; those of the first seed come first.

    Args:
        arguments: What sweep.py was given: the options of a training, `games`, `seeds`, `vary` and `out`, and
            `episodes` and `epsilon` of the evaluation.

    Raises:
        UsageError: An option is out of range, or a trial began with other options.
        UnknownGameError: There is no such game.
    """
    games = list(dict.fromkeys(map(canonical_game, arguments.games)))
    first = arguments.seed or 0
    varied = [
        [(name, value) for value in values] for name, *words in arguments.vary for values in [_values(name, words)]
    ]
    trials = []
    for seed, setting, game in itertools.product(
        range(first, first + arguments.seeds), itertools.product(*varied), games
    ):
        given = {**vars(arguments), "game": game, "seed": seed, **{_field(name): value for name, value in setting}}
        config = config_from(argparse.Namespace(**given))
        if config.background < 0:
            config = dataclasses.replace(config, background=usual_background(game))
        if config.precision == "auto":  # a measurement would not decide alike in every trial
            config = dataclasses.replace(config, precision="float32")
        if config.start_from:
            load_policy(config.start_from, nb_actions=int(AtariEnvironment(game=game).action_space.n))
            config = dataclasses.replace(config, start_from=str(Path(config.start_from).resolve()))
        words = [game, *(f"{_field(name)}-{_plain(value)}".replace("_", "-") for name, value in setting), f"seed{seed}"]
        folder = arguments.out.resolve() / "runs" / "-".join(words)
        trials.append(Trial(folder, config, arguments.episodes, arguments.epsilon))
    if len({trial.name for trial in trials}) < len(trials):
        raise console.UsageError("--vary gives a value twice; give each once.")
    for trial in trials:
        _require_the_same(trial)
    return trials


@contextlib.contextmanager
def sole_owner(folder: Path, words: Sequence[str]) -> Iterator[None]:
    """Makes the folder of a sweep, with the command that it is of, and keeps other sweeps out of it.

    Raises:
        UsageError: Another one is in it.
        FileError: It cannot be made.
    """
    with files.in_words(folder):
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise console.UsageError(f"Another sweep is at work in {folder}; wait for it, or stop it.") from None
    with lock:
        with files.in_words(folder):
            files.write(folder / "sweep.json", (json.dumps({"command": list(words)}, indent=1) + "\n").encode())
        yield


def sweep_command(folder: Path) -> list[str]:
    """The command that a sweep's folder is of; no words if it is none."""
    try:
        words = json.loads(files.read(folder / "sweep.json", MAX_SWEEP_BYTES))["command"]
        return [str(word) for word in words]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _require_the_same(trial: Trial) -> None:
    """Refuses to go on with a training under other options than it began with."""
    if not (trial.folder / "config.json").exists():
        return
    began = read_run(trial.folder).config
    for field in dataclasses.fields(Config):
        was, given = getattr(began, field.name), getattr(trial.config, field.name)
        if was != given:
            raise console.UsageError(
                f"{trial.folder} began with {flag(field)} {was}, and now it is {given}; name another folder with "
                "--out, or give the options of then."
            )


def _field(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _values(name: str, words: list[str]) -> list[Any]:
    """The values that --vary names for an option, of the option's type."""
    fields = {field.name: field for field in dataclasses.fields(Config) if field.name not in ("game", "seed")}
    if len(words) < 2:
        raise console.UsageError(f"--vary {name} needs at least two values, such as --vary learning-rate 5e-4 1e-3.")
    if _field(name) == "preset":
        return words
    if _field(name) not in fields:
        names = ", ".join(sorted(field.replace("_", "-") for field in fields))
        raise console.UsageError(f"--vary {name}: there is no such option of a training. There are {names}, preset.")
    kind = type(fields[_field(name)].default)
    parse: Callable[[str], Any] = str if kind is str else _switch if kind is bool else console.number(kind)
    try:
        return [parse(word) for word in words]
    except (argparse.ArgumentTypeError, KeyError) as error:
        raise console.UsageError(f"--vary {name}: {error}.") from None


def _switch(word: str) -> bool:
    if word.lower() not in SWITCH:
        raise argparse.ArgumentTypeError(f"{word!r} is neither on nor off")
    return SWITCH[word.lower()]


def _plain(value: Any) -> str:
    """A value as a part of a folder's name."""
    text = ("on" if value else "off") if isinstance(value, bool) else f"{value}"
    return re.sub(r"[^\w.+-]+", "_", text).strip("._") or "none"
