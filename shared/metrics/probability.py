"""The scores of a probability: how well it separates the classes, and how far it is off."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

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
    probabilities, truths = _columns_of_both_classes(probability, truth)
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
        If shapes differ, a probability is none, or the truth holds one class only.
    """
    probabilities, truths = _columns_of_both_classes(probability, truth)
    false_positive, true_positive, thresholds = roc_curve(
        truths, probabilities, drop_intermediate=False
    )
    # The first one is infinite: nobody would be positive.
    best = 1 + int(np.argmax((true_positive - false_positive)[1:]))
    return float(thresholds[best : best + 2].mean())


def _columns_of_both_classes(
    probability: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probabilities, truths = probability_columns(probability, truth)
    if truths.all() or not truths.any():
        raise ValueError("expected patients of both classes, found one class only")
    return probabilities, truths
