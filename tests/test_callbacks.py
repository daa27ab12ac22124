"""What a training shows and writes while it runs."""

import csv
import dataclasses
import io
import math
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.monitor import MetricsFile, Snapshot, TrainingMonitor
from training.progress import ProgressDisplay, duration, number


class Agent:
    metrics_names = ("loss", "mean_q", "mean_eps")
    stop_training = False
    pending_steps = 0
    step = 0


def run(callback, steps, updates_from=0, scores=()):
    """Takes a callback through a training whose update at step i has the metrics (i, 2 i, 0.5)."""
    callback.set_model(Agent())
    callback.on_train_begin()
    for step in range(steps):
        callback.model.step = step
        metrics = [step, 2 * step, 0.5] if step >= updates_from else [np.nan] * 3
        callback.on_step_begin(step)
        callback.on_step_end(step, {"metrics": metrics})
        for at, score in scores:
            if at == step:
                callback.on_episode_end(0, {"episode_score": score})
    callback.model.step = steps
    callback.on_train_end()


def test_snapshots_have_means_over_the_interval_and_scores_of_full_games():
    snapshots: list[Snapshot] = []
    run(TrainingMonitor(10, [snapshots.append]), 25, updates_from=14, scores=[(3, 1.0), (21, 4.0)])
    assert [s.step for s in snapshots] == [10, 20, 25]
    assert math.isnan(snapshots[0].loss)
    assert snapshots[1].loss == np.mean(range(14, 20))
    assert snapshots[2].mean_q == 2 * np.mean(range(20, 25))
    assert [s.score for s in snapshots] == [1.0, 1.0, 2.5]
    assert (snapshots[2].best_score, snapshots[2].episodes, snapshots[2].epsilon) == (4.0, 2, 0.5)


def test_the_score_is_of_the_last_100_games():
    monitor = TrainingMonitor(10)
    run(monitor, 150, scores=[(step, float(step)) for step in range(150)])
    assert monitor.mean_score == np.mean(range(50, 150))


def test_metrics_go_to_a_file_that_a_spreadsheet_reads(tmp_path):
    path = tmp_path / "metrics.csv"
    run(TrainingMonitor(10, [MetricsFile(path, print)]), 20)
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert float(rows[1]["loss"]) == pytest.approx(14.5)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_metrics_out_and_says_so(tmp_path):
    warnings: list[Exception] = []
    metrics_file = MetricsFile(tmp_path / "metrics.csv", warnings.append)
    metrics_file.path = Path("/dev/full")
    run(TrainingMonitor(10, [metrics_file]), 20)
    assert len(warnings) == 1
    assert "No space left" in str(warnings[0])


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX limit on file sizes")
def test_rows_that_there_was_no_room_for_come_later_and_none_is_torn(tmp_path):
    import resource

    warnings: list[Exception] = []
    path, limits = tmp_path / "metrics.csv", resource.getrlimit(resource.RLIMIT_FSIZE)
    metrics_file = MetricsFile(path, warnings.append)
    run(TrainingMonitor(10, [metrics_file]), 20)
    whole = path.read_bytes()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))  # takes a part of a row
        metrics_file(dataclasses.replace(SNAPSHOT, step=30))
        metrics_file(dataclasses.replace(SNAPSHOT, step=40))
        assert path.read_bytes() == whole
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    metrics_file(dataclasses.replace(SNAPSHOT, step=50))
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20", "30", "40", "50"]
    assert all(len(row) == len(rows[0]) and None not in row for row in rows)
    assert [type(warning) for warning in warnings] == [OSError]


def test_a_resumed_training_keeps_no_row_that_is_none(tmp_path):
    """A full disk cut a row, and the next was glued on; a power cut left zeros."""
    path = tmp_path / "metrics.csv"
    run(TrainingMonitor(10, [MetricsFile(path, print)]), 20)
    header, *rows = whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, rows[0], rows[1][:30] + rows[0], bytes(20) + b"\n", b"\xff,1\n", rows[1]]))
    MetricsFile(path, print, step=20)
    assert path.read_bytes() == b"".join(whole)


def test_a_resumed_training_keeps_the_rows_that_an_older_version_wrote(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds,score,evaluation\r\n10,1.5,nan,nan\r\n20,3,-21,-20.5\r\n30,4.5,-21,-20.5\r\n")
    MetricsFile(path, print, step=20)(dataclasses.replace(SNAPSHOT, step=30, score=-19.0, evaluations=2))
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["score"], row["evaluations"]) for row in rows] == [
        ("10", "nan", "nan"),
        ("20", "-21", "nan"),
        ("30", "-19", "2"),
    ]


SNAPSHOT = Snapshot(50_000, 100.0, 500.0, 200, 12.34, 40.0, 15.67, 0.1234, 0.01234, 1.5)


def shown(snapshots, terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80, _environ={"TERM": "xterm"})
    with ProgressDisplay(100_000, console, seconds_between_lines=0) as display:
        for snapshot in snapshots:
            display(snapshot)
    return file.getvalue()


def test_a_log_gets_plain_lines():
    text = shown([SNAPSHOT], terminal=False)
    assert text.count("\n") == 1
    for part in (
        "50,000/100,000",
        "50.0%",
        "score 12.3",
        "best 40.0",
        "500 steps/s",
        "left 2 min",
        "epsilon 0.123",
        "evaluation 15.7",
    ):
        assert part in text


def test_a_terminal_of_80_columns_shows_everything_without_breaking_a_line():
    text = shown([SNAPSHOT], terminal=True)
    for part in ("50,000 of 100,000 agent steps", "12.3", "40.0", "15.7", "0.0123", "500 steps/s", "2 min"):
        assert part in text


def test_before_the_first_update_no_time_is_promised():
    nan = math.nan
    early = Snapshot(500, 1.0, 900.0, 0, nan, nan, nan, nan, nan, nan)
    assert "left not known yet" in shown([early], terminal=False)


@pytest.mark.parametrize(
    ("seconds", "words"), [(42, "42 s"), (59.6, "1 min"), (90, "2 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations_are_in_words(seconds, words):
    assert duration(seconds) == words


def test_what_is_not_known_is_a_dash():
    assert (number(math.nan), number(1234.56)) == ("-", "1,234.6")
