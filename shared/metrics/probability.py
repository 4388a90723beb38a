"""The scores of a probability: how well it separates the classes, and how far it is off."""

from __future__ import annotations

from numpy.typing import ArrayLike
from sklearn.metrics import brier_score_loss, roc_auc_score

from shared.metrics.calibration import probability_columns


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
    probabilities, truths = probability_columns(probability, truth)
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
    probabilities, truths = probability_columns(probability, truth)
    return float(brier_score_loss(truths, probabilities, pos_label=True))
