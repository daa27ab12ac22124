"""What raw scores say."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evaluation.reference_scores import REFERENCES, human_normalised


def summary(scores: list[float], game: str, lengths: Sequence[int] = ()) -> dict[str, Any]:
    """Statistics of games of a policy, with a bootstrap of the mean (Efron & Tibshirani 1993; 10,000 resamples).

    Args:
        scores: Raw, one a game.
        game: ROM id.
        lengths: Agent steps of each game, if they are known. With them the games are counted that differ in score or
            length: without random actions a policy plays the same few again and again (Machado et al. 2018).
    """
    draws = np.random.default_rng(0).choice(scores, (10_000, len(scores))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    result: dict[str, Any] = {
        "mean": statistics.fmean(scores),
        "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else 0.0,
        "median": statistics.median(scores),
        "minimum": min(scores),
        "maximum": max(scores),
        "mean_interval_95": [float(low), float(high)],
    }
    if lengths:
        result["different_games"] = len(set(zip(scores, lengths, strict=True)))
    if game in REFERENCES:
        result["human_normalised"] = human_normalised(game, result["mean"])
    return result


def interquartile_mean(scores: Any) -> float:
    """The mean of the middle half of some scores: a quarter of them is left out at either end, as scipy's `trim_mean`.

    Args:
        scores: Numbers in an array of any shape, at least one.
    """
    ordered = np.sort(np.asarray(scores, float), axis=None)
    left_out = len(ordered) // 4
    return float(ordered[left_out : len(ordered) - left_out].mean())


def probability_of_improvement(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """How likely a run of ours beats one of theirs, on average over games; a draw counts half (Mann & Whitney 1947).

    Args:
        ours, theirs: For each game the scores of some runs; the games are the same, the numbers of runs need not be.
    """
    each = [
        np.mean(x[:, None] > y[None, :]) + np.mean(x[:, None] == y[None, :]) / 2
        for x, y in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(each))


def stratified_interval(
    statistic: Callable[..., float], *samples: Sequence[np.ndarray], resamples: int = 2_000
) -> tuple[float, float]:
    """A 95% interval by bootstrap: runs are drawn again with replacement, in each game for itself.

    From Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".

    Args:
        statistic: Of one or more samples, as they are given here.
        samples: For each game the scores of some runs.
        resamples: How often they are drawn. The same scores give the same interval.
    """
    random = np.random.default_rng(0)
    draws = [
        statistic(*([random.choice(scores, len(scores)) for scores in sample] for sample in samples))
        for _ in range(resamples)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def pooled_interquartile_mean(sample: Sequence[np.ndarray]) -> float:
    """`interquartile_mean` of the runs of all games together."""
    return interquartile_mean(np.concatenate(sample))
