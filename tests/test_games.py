"""`train.py --list-games`: what it says is what was measured."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from environments.atari import games
from evaluation.games import REPORTS, own_reports
from evaluation.reference_scores import REFERENCES

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lines():
    command = [sys.executable, "-X", "importtime", "train.py", "--list-games"]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0
    assert not re.search(r"\| +(keras|tensorflow|jax|torch|matplotlib)$", process.stderr, re.MULTILINE), "slow to start"
    return {line.split()[0]: line.split()[1:] for line in process.stdout.split("\n\n")[0].splitlines()}


def test_every_game_is_listed_once_with_its_references(lines):
    header, *listed = lines
    assert (header, lines[header]) == ("game", ["random", "human", "here", "agent", "steps"])
    assert listed == games() and len(listed) == 104
    assert set(REFERENCES) <= set(listed)
    for game in listed:
        random_and_human = [float(number.replace(",", "")) for number in lines[game][:2]]
        assert random_and_human == [*REFERENCES.get(game, ())], game


def test_the_scores_of_this_repository_are_those_of_its_reports_and_of_the_table_of_results(lines):
    results = (REPOSITORY / "docs/results.md").read_text()
    trained = {game: words[2:] for game, words in lines.items() if len(words) == 4}
    assert trained["breakout"] == ["350.1", "8,162,631"]
    found = {path: json.loads(path.read_text()) for path in REPORTS.rglob("*.json")}
    assert set(trained) == {facts["game"] for facts in found.values() if "scores" in facts}
    for game, (mean, steps) in trained.items():
        report = own_reports()[game]
        scores = report["scores"]
        assert mean == f"{sum(scores) / len(scores):,.1f}" and steps == f"{report['policy_facts']['steps']:,}"
    means = [facts["mean"] for facts in found.values() if "scores" in facts]
    missing = [f"{mean:,.1f}" for mean in means if not re.search(rf"(?<!\w){mean:,.1f}\b", results)]
    assert not missing, "docs/results.md does not have them"


def test_of_several_reports_of_a_game_the_best_by_the_default_protocol_counts(tmp_path):
    for path in REPORTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    report = json.loads((tmp_path / "epsilon-0.05.json").read_text())
    for name, mean in (("better", 360.0), ("worse", 20.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**report, "mean": mean}))
    assert own_reports(tmp_path)["breakout"]["mean"] == 360.0
    greedy = json.loads((tmp_path / "greedy.json").read_text())
    assert greedy["mean"] > 360.0, "which another protocol exceeds"
