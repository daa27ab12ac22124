"""Scores a policy as the literature does: raw scores of full games.

    python evaluate.py                          30 games of policy.h5, epsilon 0.05
    python evaluate.py --sticky 0.25            the protocol of Machado et al. 2018
    python evaluate.py --min-score 20           for graders: exit status 1 if the mean is below

Exit status: 0 done, 1 --min-score not reached, 2 bad input.
"""

import argparse
import contextlib
import importlib.metadata
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import console
from environments.atari import AtariEnvironment, UnknownGameError
from models.policy_file import PolicyFileError
from playing import build_agent, load_policy_and_game

MAX_ENVIRONMENTS = 8
NOOP_MAX = 30  # emulator frames (Mnih et al. 2015)
MAX_STEPS = 27_000  # agent steps of a game, half an hour
# Mean raw scores of random play and of a human, Wang et al. 2016, appendix. A policy's human-normalised score is
# (score - random) / (human - random).
REFERENCES = {"breakout": (1.7, 30.5)}


def evaluate(policy, game: str, arguments: argparse.Namespace, screen: Console) -> list[float]:
    """Plays full games, several side by side, and returns their raw scores in the order in which they ended."""
    from keras_rl import rl

    np.random.seed(arguments.seed)  # keras-rl's policies draw from NumPy's global generator
    environments = [
        AtariEnvironment(game=game, sticky=arguments.sticky, noop_max=NOOP_MAX, max_episode_steps=MAX_STEPS)
        for _ in range(min(MAX_ENVIRONMENTS, arguments.episodes))
    ]
    for index, environment in enumerate(environments):
        environment.reset(seed=1_000 * arguments.seed + index)
    dqn = build_agent(policy, rl.policy.EpsGreedyQPolicy(arguments.epsilon), len(environments))
    columns = (TextColumn("Playing"), BarColumn(30), MofNCompleteColumn(), TextColumn("games"), TimeRemainingColumn())

    class Advance(rl.callbacks.Callback):
        def on_episode_end(self, episode, logs=None):
            progress.advance(task)

    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("games", total=arguments.episodes)
        history = dqn.test(
            environments, nb_episodes=arguments.episodes, visualize=False, verbose=0, callbacks=[Advance()]
        )
    return history.history["episode_score"]


def report(scores: list[float], game: str) -> dict[str, Any]:
    """Statistics of raw scores; the interval is a bootstrap of the mean (Efron & Tibshirani 1993), 10,000 resamples."""
    draws = np.random.default_rng(0).choice(scores, (10_000, len(scores))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    result: dict[str, Any] = {
        "mean": statistics.fmean(scores),
        "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else 0.0,
        "median": statistics.median(scores),
        "minimum": min(scores),
        "maximum": max(scores),
        "mean_interval_95": [float(low), float(high)],
    }
    if game in REFERENCES:
        random, human = REFERENCES[game]
        result["human_normalised"] = (result["mean"] - random) / (human - random)
    return result


def main() -> int:
    """Checks what was given, plays, reports."""
    arguments = _parse_arguments()
    policy, game = load_policy_and_game(arguments.policy, arguments.game)
    screen = Console(highlight=False)
    console.start_keras()
    scores = evaluate(policy, game, arguments, screen)
    result = report(scores, game)
    protocol = (
        f"{len(scores)} full games of {game}, epsilon {arguments.epsilon:g}, sticky actions {arguments.sticky:g}, "
        f"1 to {NOOP_MAX} no-op frames at the start, at most {MAX_STEPS:,} steps of 4 frames, seed {arguments.seed}"
    )
    low, high = result["mean_interval_95"]
    screen.print(f"{arguments.policy}: {protocol}.", soft_wrap=True)
    screen.print(f"mean {result['mean']:.1f} (95% interval {low:.1f} to {high:.1f})", style="bold")
    screen.print(
        f"standard deviation {result['standard_deviation']:.1f}, median {result['median']:g}, "
        f"minimum {result['minimum']:g}, maximum {result['maximum']:g}"
    )
    if "human_normalised" in result:
        random, human = REFERENCES[game]
        screen.print(
            f"human-normalised {100 * result['human_normalised']:.0f}% "
            f"(random {random}, human {human}: Wang et al. 2016)"
        )
    if arguments.json:
        facts = {
            "policy": str(arguments.policy),
            "game": game,
            "protocol": protocol,
            **result,
            "scores": scores,
            "policy_facts": policy.facts,
            "versions": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "ale-py")},
        }
        with _refusal_in_words(arguments.json):
            arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    if arguments.min_score is not None and result["mean"] < arguments.min_score:
        screen.print(f"That is below --min-score {arguments.min_score:g}.")
        return console.SCORE_NOT_REACHED
    return console.DONE


def _check_writable(path: Path) -> None:
    """Refuses, before the games are played, a report that cannot be written; leaves everything as it was."""
    is_new = not path.exists()
    with _refusal_in_words(path):
        path.open("a").close()
        if is_new:
            path.unlink()


@contextlib.contextmanager
def _refusal_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise console.UsageError(f"{path} cannot be written ({error.strerror}); name another place.") from None


def _parse_arguments() -> argparse.Namespace:
    parser = console.ArgumentParser(__doc__ or "")
    number = console.number
    add = parser.add_argument
    add("--policy", type=Path, default=Path("policy.h5"), metavar="FILE", help="(default: policy.h5)")
    add("--episodes", type=number(int, 1, 100_000), default=30, metavar="N", help="games to play (default: 30)")
    add(
        "--epsilon",
        type=number(float, 0, 1),
        default=0.05,
        metavar="X",
        help="share of random actions (default: 0.05, Mnih et al. 2015)",
    )
    add(
        "--sticky",
        type=number(float, 0, 1),
        default=0.0,
        metavar="P",
        help="probability that the emulator repeats the last action (default: 0; 0.25: Machado et al. 2018)",
    )
    add("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="S", help="same seed, same scores (default: 0)")
    add("--game", metavar="NAME", help="ALE game (default: the policy's own; breakout if its file says nothing)")
    add("--json", type=Path, metavar="FILE", help="write the report and every score to this file, too")
    add("--min-score", type=number(float), metavar="X", help="exit with status 1 if the mean is below this")
    arguments = parser.parse_args()
    if arguments.json:
        _check_writable(arguments.json)
    return arguments


if __name__ == "__main__":
    console.run(main, PolicyFileError, UnknownGameError)
