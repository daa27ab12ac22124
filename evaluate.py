"""Scores a policy as the literature does: raw scores of full games.

    python evaluate.py                          30 games of policy.h5, epsilon 0.05
    python evaluate.py --sticky 0.25            the protocol of Machado et al. 2018
    python evaluate.py --keras-rl-view          as graders see it that use keras-rl's example
    python evaluate.py --min-score 20           for graders: exit status 1 if the mean is below
    python evaluate.py --html report.html       a page with scores, games and learning curve

Exit status: 0 done, 1 --min-score not reached, 2 bad input.
"""

import argparse
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import console
from config import MAX_CONFIG_BYTES, Config, options_of, up_to_date
from environments.atari import UnknownGameError
from environments.workers import HERE, WorkerError, Workers, default_workers
from evaluation.protocol import MAX_ENVIRONMENTS, Protocol, load_policy_and_game, score_games
from evaluation.reference_scores import REFERENCES
from evaluation.statistics import summary
from keras_h5 import files
from models.policy_file import TrainedPolicy
from screens.games_progress import GamesProgress

PACKAGES = ("keras", "ale-py", "numpy", "pillow")  # that scores may depend on
MAX_FILM_SECONDS = 600  # of the page's films: whole games, but for those that never end
FACTS = {  # what a policy's file says of itself, in words
    "game": "game",
    "actions": "actions",
    "steps": "agent steps learned from",
    "steps_of_training": "agent steps of the whole training",
    "seed": "seed",
    "sticky": "sticky actions",
    "run": "run",
    "changes": "changed meanwhile",
}
SHIPPED = Path(__file__).parent / "docs/training"


def play_with_progress(
    policy: TrainedPolicy,
    protocol: Protocol,
    screen: Console,
    games: list | None = None,
    workers: Workers = HERE,
) -> tuple[list[float], list[int]]:
    """Raw scores and agent steps of the games of a protocol, said meanwhile how far they are; see `score_games`."""
    from keras_rl import rl

    lengths: list[int] = []

    class Watch(rl.callbacks.Callback):
        def on_step_end(self, step, logs):
            progress.step(logs["episode"])

        def on_episode_end(self, episode, logs):
            lengths.append(logs["nb_episode_steps"])
            progress.end_game(episode, logs["episode_score"])

    with GamesProgress(screen, protocol.episodes) as progress:
        return score_games(policy, protocol, [Watch()], games, workers), lengths


