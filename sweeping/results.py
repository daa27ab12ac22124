"""What trainings have come to, read from the folders of their runs, and what that says of games and settings."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import console
from config import Config
from evaluation.reference_scores import REFERENCES, human_normalised
from evaluation.statistics import pooled_interquartile_mean, probability_of_improvement, stratified_interval, summary
from keras_h5 import files
from reports.comparison import Comparison, Curve, Estimate, Panel, draw_curves, write_comparison, write_table
from reports.learning_curve import read_rows
from sweeping.attempt import unlike_machines
from sweeping.plan import MAX_EVALUATION_BYTES, sweep_command, usual_background
from training.run import read_run

MOST_BY_CHANCE = 1.1  # of the number of steps, from one training with --minutes to the next
MOST_IN_A_LABEL = 3  # options; settings that differ in more are called A, B, C, ...


@dataclass(frozen=True)
class Result:
    """One run."""

    folder: Path
    config: Config
    steps: int  # agent steps done
    steps_to_do: int
    curve: tuple[np.ndarray, np.ndarray]  # steps, and the mean of the last 100 games in training there
    scores: tuple[float, ...]  # raw, of the games of its evaluation; none if there is only their mean
    score: float  # their mean; NaN: it was not evaluated
    how: str  # it was evaluated: protocol, in words

    @property
    def setting(self) -> dict[str, Any]:
        """All options but game and seed; the game's own background is -1, as in the options."""
        is_usual = self.config.background == usual_background(self.config.game)
        options = dataclasses.asdict(self.config) | ({"background": -1} if is_usual else {})
        return {name: value for name, value in options.items() if name not in ("game", "seed")}


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The folders of runs among some folders: each is one, or has some in it, or in its `runs`.

    Raises:
        UsageError: There is none.
    """
    found: list[Path] = []
    for place in places:
        if (place / "config.json").is_file():
            inside = [place]
        else:
            inside = sorted(path.parent for pattern in ("*", "runs/*") for path in place.glob(f"{pattern}/config.json"))
        if not inside:
            raise console.UsageError(
                f"There is no run in {place}; give folders of runs, such as runs/NAME, or a sweep's."
            )
        found += inside
    return list(dict.fromkeys(found))


def read_result(folder: Path) -> Result:
    """The result of a run, be it done or not.

    Its score is that of evaluate.py if the folder has an evaluation.json, else that of the last evaluation in training.

    Raises:
        UsageError: It is not the folder of a run.
    """
    run = read_run(folder)
    try:
        rows = read_rows(folder / "metrics.csv")
    except OSError:  # it has only begun
        rows = []
    known = [row for row in rows if not math.isnan(row["score"])]
    curve = np.array([row["step"] for row in known]), np.array([row["score"] for row in known])
    scores, score, how = _evaluation(folder, run.config, rows)
    steps = int(rows[-1]["step"]) if rows else 0
    return Result(folder, run.config, steps, run.steps, curve, scores, score, how)


def compare(results: Sequence[Result], title: str, commands: Sequence[Sequence[str]]) -> Comparison:
    """What some runs say together."""
    labels, differing = _labels(results)
    games = sorted({result.config.game for result in results})
    groups: dict[tuple[str, str], list[Result]] = {}
    for result, label in zip(results, labels, strict=True):
        groups.setdefault((label, result.config.game), []).append(result)
    settings = list(dict.fromkeys(labels))
    panels = [
        Panel(
            game,
            [Curve(s, [r.curve for r in groups[s, game]]) for s in settings if (s, game) in groups],
            REFERENCES.get(game),
        )
        for game in games
    ]
    samples = {setting: _samples(groups, setting) for setting in settings}
    return Comparison(
        title,
        panels,
        {setting: mean for setting in settings if (mean := _interquartile_mean(samples[setting]))},
        _improvements(samples),
        [
            _game_row(game, setting, groups[setting, game])
            for game in games
            for setting in settings
            if (setting, game) in groups
        ],
        [_run_row(result, label) for result, label in zip(results, labels, strict=True)],
        differing,
        _remarks(results),
        commands,
    )


def report(places: Sequence[Path], out: Path | None, words: Sequence[str], screen: Console) -> None:
    """Writes report.html, table.csv and curves.png of the runs in some folders, and says where they are.

    Args:
        places: Folders of runs or of sweeps.
        out: The folder to write into; None: the sweep's if it is one, else `comparison`.
        words: The command that this is.
        screen: Where to say it.

    Raises:
        UsageError: There is no run.
        FileError: They cannot be written.
    """
    results = [read_result(folder) for folder in find_runs(places)]
    is_sweep = len(places) == 1 and (places[0] / "sweep.json").is_file()
    out = out or (places[0] if is_sweep else Path("comparison"))
    made_by = [command for place in places if (command := sweep_command(place))]
    commands = [["python", *command] for command in made_by or [list(words)]]
    comparison = compare(results, f"Sweep {places[0].name}" if is_sweep else "Comparison of trainings", commands)
    page, table, picture = out / "report.html", out / "table.csv", out / "curves.png"
    with files.in_words(out):
        out.mkdir(parents=True, exist_ok=True)
        write_table(table, comparison.runs)
        draw_curves(picture, comparison.panels)
        write_comparison(page, comparison)
    for what, path in {"Read the report": page, "Look at the curves": picture, "Use the table": table}.items():
        screen.print(f"{what + ':':19} {path}", soft_wrap=True, markup=False)


def _evaluation(folder: Path, config: Config, rows: list[dict[str, float]]) -> tuple[tuple[float, ...], float, str]:
    """The scores of a run's evaluation, their mean and how they were made, in words."""
    try:
        facts = json.loads(files.read(folder / "evaluation.json", MAX_EVALUATION_BYTES))
        scores = tuple(float(score) for score in facts["scores"])
        return scores, float(np.mean(scores)), str(facts["protocol"]) if scores else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    if not rows or math.isnan(rows[-1]["evaluation"]):
        return (), math.nan, "not evaluated"
    view = ", seen as by keras-rl" * (config.keras_rl_views > 0.5)
    how = f"last evaluation in training: {config.evaluation_games} full games, sticky actions {config.sticky:g}{view}"
    return (), rows[-1]["evaluation"], how


