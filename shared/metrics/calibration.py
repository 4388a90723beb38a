"""Whether a probability can be believed: predicted against observed frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Columns: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True)
class CalibrationBin:
    """Patients of similar probability.

    Attributes
    ----------
    patients : how many, at least one.
    mean_probability : what was predicted of them.
    observed_fraction : how many of them are positive.
    """

    patients: int
    mean_probability: float
    observed_fraction: float


def calibration(
    probability: ArrayLike, truth: ArrayLike, bins: int = 5
) -> tuple[CalibrationBin, ...]:
    """Return predicted against observed frequencies in bins of about equally many patients.

    Bins are cut at quantiles of the probability, as scikit-learn's `calibration_curve` does, which
    does not tell how many patients a bin has. Equal probabilities share a bin; empty ones are left
    out.

    Raises
    ------
    ValueError
        If shapes differ, a probability is none, or there is no patient.
    """
    probabilities, truths = probability_columns(probability, truth)
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1))
    own = np.searchsorted(edges[1:-1], probabilities)
    members = [own == which for which in range(bins)]
    return tuple(
        CalibrationBin(
            int(np.count_nonzero(here)),
            float(probabilities[here].mean()),
            float(truths[here].mean()),
        )
        for here in members
        if here.any()
    )


def calibration_error(probability: ArrayLike, truth: ArrayLike, bins: int = 5) -> float:
    """Return the mean distance of predicted from observed frequency over patients; 0 is best.

    Known as the expected calibration error; bins and errors as in `calibration`.

    References
    ----------
    Naeini et al. 2015, Obtaining well calibrated probabilities using Bayesian binning, AAAI.
    """
    found = calibration(probability, truth, bins)
    distances = [abs(each.mean_probability - each.observed_fraction) for each in found]
    return float(np.average(distances, weights=[each.patients for each in found]))


def probability_columns(probability: ArrayLike, truth: ArrayLike) -> _Columns:
    """Return probabilities and truths as arrays of shape (n,).

    Raises
    ------
    ValueError
        If shapes differ, a probability is none, or there is no patient.
    """
    probabilities = np.asarray(probability, dtype=np.float64)
    truths = np.asarray(truth, dtype=bool)
    if probabilities.shape != truths.shape or truths.ndim != 1 or truths.size == 0:
        raise ValueError(
            "expected one probability and one truth for each patient, found shapes "
            f"{probabilities.shape} and {truths.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities from 0 to 1, found others")
    return probabilities, truths
