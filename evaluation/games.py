"""The games there are, each with what random play, a human and this repository's own policies score."""

import json
from pathlib import Path
from typing import Any

from environments.atari import games
from evaluation.protocol import Protocol
from evaluation.reference_scores import REFERENCES

# Reports of `evaluate.py --json`: to have a game's score in the list, put one there, or in a folder there.
REPORTS = Path(__file__).parents[1] / "docs/training"


def own_reports(folder: Path = REPORTS) -> dict[str, dict[str, Any]]:
    """Reports of `evaluate.py --json` by game: those by its default protocol, of several the one of highest mean."""
    found = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
    reports = [each for each in found if "scores" in each]  # beside them lie the config.json of trainings
    usual = [each for each in reports if each["protocol"] == str(Protocol(each["game"], len(each["scores"])))]
    return {each["game"]: each for each in sorted(usual, key=lambda each: each["mean"])}


def list_of_games() -> str:
    """A line for each game, and what the numbers are."""
    reports = own_reports()
    lines = [f"{'game':22}{'random':>10}{'human':>10}{'here':>12}{'agent steps':>14}"]
    for game in games():
        line = f"{game:22}" + "".join(f"{score:10,.1f}" for score in REFERENCES.get(game, ()))
        if game in reports:
            line = f"{line:42}{reports[game]['mean']:12,.1f}{reports[game]['policy_facts']['steps']:14,}"
        lines.append(line.rstrip())
    lines += [
        "",
        "Mean raw scores of full games. random, human: Wang et al. 2016. here: the best training measured, see",
        "docs/results.md. Every game of the list can be trained with --game.",
    ]
    return "\n".join(lines)
