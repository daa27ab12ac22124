"""The options of a training: their defaults, units and sources, the presets, and the command line made of them."""

import argparse
import dataclasses
import difflib
import math
import reprlib
from dataclasses import dataclass
from typing import Any

from console import UsageError, number

MOST = 10**12  # steps or observations: more than anybody means
MAX_CONFIG_BYTES = 2**16  # of a config.json


def option(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple = (),
    changeable: bool = False,
) -> Any:
    """A field of `Config`.

    Args:
        default: Its default, which also says its type.
        help: What it is, with unit and source.
        low, high: The range it may lie in.
        choices: All values that it may have, if they are few.
        changeable: Whether a training that is resumed may change it.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "changeable": changeable}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Config:
    """One training. Steps are agent steps, of `action_repeat` = 4 emulator frames each."""

    game: str = option("breakout", "ALE game; breakout, Breakout and ALE/Breakout-v5 are the same")
    steps: int = option(4_000_000, "length of the training, in agent steps", low=1)
    seed: int = option(0, "makes the whole run repeatable", low=0, high=2**31 - 1)
    sticky: float = option(
        0.0,
        "probability that the emulator repeats the last action (0.25: Machado et al. 2018)",
        low=0,
        high=1,
    )
    start_from: str = option(
        "",
        "policy.h5 to begin with instead of random weights, for example with --epsilon-start 0.1 --learning-rate 1e-4",
    )
    num_environments: int = option(32, "games played side by side, acting in one network call", low=1, high=256)
    keras_rl_views: float = option(
        0.25,
        "share of the games that look as in keras-rl's example: the last frame as it is, and nobody presses FIRE; the "
        "policy then plays under either view",
        low=0,
        high=1,
        changeable=True,
    )
    background: int = option(
        -1,
        "grey from 0 to 255 that the network sees as 0; -1 finds the game's median one. In a bright field units "
        "die in the first updates",
        low=-1,
        high=255,
    )
    memory_size: int = option(1_000_000, "replay memory, in observations (Mnih et al. 2015)", low=1_000)
    warmup_steps: int = option(
        10_000,
        "agent steps before the first update, at most a tenth of the training (Mnih et al. 2015: 50,000)",
        low=100,
    )
    batch_size: int = option(64, "transitions in an update (Mnih et al. 2015: 32)", low=1, high=4096)
    train_interval: int = option(32, "agent steps from one update to the next (Mnih et al. 2015: 4)", low=1)
    target_update_steps: int = option(
        4_000,
        "agent steps from one copy to the target network to the next (Mnih et al. 2015: 40,000)",
        low=1,
        changeable=True,
    )
    n_step: int = option(
        3, "rewards in a return (Hessel et al. 2018: 3; Mnih et al. 2015: 1)", low=1, high=20, changeable=True
    )
    gamma: float = option(0.99, "discount factor (Mnih et al. 2015)", low=0, high=1, changeable=True)
    learning_rate: float = option(
        1e-3, "step size of Adam (Mnih et al. 2015, for RMSProp: 2.5e-4)", low=1e-7, high=1, changeable=True
    )
    learning_rate_end: float = option(
        0.02, "share of the learning rate left at the end, falling linearly", low=0, high=1, changeable=True
    )
    adam_epsilon: float = option(1.5e-4, "epsilon of Adam (Hessel et al. 2018)", low=0, high=1)
    epsilon_start: float = option(1.0, "share of random actions at first (Mnih et al. 2015)", low=0, high=1)
    epsilon_end: float = option(
        0.02, "share of random actions in the end (Mnih et al. 2015: 0.1)", low=0, high=1, changeable=True
    )
    exploration_fraction: float = option(
        0.1, "share of the training over which it falls (Mnih et al. 2015: 0.02)", low=0, high=1
    )
    log_rewards: bool = option(
        True,
        "learn from sign(r) log2(1 + |r|): the upper bricks of Breakout are worth more (Hester et al. 2018); without "
        "it rewards are clipped to [-1, 1] (Mnih et al. 2015)",
    )
    life_loss_penalty: float = option(
        1.0,
        "points taken from the reward of a step that costs a life, so that lives count where points are rare (Mnih et "
        "al. 2015: 0)",
        low=0,
        high=100,
        changeable=True,
    )
    delta_clip: float = option(
        1.0, "TD error from which the loss is linear (Mnih et al. 2015)", low=1e-6, changeable=True
    )
    double: bool = option(False, "double DQN (van Hasselt et al. 2016)", changeable=True)
    dueling: bool = option(False, "dueling network (Wang et al. 2016)")
    num_quantiles: int = option(
        32,
        "quantiles of the return to learn (QR-DQN, Dabney et al. 2018: 200); 1 is plain DQN, which learns the mean",
        low=1,
        high=1_000,
    )
    terminal_on_life_loss: bool = option(True, "a lost life ends the return, not the game (Mnih et al. 2015)")
    average_window: int = option(
        25,
        "evaluate and save the mean of so many networks, each a thousandth of the training or an update apart (Polyak "
        "& Juditsky 1992); 1 is the last network alone",
        low=1,
        high=1_000,
    )
    evaluations: int = option(
        10,
        "evaluations in a training, the last one at its end; the best policy is kept",
        low=0,
        high=10_000,
    )
    evaluation_games: int = option(16, "full games in an evaluation", low=1, high=10_000)
    precision: str = option(
        "auto",
        "number format that the network computes in; auto measures which is faster here; weights are float32",
        choices=("auto", "float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, about, kind = getattr(self, field.name), field.metadata, type(field.default)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UsageError(f"{flag(field)} is {reprlib.repr(value)}; it has to be of type {kind.__name__}.")
            if about["choices"] and value not in about["choices"]:
                raise UsageError(f"{flag(field)} is {reprlib.repr(value)}; it is one of {', '.join(about['choices'])}.")
            # `not (...)` refuses NaN as well
            high = min(about["high"], MOST) if kind is int else about["high"]
            if isinstance(value, (int, float)) and not (about["low"] <= value <= high):
                limits = _range_in_words(about["low"], high, value)
                raise UsageError(f"{flag(field)} is {reprlib.repr(value)}; it has to be {limits}.")
        smallest = self._smallest_memory
        if self.memory_size < max(smallest, self.batch_size):
            raise UsageError(
                f"--memory-size is {self.memory_size:,}; {self.num_environments} games and batches of "
                f"{self.batch_size} need at least {max(smallest, self.batch_size):,}."
            )
        if self.warmup_steps < smallest:
            raise UsageError(
                f"--warmup-steps is {self.warmup_steps}; {self.num_environments} games need at least {smallest} "
                "before a batch can be drawn."
            )

    @property
    def first_update_step(self) -> int:
        """Agent step from which on the network learns: `warmup_steps`, or a tenth of a short training."""
        return max(self._smallest_memory, min(self.warmup_steps, self.steps // 10))

    @property
    def exploration_steps(self) -> int:
        """Agent steps over which epsilon falls."""
        return max(1, round(self.exploration_fraction * self.steps))

    @property
    def evaluation_steps(self) -> int:
        """Agent steps from one evaluation to the next."""
        return math.ceil(self.steps / max(1, self.evaluations))

    @property
    def average_interval(self) -> int:
        """Agent steps from one network that goes into the mean to the next."""
        return max(self.train_interval, math.ceil(self.steps / 1_000))  # between updates it is the same network

    @property
    def num_updates(self) -> int:
        """Updates in the whole training, at least 1."""
        return max(1, (self.steps - self.first_update_step) // self.train_interval)

    @property
    def _smallest_memory(self) -> int:
        """Observations from which every game has a transition: a state, the steps of a return, one more."""
        return self.num_environments * (4 + self.n_step + 1)


# What keras-rl's example and Mnih et al. 2015 have in common, where it is not the default.
_AS_PUBLISHED: dict[str, Any] = {
    "num_environments": 1,
    "background": 0,
    "memory_size": 1_000_000,
    "warmup_steps": 50_000,
    "batch_size": 32,
    "train_interval": 4,
    "n_step": 1,
    "num_quantiles": 1,
    "log_rewards": False,
    "life_loss_penalty": 0.0,
    "average_window": 1,
    "learning_rate": 2.5e-4,
    "learning_rate_end": 1.0,
    "epsilon_end": 0.1,
    "precision": "float32",
}
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("the best use of a laptop's hours known to us", {}),
    "keras-rl": (
        "the settings of keras-rl's own examples/dqn_atari.py, and its view of the game",
        _AS_PUBLISHED
        | {
            "steps": 1_750_000,
            "keras_rl_views": 1.0,
            "target_update_steps": 10_000,
            "adam_epsilon": 1e-7,
            "exploration_fraction": 1 / 1.75,
            "terminal_on_life_loss": False,
        },
    ),
    "nature": (
        "the schedule of Mnih et al. 2015 (50M steps; Adam instead of RMSProp)",
        _AS_PUBLISHED
        | {
            "steps": 50_000_000,
            "keras_rl_views": 0.0,
            "target_update_steps": 40_000,
            "exploration_fraction": 0.02,
        },
    ),
    "smoke": (
        "a minute to see that everything works; learns nothing, and writes smoke.h5",
        {
            "steps": 4_000,
            "memory_size": 4_000,
            "warmup_steps": 1_000,
            "batch_size": 32,
            "evaluations": 2,
            "evaluation_games": 4,
            "precision": "float32",
        },
    ),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--preset` and one option for every field of `Config`."""
    presets = "; ".join(f"{name}: {about}" for name, (about, _) in PRESETS.items())
    parser.add_argument("--preset", metavar="NAME", default="default", help=f"{presets} (default: default)")
    for field in dataclasses.fields(Config):
        text = f"{field.metadata['help']} (default: {_value_in_words(field.default)})".replace("%", "%%")
        kind = type(field.default)
        if kind is bool:
            parser.add_argument(flag(field), action=argparse.BooleanOptionalAction, default=None, help=text)
            continue
        choices = ",".join(field.metadata["choices"])
        metavar = f"{{{choices}}}" if choices else {int: "N", float: "X", str: "NAME"}[kind]
        parser.add_argument(flag(field), type=str if kind is str else number(kind), metavar=metavar, help=text)


