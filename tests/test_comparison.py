"""Reports of several runs: the statistics, and what is read from folders, drawn and written."""

import csv
import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from config import Config
from evaluation.statistics import (
    interquartile_mean,
    pooled_interquartile_mean,
    probability_of_improvement,
    stratified_interval,
)
from reports.comparison import Curve
from sweeping.plan import usual_background
from sweeping.results import compare, find_runs, read_result, report
from training.run import Run

REPOSITORY = Path(__file__).parents[1]
HEADER = "step,seconds,steps_per_second,episodes,score,best_score,evaluation,epsilon,loss,mean_q"


# Scores of five runs (rows) in eight games, and what rliable 1.2.0 says of them, with 50,000 and 5,000 resamples.
OURS = np.array(
    [
        [1.001, 0.802, 0.688, 1.047, 0.665, 1.429, 1.084, 0.978],
        [0.278, 0.144, 0.304, 1.126, 0.963, 0.221, 1.118, 0.495],
        [0.496, 1.853, 0.916, 1.05, 1.06, 0.217, 1.095, 3.488],
        [0.329, 1.517, 1.628, 1.611, 0.563, 0.682, 0.333, 0.856],
        [2.175, 0.502, 0.114, 0.927, 1.635, 0.741, 2.705, 0.783],
    ]
)
THEIRS = np.array(
    [
        [0.758, 0.301, 0.579, 1.33, 1.344, 1.714, 1.269, 1.078],
        [0.089, 0.377, 3.284, 0.492, 1.194, 0.707, 1.216, 0.783],
        [0.321, 0.393, 0.964, 0.507, 0.095, 1.09, 1.508, 1.423],
        [1.444, 0.183, 2.153, 0.669, 0.349, 0.53, 0.419, 0.251],
        [0.738, 0.842, 0.64, 0.838, 0.654, 0.413, 0.471, 1.071],
    ]
)


class TestStatistics:
    def test_they_are_those_of_rliable(self):
        for scores, mean, interval in ((OURS, 0.87605, (0.7287, 1.0661)), (THEIRS, 0.7512, (0.5911, 0.9416))):
            assert pooled_interquartile_mean([*scores.T]) == pytest.approx(mean, abs=1e-9)
            assert stratified_interval(pooled_interquartile_mean, [*scores.T]) == pytest.approx(interval, abs=0.025)
        samples = [*OURS.T], [*THEIRS.T]
        assert probability_of_improvement(*samples) == pytest.approx(0.5375, abs=1e-9)
        interval = stratified_interval(probability_of_improvement, *samples)
        assert interval == pytest.approx((0.405, 0.6676), abs=0.015)

    def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(self):
        assert interquartile_mean([1000, 1, 2, 3, 4, 5, 6, -1000]) == (2 + 3 + 4 + 5) / 4
        assert interquartile_mean([[3.0, 1.0], [2.0, 4.0]]) == 2.5
        assert interquartile_mean([7]) == 7

    def test_a_draw_is_half_an_improvement(self):
        ours, theirs = [np.array([1.0, 3.0]), np.array([5.0])], [np.array([2.0, 1.0]), np.array([5.0, 5.0, 5.0])]
        assert probability_of_improvement(ours, theirs) == pytest.approx(((0 + 0.5 + 1 + 1) / 4 + 0.5) / 2)
        assert probability_of_improvement(theirs, ours) == pytest.approx(1 - probability_of_improvement(ours, theirs))

    def test_runs_are_drawn_again_within_their_game(self):
        seen: list = []

        def statistic(drawn):
            seen.append(drawn)
            return 0.0

        sample = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0])]
        stratified_interval(statistic, sample, resamples=50)
        assert len(seen) == 50 and {len(drawn) for drawn in seen} == {2}
        for number, scores in enumerate(sample):
            drawn = [each[number] for each in seen]
            assert {len(each) for each in drawn} == {len(scores)} and set(np.concatenate(drawn)) == set(scores)

    def test_the_same_scores_give_the_same_interval_around_the_estimate(self):
        sample = [np.random.default_rng(game).normal(game, 1, 5) for game in range(4)]
        low, high = stratified_interval(pooled_interquartile_mean, sample)
        assert (low, high) == stratified_interval(pooled_interquartile_mean, sample)
        assert low < pooled_interquartile_mean(sample) < high


