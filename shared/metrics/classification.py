"""The score of a yes-or-no decision."""

from __future__ import annotations

import numpy as np
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
        If shapes differ, or if the truth holds one class only: one of the two recalls then has no
        patient to be measured on, and NaN would go unnoticed into means and reports.
    """
    decisions, truths = np.asarray(decision, dtype=bool), np.asarray(truth, dtype=bool)
    if decisions.shape != truths.shape or truths.ndim != 1:
        raise ValueError(
            "expected one decision and one truth for each patient, found shapes "
            f"{decisions.shape} and {truths.shape}"
        )
    positives, negatives = np.count_nonzero(truths), np.count_nonzero(~truths)
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"expected patients of both classes, found {positives} positive and {negatives} "
            "negative"
        )
    sensitivity = np.count_nonzero(decisions & truths) / positives
    specificity = np.count_nonzero(~decisions & ~truths) / negatives
    return (sensitivity + specificity) / 2
