"""Calibration of probabilities: predicted against observed frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Columns: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True)
class CalibrationBin:
    """Patients with similar probabilities.

    Attributes
    ----------
    patients : number of patients, at least one.
    mean_probability : mean probability of these patients.
    observed_fraction : fraction of these patients who are positive.
    """

    patients: int
    mean_probability: float
    observed_fraction: float


def calibration(
    probability: ArrayLike, truth: ArrayLike, bins: int = 5
) -> tuple[CalibrationBin, ...]:
    """Return predicted and observed frequencies in bins with about equal numbers of patients.

    The edges of the bins are quantiles of the probability, as in scikit-learn's
    `calibration_curve`, which does not return the number of patients in a bin. Equal probabilities
    are in the same bin; empty bins are omitted.

    Parameters
    ----------
    probability : shape (n,), between 0 and 1.
    truth : shape (n,), true for positive.
    bins : number of bins.

    Raises
    ------
    ValueError
        If shapes differ, a probability is not between 0 and 1, or the arrays are empty.
    """
    probabilities, truths = probability_columns(probability, truth)
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1))
    bin_of_patient = np.searchsorted(edges[1:-1], probabilities)
    masks = [bin_of_patient == number for number in range(bins)]
    return tuple(
        CalibrationBin(
            patients=int(np.count_nonzero(mask)),
            mean_probability=float(probabilities[mask].mean()),
            observed_fraction=float(truths[mask].mean()),
        )
        for mask in masks
        if mask.any()
    )


def calibration_error(probability: ArrayLike, truth: ArrayLike, bins: int = 5) -> float:
    """Return the expected calibration error, between 0 and 1; 0 is best.

    It is the mean difference between predicted and observed frequency, weighted by the number of
    patients. Parameters and errors are those of `calibration`.

    References
    ----------
    Naeini et al. 2015, Obtaining well calibrated probabilities using Bayesian binning, AAAI.
    """
    curve = calibration(probability, truth, bins)
    differences = [abs(point.mean_probability - point.observed_fraction) for point in curve]
    return float(np.average(differences, weights=[point.patients for point in curve]))


def probability_columns(probability: ArrayLike, truth: ArrayLike) -> _Columns:
    """Return probabilities and truths as arrays of shape (n,).

    Raises
    ------
    ValueError
        If shapes differ, a probability is not between 0 and 1, or the arrays are empty.
    """
    probabilities = np.asarray(probability, dtype=np.float64)
    truths = np.asarray(truth, dtype=bool)
    if probabilities.shape != truths.shape or truths.ndim != 1 or truths.size == 0:
        raise ValueError(
            "expected one probability and one truth for each patient, found shapes "
            f"{probabilities.shape} and {truths.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities from 0 to 1, found other values")
    return probabilities, truths