def _labels(results: Sequence[Result]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """What the setting of each run is called, and the options that differ: their values in words, by setting."""
    options = [{name: _in_words(value) for name, value in result.setting.items()} for result in results]
    for name in ("precision", "evaluations"):
        if not _are_compared(name, results):
            for each in options:
                del each[name]
    if not _are_compared("steps", results):
        similar = _similar(result.config.steps for result in results)
        for result, each in zip(results, options, strict=True):
            each["steps"] = similar[result.config.steps]
    differing = [name for name in options[0] if len({each[name] for each in options}) > 1]
    settings = [tuple(each[name] for name in differing) for each in options]
    names = {}
    for number, setting in enumerate(dict.fromkeys(settings)):
        words = [f"{name.replace('_', '-')} {value}" for name, value in zip(differing, setting, strict=True)]
        names[setting] = ", ".join(words) if len(words) <= MOST_IN_A_LABEL else f"setting {_letters(number)}"
    table = {
        name.replace("_", "-"): {label: setting[column] for setting, label in names.items()}
        for column, name in enumerate(differing)
    }
    return [names[setting] for setting in settings], table


def _are_compared(name: str, results: Sequence[Result]) -> bool:
    """Whether a game and seed was trained with several values of an option that a machine may have decided."""
    values: dict[Config, set[Any]] = {}
    for result in results:
        rest = dataclasses.replace(result.config, precision="auto", evaluations=1, steps=1)
        values.setdefault(rest, set()).add(getattr(result.config, name))
    return any(len(each) > 1 for each in values.values())


def _similar(numbers: Iterable[int]) -> dict[int, str]:
    """In words, the range that each is in: of numbers as near each other as the steps of --minutes."""
    groups: list[list[int]] = []
    for number in sorted(set(numbers)):
        if groups and number <= groups[-1][0] * MOST_BY_CHANCE:
            groups[-1].append(number)
        else:
            groups.append([number])
    return {number: f"{group[0]:,}" + f" to {group[-1]:,}" * (len(group) > 1) for group in groups for number in group}


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _in_words(value: Any) -> str:
    return (
        ("on" if value else "off")
        if isinstance(value, bool)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _samples(groups: dict[tuple[str, str], list[Result]], setting: str) -> dict[str, np.ndarray]:
    """For each game the scores of the runs of a setting that were evaluated."""
    samples = {}
    for (label, game), group in groups.items():
        scores = np.array([result.score for result in group if not math.isnan(result.score)])
        if label == setting and len(scores):
            samples[game] = scores
    return samples


def _interquartile_mean(samples: dict[str, np.ndarray]) -> Estimate | None:
    normalised = [
        np.array([human_normalised(game, score) for score in scores])
        for game, scores in samples.items()
        if game in REFERENCES
    ]
    if not normalised:
        return None
    several = max(map(len, normalised)) > 1
    interval = stratified_interval(pooled_interquartile_mean, normalised) if several else None
    return Estimate(pooled_interquartile_mean(normalised), interval)


def _improvements(samples: dict[str, dict[str, np.ndarray]]) -> dict[tuple[str, str], Estimate]:
    """Of each setting over each that comes before it, in the games that both have."""
    found = {}
    for number, ours in enumerate(samples):
        for theirs in list(samples)[:number]:
            games = sorted(samples[ours].keys() & samples[theirs].keys())
            if games:
                pair = [samples[ours][game] for game in games], [samples[theirs][game] for game in games]
                several = max(len(scores) for sample in pair for scores in sample) > 1
                interval = stratified_interval(probability_of_improvement, *pair) if several else None
                found[ours, theirs] = Estimate(probability_of_improvement(*pair), interval)
    return found


def _game_row(game: str, setting: str, group: list[Result]) -> dict[str, str]:
    evaluated = [result for result in group if not math.isnan(result.score)]
    scores = np.array([result.score for result in evaluated])
    mean, of = Estimate(math.nan), ""
    if len(scores) > 1:
        mean = Estimate(float(scores.mean()), stratified_interval(lambda sample: float(sample[0].mean()), [scores]))
        of = "seeds"
    elif len(scores) == 1:
        games = evaluated[0].scores
        low, high = summary(list(games), game)["mean_interval_95"] if len(games) > 1 else (0.0, 0.0)
        mean, of = Estimate(float(scores[0]), (low, high) if len(games) > 1 else None), "games" * (len(games) > 1)
    references = REFERENCES.get(game)
    return {
        "game": game,
        **({"setting": setting} if setting else {}),
        "seeds": str(len(scores)),
        "mean score (95% interval)": mean.words(),
        "interval over": of or "-",
        "random": f"{references[0]:,}" if references else "-",
        "human": f"{references[1]:,}" if references else "-",
        "human-normalised": f"{100 * human_normalised(game, mean.value):.0f}%" if references and len(scores) else "-",
    }


def _run_row(result: Result, setting: str) -> dict[str, Any]:
    config, scores = result.config, list(result.scores)
    interval = summary(scores, config.game)["mean_interval_95"] if len(scores) > 1 else None
    has_score = not math.isnan(result.score)
    return {
        "run": result.folder.name,
        "game": config.game,
        "setting": setting,
        "seed": config.seed,
        "steps": result.steps,
        "of": result.steps_to_do,
        "score": _rounded(result.score) if has_score else "",
        "low": _rounded(interval[0]) if interval else "",
        "high": _rounded(interval[1]) if interval else "",
        "human-normalised": _rounded(human_normalised(config.game, result.score))
        if has_score and config.game in REFERENCES
        else "",
        "how": result.how,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _remarks(results: Sequence[Result]) -> list[str]:
    """What somebody should know who looks at the numbers."""
    remarks = []
    unfinished = [result.folder.name for result in results if result.steps < result.steps_to_do]
    if unfinished:
        remarks.append(f"Not done yet: {', '.join(unfinished)}.")
    unscored = [r.folder.name for r in results if math.isnan(r.score) and r.folder.name not in unfinished]
    if unscored:
        remarks.append(f"Not evaluated, so without a score: {', '.join(unscored)}.")
    ways = {result.how.replace(result.config.game, "the game") for result in results if not math.isnan(result.score)}
    if len(ways) > 1:
        remarks.append(f"The scores were made in different ways, so compare with care: {'; '.join(sorted(ways))}.")
    formats = collections.Counter(result.config.precision for result in results)
    if len(formats) > 1 and not _are_compared("precision", results):
        words = " and ".join(f"{count} in {each}" for each, count in sorted(formats.items()))
        remarks.append(f"Of the runs, {words}: no game and seed was trained in both, so that is not a setting here.")
    nameless = sorted({result.config.game for result in results} - REFERENCES.keys())
    if nameless:
        remarks.append(f"Without a human's score, and so not in the interquartile mean: {', '.join(nameless)}.")
    for result in results:
        if words := unlike_machines(result.folder):
            remarks.append(f"{result.folder.name} {words}. A run that never moved may end with other bits.")
    return remarks