def config_from(arguments: argparse.Namespace) -> Config:
    """The preset, changed by the options that were given.

    Raises:
        UsageError: For an unknown preset or an option out of range.
    """
    if arguments.preset not in PRESETS:
        near = difflib.get_close_matches(arguments.preset, PRESETS, n=1) or list(PRESETS)
        raise UsageError(f"There is no preset {arguments.preset!r}; did you mean {' or '.join(near)}?")
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)}
    given = {name: value for name, value in given.items() if value is not None}
    return Config(**{**PRESETS[arguments.preset][1], **given})


def flag(field: dataclasses.Field) -> str:
    """The command line's name of a field: --batch-size."""
    return "--" + field.name.replace("_", "-")


def options_of(settings: dict[str, Any]) -> list[str] | None:
    """The words of the command line that make the default into `settings`; None if another version wrote them."""
    words, settings = [], up_to_date(settings)
    for field in dataclasses.fields(Config):
        if field.name not in settings:
            return None
        value = settings[field.name]
        if value != field.default:
            words += [flag(field).replace("--", "--no-", 1)] if value is False else [flag(field)]
            words += [] if isinstance(value, bool) else [str(value)]
    return words


def up_to_date(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that an older version may have written, with the options of now.

    There was no `background`, nor `life_loss_penalty`, and before, `mixed_views` was off, or on for a quarter of the
    games.
    """
    settings = {"background": 0, "life_loss_penalty": 0.0, **settings}
    if type(settings.get("mixed_views")) is bool:
        settings["keras_rl_views"] = 0.25 * settings.pop("mixed_views")
    return settings


def _value_in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


def _range_in_words(low: float, high: float, value: float) -> str:
    if high >= MOST:  # nobody needs to hear of it
        return f"at most {high:,}" if value > high else f"at least {low:,}"
    return f"between {low:,} and {high:,}"
