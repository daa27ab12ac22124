"""Trainings beside one another: their curves as a picture, their scores as a table and a page."""

import csv
import datetime
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import console
from keras_h5 import files
from reports.inline import data_uri
from reports.learning_curve import name_steps, new_figure, plot_published, svg
from reports.page import write_page

# Okabe and Ito's colours, which the colour-blind tell apart; the lines differ in their dashes as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
PANELS_A_ROW = 3
# The numbers of a run, as people read them.
NUMBERS = {
    **dict.fromkeys(("steps", "of"), "{:,}"),
    **dict.fromkeys(("score", "low", "high"), "{:,.1f}"),
    "human-normalised": "{:.0%}",
}
FAR = 2.0  # heights of a panel that a human's score may be above it and still be drawn


@dataclass(frozen=True)
class Curve:
    """The training scores of one setting in one game, over agent steps."""

    setting: str
    runs: Sequence[tuple[np.ndarray, np.ndarray]]  # for each run the steps, ascending, and the scores there

    def mean_and_range(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Steps that every run has come to; there the mean over the runs, the lowest and the highest."""
        runs = [(steps, scores) for steps, scores in self.runs if len(steps)]
        if not runs:
            return (np.empty(0),) * 4
        first, last = max(steps[0] for steps, _ in runs), min(steps[-1] for steps, _ in runs)
        grid = np.unique(np.concatenate([steps for steps, _ in runs]))
        grid = grid[(grid >= first) & (grid <= last)]
        scores = np.array([np.interp(grid, *run) for run in runs])
        return grid, scores.mean(axis=0), scores.min(axis=0), scores.max(axis=0)


@dataclass(frozen=True)
class Panel:
    """What is drawn of one game."""

    game: str
    curves: Sequence[Curve]
    references: tuple[float, float] | None  # a random agent's and a human's score


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, where there is one."""

    value: float
    interval: tuple[float, float] | None = None

    def words(self, digits: int = 1) -> str:
        """Such as "12.3 (10.0 to 15.1)"."""
        if math.isnan(self.value):
            return "-"
        value = f"{self.value:,.{digits}f}"
        return value if self.interval is None else f"{value} ({' to '.join(f'{x:,.{digits}f}' for x in self.interval)})"


@dataclass(frozen=True)
class Comparison:
    """All that is shown."""

    title: str
    panels: Sequence[Panel]
    interquartile_means: dict[str, Estimate]  # of human-normalised scores, by setting
    improvements: dict[tuple[str, str], Estimate]  # how likely a run of the first beats one of the second
    games: Sequence[dict[str, str]]  # rows of the table of games, by the names of its columns
    runs: Sequence[dict[str, Any]]  # rows of the table of runs, likewise
    settings: dict[str, dict[str, str]]  # by option: its value in each setting, where they differ
    remarks: Sequence[str]
    commands: Sequence[Sequence[str]]


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the table of runs as a .csv file.

    Raises:
        OSError: the file system refused.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(path, text.getvalue().encode())


def draw_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Draws every game's curves into a .png file.

    Raises:
        OSError: the file system refused.
    """
    data = io.BytesIO()
    _curves(panels).savefig(data, format="png")
    files.write(path, data.getvalue())


def write_comparison(path: Path, comparison: Comparison) -> int:
    """Writes all of it as one .html file. Returns its size in bytes.

    Raises:
        OSError: the file system refused.
    """
    today = datetime.date.today()
    several = len(comparison.interquartile_means) > 1
    return write_page(
        path,
        "comparison.html",
        title=comparison.title,
        date=f"{today.day} {today:%B %Y}",
        num_runs=console.counted(len(comparison.runs), "run"),
        num_games=console.counted(len(comparison.panels), "game"),
        curves=data_uri(svg(_curves(comparison.panels)), ".svg"),
        bars=data_uri(svg(_intervals(comparison.interquartile_means)), ".svg") if several else "",
        interquartile_means=comparison.interquartile_means,
        improvements=[
            {"setting": ours, "against": theirs, "probability": each.words(2)}
            for (ours, theirs), each in comparison.improvements.items()
        ],
        games=comparison.games,
        runs=[_for_people(row) for row in _without_empty_columns(comparison.runs)],
        settings=comparison.settings,
        remarks=comparison.remarks,
        commands=[shlex.join(words) for words in comparison.commands],
    )


def _without_empty_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if any(each[name] != "" for each in rows)} for row in rows]


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: NUMBERS[name].format(value) if name in NUMBERS and value != "" else value for name, value in row.items()
    }


def _curves(panels: Sequence[Panel]) -> Any:
    columns = min(PANELS_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(max(6, 4 * columns), 3.2 * rows + 0.8)
    settings = list(dict.fromkeys(curve.setting for panel in panels for curve in panel.curves))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    legend: dict[str, Any] = {}
    for axes, panel in zip(places, panels, strict=False):
        _plot(axes, panel, settings)
        handles, labels = axes.get_legend_handles_labels()
        legend.update(zip(labels, handles, strict=True))
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _plot(axes: Any, panel: Panel, settings: Sequence[str]) -> None:
    last = 1.0
    for curve in panel.curves:
        number = settings.index(curve.setting)
        colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        steps, mean, low, high = curve.mean_and_range()
        runs = len([steps for steps, _ in curve.runs if len(steps)])
        what = curve.setting or "training score"
        # One run has no band, and a legend entry stands for all panels.
        point = {"marker": "o", "clip_on": False} if len(steps) == 1 else {}
        axes.plot(steps, mean, color=colour, linestyle=dashes, label=f"{what}, mean over seeds", **point)
        if runs > 1:
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0, label="lowest to highest seed")
        last = max([last, *steps[-1:]])
    plot_published(axes, panel.game, last)
    if panel.references:
        _plot_references(axes, *panel.references)
    axes.set_xlim(0, last)
    axes.set_title(panel.game.replace("_", " ").title(), fontsize=10)
    axes.set_ylabel("raw score of a full game", fontsize=8)
    axes.grid(alpha=0.3)
    name_steps(axes)


def _plot_references(axes: Any, random: float, human: float) -> None:
    is_empty = not any(len(line.get_xdata()) for line in axes.lines)
    axes.axhline(random, color="black", linewidth=0.8, linestyle=":", label="random (Wang et al. 2016)")
    low, high = axes.get_ylim()
    if is_empty or human < high + FAR * (high - low):
        axes.axhline(human, color="black", linewidth=0.8, linestyle=(0, (6, 3)), label="human (Wang et al. 2016)")
    else:  # its line would press all others into one
        axes.set_ylim(low, high + 0.15 * (high - low))
        axes.text(0.02, 0.97, f"human: {human:,}", transform=axes.transAxes, verticalalignment="top", fontsize=8)


def _intervals(estimates: dict[str, Estimate]) -> Any:
    """Each setting a line: the estimate as a dot, its interval as a bar."""
    figure = new_figure(7, 0.9 + 0.35 * len(estimates))
    axes = figure.subplots()
    for number, each in enumerate(estimates.values()):
        colour = COLOURS[number % len(COLOURS)]
        if each.interval:
            axes.plot(each.interval, (number, number), color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot(each.value, number, "o", color=colour)
    axes.set_yticks(range(len(estimates)), list(estimates))
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.set_xlabel("interquartile mean of human-normalised scores, with its 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return figure
