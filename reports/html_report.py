"""An evaluation as a page: one HTML file with everything in it."""

import datetime
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.film import GameFilm
from reports.inline import data_uri
from reports.learning_curve import EVALUATION, TRAINING, learning_curve_svgs, new_figure, svg
from reports.page import write_page


@dataclass(frozen=True)
class ReportedGame:
    """One of the games that the page shows."""

    title: str  # Best game
    score: float
    film: GameFilm


def write_html_report(
    path: Path,
    *,
    game: str,
    policy: Path,
    protocol: str,
    date: datetime.date,
    statistics: dict[str, Any],
    scores: Sequence[float],
    references: tuple[float, float] | None,
    games: Sequence[ReportedGame],
    metrics: Path | None,
    tables: dict[str, dict[str, Any]],
    commands: Sequence[Sequence[str]],
) -> int:
    """Writes the page, whole or not at all.

    Args:
        path: the .html file to write.
        game: ROM id.
        policy: the file that was evaluated.
        protocol: how its games were played, in words.
        date: of the evaluation.
        statistics: of the scores, as evaluate.py's JSON has them.
        scores: raw, one a game.
        references: a random agent's and a human's score, if known.
        games: to show.
        metrics: the metrics.csv of the run that trained the policy, if it is there.
        tables: titles, and under each names and values to print.
        commands: words of the commands that make all this again.

    Returns:
        The page's size in bytes.

    Raises:
        OSError: the file system refused.
    """
    human = references[1] if references else None
    return write_page(
        path,
        "html_report.html",
        game=game.replace("_", " ").title(),
        policy=policy,
        protocol=protocol,
        date=f"{date.day} {date:%B %Y}",
        statistics=statistics,
        scores=scores,
        references=references,
        scores_picture=data_uri(_scores_svg(scores, statistics, references), ".svg"),
        games=games,
        curves=[data_uri(curve, ".svg") for curve in learning_curve_svgs(metrics, game, human)] if metrics else [],
        tables=tables,
        commands=[shlex.join(words) for words in commands],
    )


def _scores_svg(scores: Sequence[float], statistics: dict[str, Any], references: tuple[float, float] | None) -> bytes:
    """Each game a dot, the mean with its interval, and what others reach."""
    figure = new_figure(5, 2.4)
    axes = figure.subplots()
    # Games of equal score stand on each other.
    heights = [list(scores[:number]).count(score) for number, score in enumerate(scores)]
    axes.scatter(scores, heights, s=14, color=TRAINING, label="a game", zorder=3)
    low, high = statistics["mean_interval_95"]
    axes.axvspan(low, high, color=EVALUATION, alpha=0.25, label="95% interval of the mean")
    axes.axvline(statistics["mean"], color=EVALUATION, label=f"mean, {statistics['mean']:.1f}")
    if references:
        for name, score, dashes in zip(("random", "human"), references, (":", (0, (6, 3))), strict=True):
            axes.axvline(score, color="black", linewidth=0.8, linestyle=dashes, label=f"{name}, {score:g}")
    axes.set_xlabel("raw score of a full game")
    axes.set_yticks([])
    axes.set_ylim(-1, max(heights) + 2)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return svg(figure)
