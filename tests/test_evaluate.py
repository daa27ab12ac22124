"""evaluate.py as people and graders run it: full games of a policy of random weights."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import OLD_CONSOLE, REPOSITORY, mistake, run

from config import Config
from evaluation.protocol import Protocol, score_games
from evaluation.statistics import summary
from models.policy_file import load_policy, save_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the policy.h5 of a network that always chooses RIGHT."""
    folder = tmp_path_factory.mktemp("evaluate")
    shapes = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]
    weights = [part for shape in shapes for part in (np.zeros(shape), np.zeros(shape[-1]))]
    weights[-1] = np.array([0.0, 0, 1, 0])
    save_policy(folder / "policy.h5", weights, {"game": "breakout", "run": "right"})
    return folder


def run_anew(folder, *words, env):
    """evaluate.py, to which the environment is known from Python's start."""
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), *map(str, words)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def evaluated(folder):
    """What two evaluations with different seeds print and report; the first has no Unicode, the second not enough."""
    words = ["--episodes", 6, "--epsilon", 0.5, "--json"]
    ended = [
        run_anew(folder, *words, "1.json", "--seed", 1, "--min-score", 0, env=os.environ | OLD_CONSOLE),
        run(folder, "evaluate", *words, "2.json", "--seed", 2, "--min-score", 400),
    ]
    return [(process, json.loads((folder / f"{seed}.json").read_text())) for seed, process in enumerate(ended, start=1)]


@pytest.mark.slow
class TestAnEvaluation:
    def test_it_says_and_reports_the_scores_of_full_games(self, evaluated):
        for process, report in evaluated:
            assert process.stderr == ""
            assert "6 full games of breakout, epsilon 0.5, sticky actions 0" in process.stdout
            assert len(report["scores"]) == 6
            assert report["mean"] == np.mean(report["scores"])
            assert report["policy_facts"]["run"] == "right"
        assert evaluated[0][0].stdout.isascii()

    def test_another_seed_gives_other_scores_and_the_same_the_same(self, evaluated, folder):
        first, other = (report["scores"] for _, report in evaluated)
        assert first != other
        assert score_games(load_policy(folder / "policy.h5"), Protocol("breakout", 6, epsilon=0.5, seed=1)) == first

    def test_games_that_repeat_one_another_are_counted(self, folder):
        ended = run(folder, "evaluate", "--episodes", 40, "--epsilon", 0, "--json", "greedy.json")
        report = json.loads((folder / "greedy.json").read_text())
        games = set(zip(report["scores"], report["steps"], strict=True))
        assert report["different_games"] == len(games) < 40
        assert f"different in score or length: {len(games)} of the 40 games" in ended.stdout

    def test_a_grader_gets_status_1_below_the_minimum_score(self, evaluated):
        (enough, _), (too_little, _) = evaluated
        assert (enough.returncode, too_little.returncode) == (0, 1)
        assert "below --min-score 400" in too_little.stdout
        assert "below" not in enough.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "none.h5"], "none.h5 does not exist"),
        (["--episodes", "0"], "'0' is not a whole number between 1 and 100,000"),
        (["--epsilon", "2"], "'2' is not a number between 0 and 1"),
        (["--game", "pong"], "values 4 actions, but pong has 6"),
        (["--game", "brekout"], "breakout"),
        (["--workers", "9"], "'9' is not a whole number between 0 and 8"),
        (["--json", "missing/report.json"], "folder that does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(words, message, folder):
    assert message in mistake(folder, "evaluate", *words)


def test_a_mistake_leaves_the_report_of_before_as_it_was_and_begins_no_new_one(folder):
    old, new = folder / "old.json", folder / "new.json"
    old.write_text("precious")
    for report_file in (old, new):
        mistake(folder, "evaluate", "--policy", "none.h5", "--json", report_file)
    assert old.read_text() == "precious"
    assert not new.exists()


def test_the_report_has_the_statistics_of_the_scores():
    result = summary([1.0, 2.0, 3.0, 10.0], "breakout")
    assert (result["mean"], result["median"], result["minimum"], result["maximum"]) == (4.0, 2.5, 1.0, 10.0)
    assert result["standard_deviation"] == pytest.approx(np.std([1, 2, 3, 10], ddof=1))
    assert result["human_normalised"] == pytest.approx((4 - 1.7) / (30.5 - 1.7))
    assert "human_normalised" not in summary([1.0], "adventure")


def test_games_of_equal_score_and_length_count_as_one():
    assert summary([7.0, 7.0, 7.0, 2.0], "breakout", [50, 50, 60, 50])["different_games"] == 3


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        low, high = summary(rng.normal(30, 10, size=60).tolist(), "breakout")["mean_interval_95"]
        covered += low <= 30 <= high
    assert 0.9 * 200 <= covered <= 0.99 * 200


@pytest.mark.slow
def test_the_page_shows_the_games_and_the_training_that_made_the_policy(folder):
    config = dataclasses.asdict(Config(steps=5_000, seed=7, log_rewards=False))
    weights = load_policy(folder / "policy.h5").weights
    save_policy(folder / "trained.h5", weights, {"game": "breakout", "run": "mine", "config": config})
    run_folder = folder / "runs" / "mine"
    run_folder.mkdir(parents=True)
    (run_folder / "config.json").write_text(json.dumps({**config, "out": "policy.h5"}))
    (run_folder / "metrics.csv").write_text("step,seconds,score,evaluation\n500,2,1,nan\n1000,4,2,3\n")
    process = run(
        folder, "evaluate", "--policy", "trained.h5", "--episodes", 3, "--html", "page.html", "--epsilon", 0.5
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert "with three games in it" in process.stdout and "The page is page.html, " in process.stdout
    page = (folder / "page.html").read_text()
    for words in ("Best game", "Median game", "Worst game", "How it learned", "3 full games of breakout, epsilon 0.5"):
        assert words in page
    assert "python train.py --steps 5000 --seed 7 --no-log-rewards\n" in page
    assert "python evaluate.py --policy trained.h5 --episodes 3 --epsilon 0.5 --sticky 0 --seed 0" in page
    process = run(folder, "evaluate", "--policy", "trained.h5", "--episodes", 1, "--html", "one.html", "--epsilon", 0.5)
    assert "with the best game in it" in process.stdout
    assert "Median game" not in (folder / "one.html").read_text()


def test_a_page_that_cannot_be_written_is_found_before_the_games(folder):
    said = mistake(folder, "evaluate", "--html", "missing/page.html")
    assert "missing/page.html lies in a folder that does not exist" in said


@pytest.fixture(scope="module")
def chooser(tmp_path_factory):
    """A policy of random weights, whose choices depend on the last bits of its Q-values."""
    folder = tmp_path_factory.mktemp("chooser")
    rng, weights = np.random.default_rng(5), []
    for shape in [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 4)]:
        weights += [rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), np.zeros(shape[-1])]
    save_policy(folder / "policy.h5", weights, {"game": "breakout"})
    return folder


