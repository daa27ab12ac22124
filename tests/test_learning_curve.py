"""The picture of a training: every number of metrics.csv that it promises is in it."""

import math

import pytest
from PIL import Image

from reports.learning_curve import _up_to, draw_learning_curve, learning_curve_svgs

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
