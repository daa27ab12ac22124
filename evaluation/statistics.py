"""What raw scores say."""

import statistics
from typing import Any

import numpy as np

from evaluation.reference_scores import REFERENCES, human_normalised


def summary(scores: list[float], game: str) -> dict[str, Any]:
    """Statistics of raw scores; the interval is a bootstrap of the mean (Efron & Tibshirani 1993), 10,000 resamples."""
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
    if game in REFERENCES:
        result["human_normalised"] = human_normalised(game, result["mean"])
    return result
