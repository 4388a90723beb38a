"""The scores of a yes-or-no decision."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve


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
        If shapes differ, or if the truth holds one class only: one of the two recalls then has no
        patient to be measured on, and NaN would go unnoticed into means and reports.
    """
    return (sensitivity(decision, truth) + specificity(decision, truth)) / 2


def sensitivity(decision: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of the positive patients that are decided positive.

    Raises
    ------
    ValueError
        If shapes differ, or nobody is positive.
    """
    return _recall(decision, truth, True)


def specificity(decision: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of the negative patients that are decided negative.

    Raises
    ------
    ValueError
        If shapes differ, or nobody is negative.
    """
    return _recall(decision, truth, False)


def _recall(decision: ArrayLike, truth: ArrayLike, side: bool) -> float:
    decisions, truths = np.asarray(decision, dtype=bool), np.asarray(truth, dtype=bool)
    if decisions.shape != truths.shape or truths.ndim != 1:
        raise ValueError(
            "expected one decision and one truth for each patient, found shapes "
            f"{decisions.shape} and {truths.shape}"
        )
    members = truths == side
    if not members.any():
        positives = np.count_nonzero(truths)
        raise ValueError(
            f"expected patients of both classes, found {positives} positive and "
            f"{truths.size - positives} negative"
        )
    return np.count_nonzero(decisions[members] == side) / np.count_nonzero(members)


def best_threshold(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return the threshold of the best balanced accuracy, midway to the next lower probability.

    It does not depend on how many patients are positive. scikit-learn's
    TunedThresholdClassifierCV averages over folds, in which a rare class has a patient or two, and
    takes a hundred times as long.

    Parameters
    ----------
    probability : shape (patients,), of being positive.
    truth : shape (patients,), patients of both classes.

    Raises
    ------
    ValueError
        If there are patients of one class only.
    """
    truths = np.asarray(truth, dtype=bool)
    if len(set(truths.tolist())) != 2:
        raise ValueError("expected patients of both classes, found one class only")
    false_positive, true_positive, thresholds = roc_curve(
        truths, np.asarray(probability), drop_intermediate=False
    )
    # The first one is infinite: nobody would be positive.
    best = 1 + int(np.argmax((true_positive - false_positive)[1:]))
    return float(thresholds[best : best + 2].mean())
