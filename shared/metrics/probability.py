"""The scores of a probability: how well it separates, and whether it can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score

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


def roc_auc(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return how often a positive patient has the higher probability than a negative one.

    Parameters
    ----------
    probability : shape (n,), between 0 and 1; equal ones count one half.
    truth : shape (n,), true for positive.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, a probability is none, or the truth holds one class only.
    """
    probabilities, truths = _columns(probability, truth)
    if truths.all() or not truths.any():
        raise ValueError("expected patients of both classes, found one class only")
    return float(roc_auc_score(truths, probabilities))


def brier_score(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean squared distance of the probability from what happened, 0 to 1; 0 is best.

    Raises
    ------
    ValueError
        If shapes differ, a probability is none, or there is no patient.
    """
    probabilities, truths = _columns(probability, truth)
    return float(brier_score_loss(truths, probabilities, pos_label=True))


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
    probabilities, truths = _columns(probability, truth)
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


def _columns(probability: ArrayLike, truth: ArrayLike) -> _Columns:
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
