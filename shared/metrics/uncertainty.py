"""How sure a score is: a bootstrap over patients, and the difference of two methods on the same.

Patients are what a cohort is a sample of, so patients are drawn, never lesions or voxels. Each
resample has as many patients as the cohort, drawn with replacement; without strata by default, for
the mixture of outcomes and centres is part of the chance that the interval is about. A resample
that has no score (one class only, no comparable pair) is left out, as long as most have one.

`grand-challenge-metrics` 0.6.0 has a bootstrap too, of the ROC curve alone; it never draws the last
patient (its `randint` excludes the bound).

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
LEAST_SCORED: Final = 0.5
"""Fraction of resamples that must have a score for an interval; the others are no random choice."""

Statistic: TypeAlias = Callable[[NDArray[np.intp]], float]
"""A score of the patients at these indices; ValueError where they have none."""


@dataclass(frozen=True)
class Interval:
    """A score with its uncertainty.

    Attributes
    ----------
    value : of all patients as they are.
    low, high : percentiles of the resampled scores; None where too few resamples have a score.
    standard_error : standard deviation of the resampled scores; None likewise.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None

    def __format__(self, spec: str) -> str:
        """Return "0.744 [0.702, 0.781]", each number by a format of floats, as in `f"{x:.3f}"`."""
        value = format(self.value, spec)
        if self.low is None or self.high is None:
            return value
        return f"{value} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap(
    statistic: Statistic,
    patients: int,
    strata: ArrayLike | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return a score with its percentile interval.

    Parameters
    ----------
    statistic : the score of chosen patients.
    patients : how many there are, at least one.
    strata : shape (patients,); where given, each resample keeps the number of patients of each
        stratum. It makes intervals of rare classes narrower than chance would.
    samples : how many resamples.
    confidence : probability that the interval is meant to have.
    seed : of the draws; the same seed gives the same draws for every statistic, so two scores of
        one cohort can be compared resample by resample.

    Raises
    ------
    ValueError
        If there is no patient, or all of them together have no score.
    """
    if patients < 1:
        raise ValueError("expected at least one patient, found none")
    value = statistic(np.arange(patients))
    rng = np.random.default_rng(seed)
    groups = _members(strata, patients)
    scores: list[float] = []
    for _ in range(samples):
        drawn = np.concatenate(
            [group[rng.integers(len(group), size=len(group))] for group in groups]
        )
        try:
            scores.append(statistic(drawn))
        except ValueError:
            continue
    if len(scores) < max(2, LEAST_SCORED * samples):
        return Interval(value, None, None, None)
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(value, float(low), float(high), float(np.std(scores, ddof=1)))


def paired_difference(
    first: Statistic,
    second: Statistic,
    patients: int,
    strata: ArrayLike | None = None,
    samples: int = SAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Return the first method's score less the second's, both resampled on the same patients.

    Parameters and errors as in `bootstrap`; both statistics index the same patients. An interval
    without 0 says that the methods differ.
    """
    return bootstrap(
        lambda chosen: first(chosen) - second(chosen), patients, strata, samples, confidence, seed
    )


def mean_over_groups(
    metric: Callable[..., float], columns: Sequence[ArrayLike], groups: ArrayLike
) -> Statistic:
    """Return the mean of a metric over groups of patients as a statistic of chosen patients.

    Predictions of networks that were trained apart, one for each fold, need not share a scale: a
    C-index within each fold compares only what does.

    Parameters
    ----------
    metric : of the columns of the patients of one group; ValueError where they have none.
    columns : arrays of shape (patients,), in the order that the metric takes them.
    groups : shape (patients,), such as the fold that held each patient out.

    Returns
    -------
    The mean weighted by patients. Groups without a score are left out; ValueError where all are.
    """
    arrays, own = [np.asarray(column) for column in columns], np.asarray(groups)

    def statistic(chosen: NDArray[np.intp]) -> float:
        scores, sizes = [], []
        for group in np.unique(own[chosen]):
            members = chosen[own[chosen] == group]
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
