"""Statistics over seeds: one run proves nothing.

Source: R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
NeurIPS (2021): interquartile mean, and stratified bootstrap over runs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def interquartile_mean(scores: Scores, axis: int = 0) -> Scores:
    """Mean of the middle half: a quarter is cut off on each side."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(scores, 0.25, axis=axis))


def interval(
    strata: Sequence[Scores],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> tuple[Scores, Scores]:
    """Stratified-bootstrap interval of the interquartile mean of all runs together.

    Each stratum, one for each task, is [seed, point] and is resampled along its seeds, apart from
    the others. Returns lower and upper limits [point]; with a single seed in all, these are its
    scores.
    """
    from scipy.stats import bootstrap

    if sum(len(stratum) for stratum in strata) == 1:
        return strata[0][0], strata[0][0]

    def statistic(*samples: Scores, axis: int) -> Scores:
        return interquartile_mean(np.concatenate(samples, axis=axis), axis=axis)

    limits = bootstrap(
        strata,
        statistic,
        axis=0,
        confidence_level=confidence,
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        batch=100,  # resamples in memory at a time
        rng=rng,
    ).confidence_interval
    return limits.low, limits.high


def moving_average(values: Scores, window: int) -> Scores:
    """Mean of each value and of those before it, at most `window` in all; as long as `values`."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - window)
    return (sums[end] - sums[begin]) / (end - begin)
