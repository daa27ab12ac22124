"""train.py as people run it: real games, tiny settings, in a process of its own."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from commands import OLD_CONSOLE, REPOSITORY, mistake, run

import console
from config import Config
from environments.atari import FIRE
from models.policy_file import load_policy
from train import build_environments

SHORT = ["--preset", "smoke", "--steps", "560", "--num-environments", "2", "--evaluation-games", "2"]
TINY = [*SHORT, "--out", "policy.h5"]


def command(*words):
    return [sys.executable, str(REPOSITORY / "train.py"), *map(str, words)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A training that prints no Unicode."""
    folder = tmp_path_factory.mktemp("finished")
    words, env = command(*TINY, "--run", "first", "--seed", "3"), os.environ | OLD_CONSOLE
    return folder, subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def finished_again(finished):
    """The same training once more, over a copy of the policy of the first."""
    folder, _ = finished
    (folder / "other.h5").write_bytes((folder / "policy.h5").read_bytes())
    return folder, run(folder, "train", *TINY, "--run", "second", "--seed", "3", "--out", "other.h5")


@pytest.fixture(scope="module")
def further(finished):
    """A smoke test that starts from the policy of the first, and names no file for its own."""
    folder, _ = finished
    before = (folder / "policy.h5").read_bytes()
    process = run(
        folder,
        "train",
        *SHORT,
        "--evaluations",
        "1",
        "--evaluation-games",
        "1",
        "--start-from",
        "policy.h5",
        "--learning-rate",
        "1e-7",
        "--average-window",
        "1",
        "--run",
        "further",
        "--runs-dir",
        "kept/runs",
    )
    return folder, process, before