def write_page(
    path: Path,
    policy_path: Path,
    policy: TrainedPolicy,
    protocol: Protocol,
    scores: list[float],
    result: dict[str, Any],
    games: list[dict[str, Any]],
) -> int:
    """Writes the page of an evaluation, with the best, the median and the worst game. Returns its size in bytes."""
    from reports.film import GameFilm
    from reports.html_report import ReportedGame, write_html_report

    ranks = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    chosen = {"Best game": ranks[0], "Median game": ranks[len(ranks) // 2], "Worst game": ranks[-1]}
    shown = []
    for title, number in chosen.items() if len(scores) > 2 else [("Best game", ranks[0])]:
        film = GameFilm(".webp", MAX_FILM_SECONDS)
        protocol.build_environment(on_frame=film.on_frame).set_state(games[number])
        shown.append(ReportedGame(title, scores[number], film))
    settings, trained_on = (_as_dict(policy.facts.get(name)) for name in ("config", "versions"))
    settings = up_to_date(settings) if settings else {}
    words = {name: policy.facts[name] for name in FACTS if name in policy.facts}
    command = ["python", "evaluate.py", "--policy", str(policy_path), "--episodes", str(protocol.episodes)]
    command += ["--epsilon", f"{protocol.epsilon:g}", "--sticky", f"{protocol.sticky:g}", "--seed", str(protocol.seed)]
    command += ["--keras-rl-view"] * protocol.keras_rl_view
    training = options_of(settings)
    return write_html_report(
        path,
        game=protocol.game,
        policy=policy_path,
        protocol=str(protocol),
        date=datetime.date.today(),
        statistics=result,
        scores=scores,
        references=REFERENCES.get(protocol.game),
        games=shown,
        metrics=_metrics_of(policy, policy_path),
        tables={
            "Scores, each by its own protocol": _scores_in_words(policy, protocol, result["mean"]),
            "Training": {FACTS[name]: _in_words(fact) for name, fact in words.items()},
            "Settings of the training": {
                name.replace("_", " "): _in_words(settings[name]) for name in sorted(settings, key=_place)
            },
            "Versions": {
                **{f"{name}, training": version for name, version in trained_on.items()},
                **{f"{name}, evaluation": version for name, version in console.versions(*PACKAGES).items()},
            },
        },
        commands=[*([] if training is None else [["python", "train.py", *training]]), command],
    )


def _scores_in_words(policy: TrainedPolicy, protocol: Protocol, mean: float) -> dict[str, str]:
    """The scores that are known of a policy: they differ, as it was not measured in the same way each time."""
    scores = {f"{mean:,.1f} on this page": f"mean raw score, {protocol}"}
    for what, score, how in (
        ("when it was kept", "evaluation_score", "evaluation_protocol"),
        ("while it learned", "training_score", "training_score_protocol"),
    ):
        if isinstance(policy.facts.get(score), (int, float)):
            scores[f"{policy.facts[score]:,.1f} {what}"] = str(policy.facts.get(how, "not known how"))
    return scores


def _place(setting: str) -> int:
    """Of an option among those of the command line; what is none any more comes last."""
    names = [field.name for field in dataclasses.fields(Config)]
    return names.index(setting) if setting in names else len(names)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"


def _metrics_of(policy: TrainedPolicy, path: Path) -> Path | None:
    """The metrics.csv of the training that made a policy: in runs/, beside it, or for the one that ships in docs/."""
    for folder in (Path("runs", Path(str(policy.facts.get("run", ""))).name), path.parent, SHIPPED):
        try:
            settings = _as_dict(json.loads(files.read(folder / "config.json", MAX_CONFIG_BYTES)))
        except (OSError, ValueError, RecursionError):
            continue
        trained_with = _as_dict(policy.facts.get("config"))
        if trained_with and trained_with.items() <= settings.items() and (folder / "metrics.csv").is_file():
            return folder / "metrics.csv"
    return None


def _as_dict(fact: Any) -> dict[str, Any]:
    """What a policy file says, if it has the shape that ours have."""
    return fact if isinstance(fact, dict) else {}


def main() -> int:
    """Checks what was given, plays, reports."""
    arguments = _parse_arguments()
    policy, game = load_policy_and_game(arguments.policy, arguments.game)
    screen = console.screen()
    protocol = Protocol(
        game,
        arguments.episodes,
        arguments.epsilon,
        arguments.sticky,
        arguments.seed,
        keras_rl_view=arguments.keras_rl_view,
    )
    games: list[dict[str, Any]] | None = [] if arguments.html else None
    try:
        with Workers(arguments.workers) as workers:
            console.start_keras()
            scores, lengths = play_with_progress(policy, protocol, screen, games, workers)
    except WorkerError as error:
        raise console.UsageError(f"{error}; --workers 0 does without.") from error
    result = summary(scores, game, lengths)
    if arguments.json:
        facts = {
            "policy": str(arguments.policy),
            "game": game,
            "protocol": str(protocol),
            **result,
            "scores": scores,
            "steps": lengths,
            "policy_facts": policy.facts,
            "versions": console.versions(*PACKAGES),
        }
        with files.in_words(arguments.json):
            files.write(arguments.json, (json.dumps(facts, indent=2) + "\n").encode())
    low, high = result["mean_interval_95"]
    console.say(screen, f"{arguments.policy}: {protocol}.")
    screen.print(f"mean {result['mean']:.1f} (95% interval {low:.1f} to {high:.1f})", style="bold")
    screen.print(
        f"standard deviation {result['standard_deviation']:.1f}, median {result['median']:g}, "
        f"minimum {result['minimum']:g}, maximum {result['maximum']:g}"
    )
    if result["different_games"] < len(scores):
        screen.print(f"different in score or length: {result['different_games']} of the {len(scores)} games")
    if "human_normalised" in result:
        random, human = REFERENCES[game]
        screen.print(
            f"human-normalised {100 * result['human_normalised']:.0f}% "
            f"(random {random}, human {human}: Wang et al. 2016)"
        )
    if arguments.html and games is not None:
        screen.print(f"Writing the page, with {'three games' if len(scores) > 2 else 'the best game'} in it ...")
        with files.in_words(arguments.html):
            size = write_page(arguments.html, arguments.policy, policy, protocol, scores, result, games)
        screen.print(f"The page is {arguments.html}, {size / 1e6:.1f} MB; nothing else is needed to read it.")
    if arguments.min_score is not None and result["mean"] < arguments.min_score:
        screen.print(f"That is below --min-score {arguments.min_score:g}.")
        return console.SCORE_NOT_REACHED
    return console.DONE


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
    add(
        "--keras-rl-view",
        action="store_true",
        help="play as keras-rl's example does: the last frame as it is, FIRE left to the policy",
    )
    add("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="S", help="same seed, same scores (default: 0)")
    add(
        "--workers",
        type=number(int, 0, MAX_ENVIRONMENTS),
        default=default_workers(MAX_ENVIRONMENTS),
        metavar="N",
        help="processes that the games are played in; 0: this one (default here: %(default)s). The scores are the same",
    )
    add("--game", metavar="NAME", help="ALE game (default: the policy's own; breakout if its file says nothing)")
    add("--html", type=Path, metavar="FILE", help="write a page with the scores, three of the games and the training")
    add("--json", type=Path, metavar="FILE", help="write the report and every score to this file, too")
    add("--min-score", type=number(float), metavar="X", help="exit with status 1 if the mean is below this")
    arguments = parser.parse_args()
    for path in filter(None, (arguments.json, arguments.html)):
        files.require_writable(path)
    return arguments


if __name__ == "__main__":
    console.run(main, files.FileError, UnknownGameError)
