"""The picture of a training: every number of metrics.csv that it promises is in it."""

import math

import pytest
from PIL import Image

from reports.learning_curve import (
    EVALUATION,
    _plot_over_steps,
    _up_to,
    draw_learning_curve,
    learning_curve_svgs,
    new_figure,
    read_rows,
)

HEADER = "step,seconds,steps_per_second,episodes,score,best_score,evaluation,epsilon,loss,mean_q"


def row(step, score, evaluation):
    return f"{step},{step / 300:.6g},300,10,{score},40,{evaluation},0.1,0.01,1.5"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("game", ["breakout", "pong"])
def test_a_picture_grows_with_the_training(game, tmp_path):
    metrics, picture = tmp_path / "metrics.csv", tmp_path / "learning_curve.png"
    sizes = []
    for lines in (
        [],
        [row(500, "nan", "nan")],
        [row(500, 1, "nan"), row(1000, 2, 5), row(1500, 3, 5), row(2000, 4, 9)],
    ):
        metrics.write_text("\n".join([HEADER, *lines]) + "\n")
        draw_learning_curve(metrics, picture, game, 30.5 if game == "breakout" else None)
        with Image.open(picture) as image:
            assert image.size == (1200, 504)
            colours = image.convert("RGB").getcolors(1_000_000)
        found = {colour for _, colour in colours}
        sizes.append(((0, 114, 178) in found, (213, 94, 0) in found))
    assert sizes[-1] == (True, True), "the training in blue, the evaluations in vermilion"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_published_curve_ends_where_the_training_does():
    points = [(500_000, 5.0), (1_000_000, 28.0), (2_000_000, 111.0)]
    assert _up_to(points, 250_000) == [(250_000, pytest.approx((1.7 + 5.0) / 2))]
    assert _up_to(points, 1_000_000) == points[:2]
    assert _up_to(points, 1_500_000)[-1] == (1_500_000, pytest.approx((28 + 111) / 2))
    assert _up_to(points, 9e6) == points
    assert not any(math.isnan(score) for _, score in _up_to(points, 1))


@pytest.mark.parametrize(("steps", "published"), [(4_000, 0), (500_000, 2), (4_000_000, 2)])
def test_a_short_training_is_not_compared_with_what_nobody_published(steps, published, tmp_path):
    (tmp_path / "metrics.csv").write_text("\n".join([HEADER, row(steps // 2, 1, "nan"), row(steps, 2, 5)]) + "\n")
    over_steps, _ = learning_curve_svgs(tmp_path / "metrics.csv", "breakout", 30.5)
    text = over_steps.decode()
    assert text.count("published -->") == published
    assert "mean of the last 10 games" in text
    assert "<!-- 0k -->" not in text
    assert "<!-- 0 -->" in text


def drawn(folder, game, human, *rows, header=HEADER + ",evaluations"):
    """The axes over agent steps, and the points of the evaluations."""
    (folder / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    axes = new_figure(5, 4).subplots()
    _plot_over_steps(axes, read_rows(folder / "metrics.csv"), game, human)
    (evaluations,) = (line for line in axes.get_lines() if line.get_color() == EVALUATION)
    return axes, list(zip(*evaluations.get_data(), strict=True))


def test_evaluations_of_the_same_score_are_points_of_their_own(tmp_path):
    """As of games that a policy loses each time: -21 in Pong, 0 in Freeway."""
    counted = [f"{row(step, -21, -21)},{step // 1_000}" for step in (1_000, 1_500, 2_000, 2_500)]
    assert drawn(tmp_path, "pong", None, *counted)[1] == [(1_000, -21), (2_000, -21)]
    older = [row(500, 1, "nan"), row(1_000, 2, 5), row(1_500, 3, 5), row(2_000, 4, 9)]
    assert drawn(tmp_path, "pong", None, *older, header=HEADER)[1] == [(1_000, 5), (2_000, 9)]
    resumed = [f"{older[1]},nan", f"{older[2]},0", f"{row(2_000, 4, 5)},1"]  # by a version that counts
    assert drawn(tmp_path, "pong", None, *resumed)[1] == [(1_000, 5), (2_000, 5)]


@pytest.mark.parametrize(
    ("game", "human", "score", "evaluation"),
    [
        ("pong", 14.6, -20.5, -21),
        ("skiing", -4336.9, -9_000, -17_098),
        ("double_dunk", None, -24, -24),
        ("x", None, 3, 5),
    ],
)
def test_every_score_is_inside_the_axes_and_a_scale_without_negative_ones_begins_at_0(
    game, human, score, evaluation, tmp_path
):
    axes, points = drawn(tmp_path, game, human, *(f"{row(step, score, evaluation)},1" for step in (500, 1_000)))
    low, high = axes.get_ylim()
    assert points == [(500, evaluation)]
    assert all(low < value < high for value in (score, evaluation, score if human is None else human))
    assert (low == 0) == (game == "x")


def test_a_game_that_never_ends_has_no_mean_of_games(tmp_path):
    rows = [row(step, "nan", "nan").replace(",10,", ",0,") for step in (500, 1_000)]
    axes, _ = drawn(tmp_path, "montezuma_revenge", 4753.3, *(f"{each},0" for each in rows))
    assert "training, no game has ended yet" in axes.get_legend_handles_labels()[1]
