"""Scores of a binary decision.

The confusion matrix comes from `grand-challenge-metrics`, which has no balanced accuracy. The
balanced accuracy of scikit-learn ignores a class without patients and only warns; these functions
raise an error.
"""

from __future__ import annotations

import numpy as np
from grand_challenge_metrics.stats import calculate_confusion_matrix
from numpy.typing import ArrayLike


def balanced_accuracy(decision: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean of sensitivity and specificity.

    Parameters
    ----------
    decision, truth : shape (n,), true for positive.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, or if all patients are of one class. Sensitivity or specificity is then
        undefined, and NaN would enter means and reports unnoticed.
    """
    return (sensitivity(decision, truth) + specificity(decision, truth)) / 2


def sensitivity(decision: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of the positive patients with a positive decision.

    Raises
    ------
    ValueError
        If shapes differ or no patient is positive.
    """
    return _recall(decision, truth, True)


def specificity(decision: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of the negative patients with a negative decision.

    Raises
    ------
    ValueError
        If shapes differ or no patient is negative.
    """
    return _recall(decision, truth, False)


def _recall(decision: ArrayLike, truth: ArrayLike, positive: bool) -> float:
    decisions, truths = np.asarray(decision, dtype=bool), np.asarray(truth, dtype=bool)
    if decisions.shape != truths.shape or truths.ndim != 1:
        raise ValueError(
            "expected one decision and one truth for each patient, found shapes "
            f"{decisions.shape} and {truths.shape}"
        )
    row = calculate_confusion_matrix(truths, decisions, [False, True])[int(positive)]
    if row.sum() == 0:
        positives = np.count_nonzero(truths)
        raise ValueError(
            f"expected patients of both classes, found {positives} positive and "
            f"{truths.size - positives} negative"
        )
    return float(row[int(positive)] / row.sum())