@pytest.mark.slow
class TestATraining:
    def test_it_ends_well_and_says_where_everything_is(self, finished):
        _, process = finished
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
        assert process.stdout.isascii()
        assert "Done: 560 agent steps in" in process.stdout
        for line in (
            r"Evaluation 1 of 2, step 280: [\d.]+ points on average over 2 games \(standard error .*\); the best .*",
            r"policy.h5 is the policy of step (280|560): .* points on average over 2 games .*",
            r"Watch it play: +python play.py",
            r"Look at the curve: +runs/first/learning_curve.png",
        ):
            assert re.search(f"^{line}$", process.stdout, re.MULTILINE), line

    def test_the_policy_carries_its_facts(self, finished):
        policy = load_policy(finished[0] / "policy.h5", nb_actions=4)
        facts = policy.facts
        assert (facts["game"], facts["seed"], facts["run"]) == ("breakout", 3, "first")
        assert facts["steps_of_training"] == 560
        best = load_policy(finished[0] / "runs/first/best.h5").facts
        assert best["steps"] == best["steps_of_training"] == facts["steps"]
        assert facts["steps"] in (280, 560), "where it was evaluated"
        assert "2 full games of breakout, epsilon 0.05" in facts["evaluation_protocol"]
        assert facts["actions"] == ["NOOP", "FIRE", "RIGHT", "LEFT"]
        assert facts["config"]["num_environments"] == 2

    def test_the_metrics_grow_line_by_line(self, finished):
        with open(finished[0] / "runs/first/metrics.csv") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == [500, 560]
        assert all(float(row["loss"]) > 0 for row in rows)
        assert 0 <= float(rows[1]["epsilon"]) <= 1
        assert float(rows[0]["evaluation"]) >= 0
        assert float(rows[1]["evaluation"]) >= 0

    def test_the_configuration_is_kept(self, finished):
        config = json.loads((finished[0] / "runs/first/config.json").read_text())
        assert (config["steps"], config["precision"], config["game"]) == (560, "float32", "breakout")

    def test_the_same_seed_gives_the_same_weights(self, finished_again):
        folder, again = finished_again
        assert again.returncode == 0, again.stderr
        first, second = (load_policy(folder / name).weights for name in ("policy.h5", "other.h5"))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_a_policy_of_another_run_is_kept_aside(self, finished_again):
        folder, process = finished_again
        assert "is kept as other.previous-first.h5" in process.stdout
        last_line = process.stdout.splitlines()[-1]
        assert last_line == "Watch the other:    python play.py --policy other.previous-first.h5"
        kept = list(folder.glob("other.previous*.h5"))
        assert len(kept) == 1
        assert load_policy(kept[0]).facts["run"] == "first"
        assert load_policy(folder / "other.h5").facts["run"] == "second"

    def test_the_best_policy_is_kept_and_is_the_one_that_is_saved(self, finished):
        folder, _ = finished
        best, saved = (load_policy(folder / name) for name in ("runs/first/best.h5", "policy.h5"))
        assert best.facts["evaluation_score"] == saved.facts["evaluation_score"]
        for a, b in zip(best.weights, saved.weights, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_a_training_may_start_from_a_policy(self, further):
        folder, process, _ = further
        assert process.returncode == 0, process.stderr
        start, end = (load_policy(folder / name).weights for name in ("policy.h5", "smoke.h5"))
        for a, b in zip(start, end, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)

    def test_a_smoke_test_leaves_the_policy_that_is_there_alone(self, further):
        folder, process, before = further
        assert (folder / "policy.h5").read_bytes() == before
        assert re.search(r"^Watch it play: +python play.py --policy smoke.h5$", process.stdout, re.MULTILINE)
        assert load_policy(folder / "smoke.h5").facts["steps_of_training"] == 560

    def test_its_runs_may_be_elsewhere_and_one_that_is_done_says_so(self, further):
        folder, process, _ = further
        assert "everything else in kept/runs/further." in process.stdout
        assert (folder / "kept/runs/further/metrics.csv").exists()
        again = run(folder, "train", "--resume", "--runs-dir", "kept/runs")
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.startswith("kept/runs/further has done its 560 steps, and smoke.h5 is its policy;")


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_that_asks_it_to_end_lets_the_agent_finish_its_step(name):
    from training.session import _stopped_by_signals

    number = getattr(signal, name)
    dqn: Any = SimpleNamespace(stop_training=False)
    ours = lambda *_: None  # noqa: E731, instead of ending these tests
    before = signal.signal(number, ours)
    try:
        with _stopped_by_signals(dqn, console.screen()):
            signal.raise_signal(number)
            assert dqn.stop_training
            if name == "SIGHUP":
                signal.raise_signal(number)  # the kernel and the shell each say it
        assert signal.getsignal(number) is ours
        signal.signal(number, signal.SIG_IGN)
        dqn.stop_training = False
        with _stopped_by_signals(dqn, console.screen()):
            signal.raise_signal(number)
        assert dqn.stop_training == (name != "SIGHUP"), "nohup"
    finally:
        signal.signal(number, before)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_ctrl_c_saves_and_ends_with_status_130(tmp_path):
    process = subprocess.Popen(
        command(*TINY, "--steps", "1000000", "--run", "long"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "runs/long/metrics.csv"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 1):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == ""
    assert "Stopping: the training is saved as it is now." in out
    assert re.search(r"^Stopped: [\d,]+ of 1,000,000 agent steps in", out, re.MULTILINE)
    assert re.search(
        r"^policy.h5 is the policy as it is now, at step [\d,]+; it has not been evaluated\.", out, re.MULTILINE
    )
    assert re.search(r"^Go on with it: +python train.py --resume runs/long$", out, re.MULTILINE)
    facts = load_policy(tmp_path / "policy.h5").facts
    assert facts["steps"] == facts["steps_of_training"] >= 500
    assert "evaluation_score" not in facts


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_training_in_one_sentence_and_it_can_go_on(tmp_path):
    options = [*TINY, "--steps", "1000000", "--run", "long", "--workers", "2"]
    process = subprocess.Popen(
        command(*options), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "runs/long/metrics.csv"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 1):
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    workers[1].kill()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2
    assert err == (
        "train.py: A worker was ended by SIGKILL, as happens when memory runs out. The training is kept up to step 0; "
        "go on with it: python train.py --resume runs/long\n"
    )
    assert not any(worker.is_running() for worker in workers)
    assert "there are 2 games" in mistake(tmp_path, "train", "--resume", "runs/long", "--workers", "3")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX limit on file sizes")
def test_when_no_policy_can_be_written_it_says_so_and_leaves_the_old_one_as_it_was(tmp_path):
    """A limit of 1 MB for any file stands for a full disk: the system really refuses the write."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))"
    (tmp_path / "policy.h5").write_bytes(b"precious")
    words = [*TINY, "--steps", "200", "--run", "full"]
    process = run(tmp_path, "train", *words, patch=limit, TMPDIR=tmp_path)
    assert process.returncode == 2, process.stdout
    assert "Traceback" not in process.stderr
    assert "cannot be written" in process.stderr
    assert (tmp_path / "policy.h5").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.h5", "runs"]
    left = {str(path.relative_to(tmp_path / "runs/full")) for path in (tmp_path / "runs/full").rglob("*")}
    left -= {name for name in left if name.startswith("events.out.tfevents.")}
    assert left == {".lock", "checkpoint", "config.json", "learning_curve.png", "metrics.csv"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--game", "brekout"], "breakout"),
        (["--steps", "many"], "is not a whole number"),
        (["--start-from", "none.h5"], "none.h5 does not exist"),
        (["--gamma", "2"], "--gamma is 2.0; it has to be between 0 and 1."),
        (["--minutes", "5", "--steps", "100"], "give one of them"),
        (["--minutes", "-1"], "'-1' is not a number between 1 and 100,000"),
        (["--memory-size", "1e12"], "fit."),
        (["--out", "missing/policy.h5"], "missing"),
        (["--out", "."], "folder"),
        (["--run", "../elsewhere"], "plain name"),
        (["--preset", "laptop"], "no preset 'laptop'"),
        (["--workers", "33"], "--workers is 33, but there are 32 games to deal out; give at most 32."),
        (["--workers", "-1"], "'-1' is not a whole number of at least 0"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(words, message, tmp_path):
    assert message in mistake(tmp_path, "train", *words)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_the_same_name_is_not_overwritten(tmp_path):
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/config.json").write_text("{}")
    assert "There is a run in" in mistake(tmp_path, "train", "--run", "mine")


@pytest.mark.parametrize(("share", "expected"), [(0, []), (0.25, [3, 7]), (0.5, [1, 3, 5, 7]), (1, range(8))])
def test_a_share_of_the_games_is_played_as_keras_rl_sees_them(share, expected):
    environments = build_environments(Config(num_environments=8, keras_rl_views=share))
    without_fire = [index for index, game in enumerate(environments) if FIRE not in game.get_state()["frames"]]
    assert without_fire == list(expected)


def test_help_comes_at_once_and_lists_every_preset():
    python, *words = command("--help")
    process = subprocess.run([python, "-X", "importtime", *words], capture_output=True, text=True)
    assert process.returncode == 0
    assert "keras-rl's own example" in process.stdout
    assert "tensorflow" not in process.stderr


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([[3, 5]], "the policy of step 100: 4.0 points on average over 2 games (standard error 1.0)."),
        (
            [[3, 5], [9, 9]],
            "step 200: 9.0 points on average over 2 games (standard error 0.0). No other evaluation was",
        ),
        (
            [[0, 1], [0, 4]],
            "step 200: 2.0 points on average over 2 games (standard error 2.0). No other evaluation was",
        ),
        (
            [[9, 11], [8, 10]],
            "step 200: 9.0 .* Step 100 had 10.0, but so small a difference can be luck, and the newer",
        ),
        ([[9, 11], [8, 10], [1, 1]], "step 200: 9.0 .* The last one, of step 300, is clearly below: 1.0. Step 100 had"),
        ([[9, 11], [1, 1]], "step 100: 10.0 points on average .* The last one, of step 200, is clearly below: 1.0."),
    ],
)
def test_the_last_lines_say_which_policy_is_kept_and_why(scores, words):
    from training.evaluator import Evaluator
    from training.session import Training

    evaluator = Evaluator(lambda weights, number: scores[number - 1], 100, weights=list)
    evaluator.set_model(SimpleNamespace(step=0, stop_training=False, pending_steps=0))
    for number in range(len(scores)):
        evaluator.model.step = 100 * (number + 1)
        evaluator.on_step_begin(0)
    training: Any = SimpleNamespace(evaluator=evaluator)
    said = Training._which_policy(training, evaluator.best)
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), said), said
