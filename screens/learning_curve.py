"""The learning curve of a training, drawn from its metrics.csv."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import files

# Mean raw scores of full games of Breakout without sticky actions, after so many agent steps.
PUBLISHED = {
    "keras-rl's own best": [(500_000, 3.5), (1_000_000, 20.0), (1_750_000, 37.5)],
    "CleanRL dqn_atari": [(500_000, 5.0), (1_000_000, 28.0), (2_000_000, 111.0), (10_000_000, 366.9)],
}
# Okabe and Ito's colours, which the colour-blind tell apart; the lines differ in their dashes as well.
TRAINING, EVALUATION, REFERENCES = "#0072B2", "#D55E00", ("#009E73", "#CC79A7")


def draw_learning_curve(metrics: Path, picture: Path, game: str, human: float | None) -> None:
    """Draws raw scores over agent steps and over time, and what others published as a reference.

    Args:
        metrics: the metrics.csv of a run.
        picture: the PNG to write, whole or not at all.
        game: ROM id, for the title; Breakout gets the published curves as well.
        human: a human's score, drawn as a line.

    Raises:
        OSError: the file system refused.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: it takes half a second
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with open(metrics, newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    for axes, x in ((by_steps, _column(rows, "step")), (by_time, [s / 60 for s in _column(rows, "seconds")])):
        axes.plot(x, _column(rows, "score"), color=TRAINING, label="training, mean of the last 100 games")
        evaluated = [i for i in range(len(rows)) if _is_new(rows, i)]
        axes.plot(
            [x[i] for i in evaluated],
            [rows[i]["evaluation"] for i in evaluated],
            color=EVALUATION,
            marker="o",
            linestyle=":",
            label="evaluation, epsilon 0.05",
        )
        axes.set_xlim(left=0, right=max(x, default=1))
        axes.grid(alpha=0.3)
        if human is not None:
            axes.axhline(human, color="black", linewidth=0.8, linestyle=(0, (6, 3)), label=f"human, {human:g}")
    last_step = rows[-1]["step"] if rows else 1
    if game == "breakout":
        for (name, points), color, dashes in zip(PUBLISHED.items(), REFERENCES, ("--", "-."), strict=True):
            steps, scores = zip((0, 1.7), *_up_to(points, last_step), strict=True)
            by_steps.plot(steps, scores, color=color, linestyle=dashes, label=f"{name}, published")
    by_steps.set_ylim(bottom=min(0, *_column(rows, "score"), 0))
    by_steps.set_ylabel("raw score of a full game")
    by_steps.set_xlabel("agent steps (4 frames each)")
    by_steps.xaxis.set_major_formatter(FuncFormatter(_thousands))
    by_time.set_xlabel("minutes of training")
    by_steps.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"{game}: {last_step:,.0f} agent steps")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    files.write(picture, data.getvalue())


def _column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows]


def _is_new(rows: list[dict[str, float]], index: int) -> bool:
    """Whether an evaluation came between this row and the one before."""
    value = rows[index]["evaluation"]
    return not math.isnan(value) and (index == 0 or value != rows[index - 1]["evaluation"])


def _up_to(points: list[tuple[int, float]], last: float) -> list[tuple[float, float]]:
    """The points of a curve as far as `last`, the end of it interpolated."""
    shown: list[tuple[float, float]] = []
    before = (0.0, 1.7)
    for step, score in points:
        if before[0] >= last:
            break
        if step > last:
            score = before[1] + (last - before[0]) / (step - before[0]) * (score - before[1])
        before = (min(step, last), score)
        shown.append(before)
    return shown


def _thousands(value: float, position: Any) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
