"""The uncertainty of a score or of the difference of two scores, by a bootstrap over patients.

A cohort is a sample of patients, so the bootstrap draws patients, never lesions or voxels. Each
resample has as many patients as the cohort, drawn with replacement. By default there are no strata,
because the mixture of outcomes and centres is also due to chance. A resample without a score (only
one class, no comparable pair) is omitted; if that happens to most resamples, there is no interval.

`grand-challenge-metrics` 0.6.0 has a bootstrap of the ROC curve only. It never draws the last
patient, because its `randint` excludes the upper limit.

References
----------
Efron and Tibshirani 1993, An introduction to the bootstrap, chapters 6 and 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLES: Final = 1000
CONFIDENCE: Final = 0.95
MIN_SCORE_FRACTION: Final = 0.5
"""Fraction of resamples that must have a score. With fewer, the interval would be biased, because
it is not random which resamples lack a score."""

Statistic: TypeAlias = Callable[[NDArray[np.intp]], float]
"""Returns the score of the patients with these indices; raises ValueError if there is no score."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with its uncertainty.

    Attributes
    ----------
    value : the score of the cohort.
    low, high : percentiles of the resampled scores; None if too few resamples have a score.
    standard_error : standard deviation of the resampled scores; None without an interval.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None

    def __format__(self, spec: str) -> str:
        """Format all numbers alike: `f"{interval:.3f}"` is "0.744 [0.702, 0.781]"."""
        value = format(self.value, spec)
        if self.low is None or self.high is None:
            return value
        return f"{value} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap(
    statistic: Statistic,
    patients: int,
    *,
    strata: ArrayLike | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return a score with its percentile interval.

    Parameters
    ----------
    statistic : returns the score of the patients with the given indices.
    patients : number of patients, at least one.
    strata : shape (patients,). If given, each resample has the same number of patients of each
        stratum as the cohort, which makes the intervals of rare classes too narrow.
    samples : number of resamples.
    confidence : nominal coverage of the interval.
    seed : seed of the draws. The same seed gives every statistic the same draws, so two scores of
        one cohort can be compared resample by resample.

    Raises
    ------
    ValueError
        If the cohort is empty or has no score, or if `strata` has another length.
    """
    if patients < 1:
        raise ValueError("expected at least one patient, found none")
    value = statistic(np.arange(patients))
    rng = np.random.default_rng(seed)
    groups = _members(strata, patients)
    scores: list[float] = []
    for _ in range(samples):
        resample = np.concatenate(
            [group[rng.integers(len(group), size=len(group))] for group in groups]
        )
        try:
            scores.append(statistic(resample))
        except ValueError:
            continue
    if len(scores) < max(2, MIN_SCORE_FRACTION * samples):
        return Interval(value=value, low=None, high=None, standard_error=None)
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(
        value=value,
        low=float(low),
        high=float(high),
        standard_error=float(np.std(scores, ddof=1)),
    )


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: int,
    *,
    strata: ArrayLike | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the score of the first method minus that of the second, with its interval.

    Both statistics get the same indices, and must index the same patients. The other parameters and
    the errors are those of `bootstrap`. The methods differ if the interval excludes 0.
    """

    def difference(indices: NDArray[np.intp]) -> float:
        return first(indices) - second(indices)

    return bootstrap(
        difference, patients, strata=strata, samples=samples, confidence=confidence, seed=seed
    )


def mean_over_groups(
    metric: Callable[..., float], columns: Sequence[ArrayLike], groups: ArrayLike
) -> Statistic:
    """Return a statistic that is the mean of a metric over groups of patients.

    The networks of different folds may predict on different scales. A C-index within each fold
    compares only predictions of the same network.

    Parameters
    ----------
    metric : computes the score of one group from its columns; raises ValueError if the group has no
        score.
    columns : arrays of shape (patients,), in the order of the metric's arguments.
    groups : shape (patients,), for example the fold in which each patient is held out.

    Returns
    -------
    The statistic. It weights each group by its number of patients and omits groups without a score;
    it raises ValueError if no group has a score.
    """
    arrays, group_of_patient = [np.asarray(column) for column in columns], np.asarray(groups)

    def statistic(indices: NDArray[np.intp]) -> float:
        scores, sizes = [], []
        for group in np.unique(group_of_patient[indices]):
            members = indices[group_of_patient[indices] == group]
            try:
                scores.append(metric(*(array[members] for array in arrays)))
            except ValueError:
                continue
            sizes.append(len(members))
        if not scores:
            raise ValueError("expected a group of patients with a score, found none")
        return float(np.average(scores, weights=sizes))

    return statistic


def _members(strata: ArrayLike | None, patients: int) -> list[NDArray[np.intp]]:
    if strata is None:
        return [np.arange(patients)]
    values = np.asarray(strata)
    if values.shape != (patients,):
        raise ValueError(f"expected strata of shape ({patients},), found {values.shape}")
    return [np.flatnonzero(values == value) for value in np.unique(values)]
