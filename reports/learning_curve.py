"""The learning curve of a training, drawn from its metrics.csv."""

import io
import math
from pathlib import Path
from typing import Any

import console
from keras_h5 import files

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
    rows = read_rows(metrics)
    figure = new_figure(10, 4.2)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    _plot_over_steps(by_steps, rows, game, human)
    _plot_over_time(by_time, rows, human)
    by_time.set_ylabel("")
    figure.suptitle(f"{game.replace('_', ' ').title()}: {rows[-1]['step'] if rows else 0:,.0f} agent steps")
    figure.legend(*by_steps.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    files.write(picture, data.getvalue())


def learning_curve_svgs(metrics: Path, game: str, human: float | None) -> tuple[bytes, bytes]:
    """The same as two SVG files: over agent steps, and over time. Arguments and errors as above."""
    rows = read_rows(metrics)
    over_steps, over_time = new_figure(5, 3.8), new_figure(5, 3.3)
    _plot_over_steps(over_steps.subplots(), rows, game, human)
    over_steps.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    _plot_over_time(over_time.subplots(), rows, human)
    return svg(over_steps), svg(over_time)


def numbers(line: str) -> list[float]:
    """The numbers in a line of metrics.csv; none if it is damaged, as a full disk or a power cut can leave it."""
    try:
        return [float(value) for value in line.split(",")]
    except ValueError:
        return []


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches at 120 dots each, of no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: it takes half a second
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def svg(figure: Any) -> bytes:
    """A matplotlib figure as an SVG file, the same for the same figure."""
    import matplotlib

    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "svg"}):
        figure.savefig(data, format="svg", metadata={"Date": None})
    return data.getvalue()


def _plot_over_steps(axes: Any, rows: list[dict[str, float]], game: str, human: float | None) -> None:
    _plot(axes, rows, _column(rows, "step"), human)
    plot_published(axes, game, rows[-1]["step"] if rows else 1)
    name_steps(axes)


def plot_published(axes: Any, game: str, last_step: float) -> None:
    """Draws what others published of a game, as far as a training goes."""
    if game == "breakout":
        for (name, points), color, dashes in zip(PUBLISHED.items(), REFERENCES, ("--", "-."), strict=True):
            if last_step < points[0][0]:  # nobody published anything of so short a training
                continue
            steps, scores = zip((0, 1.7), *_up_to(points, last_step), strict=True)
            axes.plot(steps, scores, color=color, linestyle=dashes, label=f"{name}, published")


def name_steps(axes: Any) -> None:
    """Makes agent steps of the horizontal axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel("agent steps (4 frames each)")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))


def _plot_over_time(axes: Any, rows: list[dict[str, float]], human: float | None) -> None:
    _plot(axes, rows, [seconds / 60 for seconds in _column(rows, "seconds")], human)
    axes.set_xlabel("minutes of training")


def _plot(axes: Any, rows: list[dict[str, float]], x: list[float], human: float | None) -> None:
    num_games = min(100, int(rows[-1].get("episodes", 100))) if rows else 100
    games = f"mean of the last {console.counted(num_games, 'game')}" if num_games else "no game has ended yet"
    axes.plot(x, _column(rows, "score"), color=TRAINING, label=f"training, {games}")
    evaluated = [i for i in range(len(rows)) if _is_new(rows, i)]
    axes.plot(
        [x[i] for i in evaluated],
        [rows[i]["evaluation"] for i in evaluated],
        color=EVALUATION,
        marker="o",
        linestyle=":",
        clip_on=not evaluated,  # or the last marker, at the edge, is half a one
        zorder=3,
        label="evaluation, epsilon 0.05",
    )
    axes.set_xlim(left=0, right=max(x, default=1))
    axes.grid(alpha=0.3)
    if human is not None:
        axes.axhline(human, color="black", linewidth=0.8, linestyle=(0, (6, 3)), label=f"human, {human:g}")
    if not any(score < 0 for score in (*_column(rows, "score"), *_column(rows, "evaluation"), human or 0)):
        axes.set_ylim(bottom=0)
    axes.set_ylabel("raw score of a full game")


def read_rows(metrics: Path) -> list[dict[str, float]]:
    """The lines of a metrics.csv by the names in its first; those that are damaged are passed over.

    Raises:
        OSError: it cannot be read.
    """
    header, *lines = metrics.read_text(errors="replace").splitlines() or [""]
    names = header.split(",")
    rows = [dict(zip(names, row, strict=True)) for row in map(numbers, lines) if len(row) == len(names)]
    return [{"evaluation": math.nan, **row} for row in rows]  # version 0.1 had no evaluations


def _column(rows: list[dict[str, float]], name: str) -> list[float]:
    return [row[name] for row in rows]


def _is_new(rows: list[dict[str, float]], index: int) -> bool:
    """Whether an evaluation came between this row and the one before; an older version did not write their number."""
    now, before = rows[index], rows[index - 1] if index else {}
    if math.isnan(now["evaluation"]):
        return False
    are_counted = not math.isnan(now.get("evaluations", math.nan) - before.get("evaluations", math.nan))
    name = "evaluations" if are_counted else "evaluation"
    return now[name] != before.get(name)


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
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
