"""Scores of a probability: how well it separates the classes, and how large its errors are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from shared.metrics.calibration import probability_columns


def roc_auc(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return the fraction of pairs in which the positive patient has the higher probability.

    A pair consists of a positive and a negative patient. Equal probabilities count one half.

    Parameters
    ----------
    probability : shape (n,), between 0 and 1.
    truth : shape (n,), true for positive.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, a probability is not between 0 and 1, or all patients are of one class.
    """
    probabilities, truths = _columns_of_both_classes(probability, truth)
    return float(roc_auc_score(truths, probabilities))


def brier_score(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return the mean squared difference of probability and truth, between 0 and 1; 0 is best.

    Raises
    ------
    ValueError
        If shapes differ, a probability is not between 0 and 1, or the arrays are empty.
    """
    probabilities, truths = probability_columns(probability, truth)
    return float(brier_score_loss(truths, probabilities, pos_label=True))


def best_threshold(probability: ArrayLike, truth: ArrayLike) -> float:
    """Return the threshold with the best balanced accuracy.

    The threshold is midway between the lowest probability that counts as positive and the next
    lower probability. It does not depend on the fraction of positive patients. scikit-learn's
    TunedThresholdClassifierCV is not used: it averages over folds, in which a rare class has one or
    two patients, and takes a hundred times as long.

    Parameters
    ----------
    probability : shape (n,), between 0 and 1.
    truth : shape (n,), true for positive.

    Raises
    ------
    ValueError
        If shapes differ, a probability is not between 0 and 1, or all patients are of one class.
    """
    probabilities, truths = _columns_of_both_classes(probability, truth)
    false_positive, true_positive, thresholds = roc_curve(
        truths, probabilities, drop_intermediate=False
    )
    # The first threshold is skipped. It is infinite, so no patient would be positive.
    best = 1 + int(np.argmax((true_positive - false_positive)[1:]))
    return float(thresholds[best : best + 2].mean())


def _columns_of_both_classes(
    probability: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probabilities, truths = probability_columns(probability, truth)
    if truths.all() or not truths.any():
        raise ValueError("expected patients of both classes, found only one class")
    return probabilities, truths