def keras_json(folder, **settings):
    home = folder / "keras"
    home.mkdir(exist_ok=True)
    known = {"floatx": "float32", "epsilon": 1e-7, "backend": "tensorflow", "image_data_format": "channels_last"}
    (home / "keras.json").write_text(json.dumps({**known, **settings}))
    return {**os.environ, "KERAS_HOME": str(home)}


@pytest.mark.slow
def test_a_keras_json_with_other_numbers_changes_no_score(chooser):
    words = ["--episodes", 2, "--json"]
    plain = run(chooser, "evaluate", *words, "plain.json")
    other = run_anew(chooser, *words, "other.json", env=keras_json(chooser, floatx="float16"))
    assert (plain.returncode, other.returncode) == (0, 0), other.stderr
    scores = [json.loads((chooser / name).read_text())["scores"] for name in ("plain.json", "other.json")]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("where", ["KERAS_BACKEND", "keras.json"])
@pytest.mark.parametrize("backend", ["torch", "nonsense"])
def test_a_backend_that_is_not_there_is_one_sentence(folder, where, backend):
    missing = folder / "missing" / "torch"
    missing.mkdir(parents=True, exist_ok=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    environment = keras_json(folder, **({"backend": backend} if where == "keras.json" else {}))
    environment.pop("KERAS_BACKEND", None)
    environment |= {"KERAS_BACKEND": backend} if where == "KERAS_BACKEND" else {}
    process = run_anew(folder, env={**environment, "PYTHONPATH": str(missing.parent)})
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert backend in process.stderr and "set KERAS_BACKEND=tensorflow" in process.stderr