def make_run(folder, config, scores=(), level=0.0, steps=None, evaluation=math.nan):
    """The folder of a run whose training scores rise by one every 100 steps, from `level` on."""
    config = dataclasses.replace(config, background=usual_background(config.game))  # as train.py writes it
    steps = config.steps if steps is None else steps
    run = Run(folder, config, folder / "policy.h5", config.steps)
    folder.mkdir(parents=True)
    run.write()
    rows = [
        f"{step},{step / 100},100,{step // 50},{level + step / 100},9,{evaluation},0.1,1,1"
        for step in range(100, steps + 1, 100)
    ]
    (folder / "metrics.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    if scores:
        facts = {"protocol": f"{len(scores)} full games of {config.game}", "scores": list(scores)}
        (folder / "evaluation.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two games, two seeds, two settings; by hand one game that no human was scored in, one run that is not done."""
    for game, base in (("breakout", 10.0), ("pong", 0.0)):
        for seed in (0, 1):
            for rate, bonus in ((0.001, 0.0), (0.002, 5.0)):
                config = Config(game=game, seed=seed, steps=1_000, learning_rate=rate)
                score = base + bonus + seed
                make_run(tmp_path / f"s/runs/{game}-{rate}-{seed}", config, (score - 1, score + 1), level=seed)
    (tmp_path / "s/sweep.json").write_text('{"command": ["sweep.py", "--games", "breakout", "pong"]}')
    config = Config(game="adventure", steps=1_000)
    make_run(tmp_path / "runs/<b>hand", config, evaluation=3.5)
    make_run(tmp_path / "runs/begun", dataclasses.replace(config, seed=7), steps=300)
    return tmp_path


def test_a_run_in_which_no_game_has_ended_yet_is_shown_all_the_same(tmp_path):
    run = make_run(tmp_path / "runs/begun", Config(game="pong", steps=1_000), steps=0)
    report([run], tmp_path, ["compare.py"], Console(file=io.StringIO()))
    assert "Not done yet: begun." in (tmp_path / "report.html").read_text()


def test_curves_are_averaged_where_every_seed_has_been():
    first = np.array([100.0, 200.0, 300.0]), np.array([1.0, 2.0, 3.0])
    second = np.array([150.0, 250.0]), np.array([5.0, 7.0])
    nothing = np.empty(0), np.empty(0)
    steps, mean, low, high = Curve("", [first, second, nothing]).mean_and_range()
    assert steps.tolist() == [150, 200, 250]
    assert mean.tolist() == [(1.5 + 5) / 2, (2 + 6) / 2, (2.5 + 7) / 2]
    assert (low.tolist(), high.tolist()) == ([1.5, 2, 2.5], [5, 6, 7])


def test_settings_are_told_apart_and_scored_over_games(runs):
    results = [read_result(folder) for folder in find_runs([runs / "s"])]
    comparison = compare(results, "title", [])
    worse, better = comparison.interquartile_means
    assert (worse, better) == ("learning-rate 0.001", "learning-rate 0.002")

    def normalised(bonus):
        breakout = [(10 + bonus + seed - 1.7) / (30.5 - 1.7) for seed in (0, 1)]
        return breakout + [(bonus + seed + 20.7) / (14.6 + 20.7) for seed in (0, 1)]

    for name, bonus in ((worse, 0), (better, 5)):
        estimate = comparison.interquartile_means[name]
        assert estimate.value == pytest.approx(np.mean(sorted(normalised(bonus))[1:3]))
        assert estimate.interval
        low, high = estimate.interval
        assert min(normalised(bonus)) <= low <= estimate.value <= high <= max(normalised(bonus))
    assert comparison.improvements[better, worse].value == 1.0
    assert comparison.settings == {"learning-rate": {worse: "0.001", better: "0.002"}}
    row = next(row for row in comparison.games if row["game"] == "pong" and row["setting"] == better)
    assert (row["seeds"], row["random"], row["human"]) == ("2", "-20.7", "14.6")
    assert row["mean score (95% interval)"] == "5.5 (5.0 to 6.0)"


def test_what_a_reader_should_bear_in_mind_is_said(runs):
    results = [read_result(folder) for folder in find_runs([runs / "s", runs / "runs/<b>hand", runs / "runs/begun"])]
    remarks = "\n".join(compare(results, "title", []).remarks)
    assert "Not done yet: begun." in remarks
    assert "different ways" in remarks and "last evaluation in training: 16 full games" in remarks
    assert "Without a human's score, and so not in the interquartile mean: adventure." in remarks


def compared(tmp_path, *configs):
    for number, config in enumerate(configs):
        make_run(tmp_path / f"{number}", config, (1.0, 2.0))
    return compare([read_result(folder) for folder in find_runs([tmp_path])], "title", [])


def test_many_options_that_differ_make_settings_with_letters(tmp_path):
    others = Config(steps=1_000, double=True, gamma=0.9, n_step=1, batch_size=32)
    comparison = compared(tmp_path, Config(steps=1_000), others)
    assert list(comparison.interquartile_means) == ["setting A", "setting B"]
    assert comparison.settings["double"] == {"setting A": "off", "setting B": "on"}
    assert len(comparison.settings) == 4


def test_what_a_machine_decided_is_not_a_setting(tmp_path):
    """`--precision auto` and `--minutes` depend on its speed."""
    first = Config(steps=11_000, seed=1, precision="float32")
    second = Config(steps=12_000, seed=2, precision="bfloat16", evaluations=4)
    comparison = compared(tmp_path, first, second)
    assert list(comparison.interquartile_means) == [""] and comparison.settings == {}
    assert [row["seeds"] for row in comparison.games] == ["2"]
    (remark,) = comparison.remarks
    assert remark.startswith("Of the runs, 1 in bfloat16 and 1 in float32: no game and seed was trained in both")


def test_it_is_one_where_the_same_game_and_seed_was_trained_both_ways(tmp_path):
    config = Config(steps=10_000, precision="float32")
    formats = compared(tmp_path / "formats", config, dataclasses.replace(config, precision="bfloat16", steps=15_000))
    assert [list(values.values()) for values in formats.settings.values()] == [
        ["10,000", "15,000"],
        ["float32", "bfloat16"],
    ]
    assert len(formats.interquartile_means) == 2 and formats.remarks == []
    evaluations = compared(tmp_path / "evaluations", config, dataclasses.replace(config, evaluations=4))
    assert list(evaluations.interquartile_means) == ["evaluations 10", "evaluations 4"]
    steps = [dataclasses.replace(config, steps=number, seed=number) for number in (10_000, 10_500, 12_000)]
    lengths = compared(tmp_path / "lengths", *steps)
    assert list(lengths.interquartile_means) == ["steps 10,000 to 10,500", "steps 12,000"]
    both = compared(tmp_path / "both", config, dataclasses.replace(config, steps=10_500))
    assert list(both.interquartile_means) == ["steps 10,000", "steps 10,500"]


@pytest.mark.parametrize("command", [["sweep.py", "--report"], ["compare.py"]])
def test_a_report_is_a_page_a_table_and_a_picture(runs, command):
    words = [sys.executable, str(REPOSITORY / command[0]), *command[1:]]
    both = subprocess.run([*words, "s", "runs/<b>hand"], cwd=runs, capture_output=True, text=True)
    assert (both.returncode, both.stderr) == (0, ""), both.stderr
    assert both.stdout.splitlines()[0] == f"Read the report:    {Path('comparison/report.html')}"
    page = (runs / "comparison/report.html").read_text()
    assert "<b>hand" not in page and "&lt;b&gt;hand" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page), "nothing is fetched"
    assert "python sweep.py --games breakout pong" in page
    assert re.search(r"<td>pong-0.002-1</td>.*<td>1,000</td><td>1,000</td><td>6.0</td>.*<td>76%</td>", page)
    with open(runs / "comparison/table.csv", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert len(rows) == 9
    row = rows["pong-0.002-1"]
    assert (row["score"], row["steps"], row["how"]) == ("6.0", "1000", "2 full games of pong")
    assert float(row["human-normalised"]) == pytest.approx((6 + 20.7) / (14.6 + 20.7), abs=1e-4)
    assert (rows["<b>hand"]["score"], rows["<b>hand"]["human-normalised"]) == ("3.5", "")
    with Image.open(runs / "comparison/curves.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000)}
    assert {(0, 114, 178), (213, 94, 0)} <= colours, "a line for each setting"


def test_the_report_of_a_sweep_is_in_its_folder(runs):
    command = [sys.executable, str(REPOSITORY / "sweep.py"), "--report", "s"]
    process = subprocess.run(command, cwd=runs, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert {"report.html", "table.csv", "curves.png"} <= set(os.listdir(runs / "s"))


def test_a_folder_without_a_run_is_told_in_one_sentence(tmp_path):
    command = [sys.executable, str(REPOSITORY / "compare.py"), str(tmp_path)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == (
        f"compare.py: There is no run in {tmp_path}; give folders of runs, such as runs/NAME, or a sweep's.\n"
    )
    assert os.listdir(tmp_path) == []
