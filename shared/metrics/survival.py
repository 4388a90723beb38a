"""Scores of a risk of recurrence: the C-index by the organisers' rules, and AUC at a time."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Columns: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


def concordance_index(risk: ArrayLike, time_days: ArrayLike, event: ArrayLike) -> float:
    """Return how often, of two patients, the one with the earlier recurrence has the higher risk.

    A pair is comparable if the patient with the shorter time had the event, or if times are equal
    and exactly one had it (that one counts as earlier). Equal risks count one half, and so does a
    pair with a risk that is NaN, which is how a missing prediction is scored.

    Parameters
    ----------
    risk : shape (n,); higher = earlier recurrence.
    time_days : shape (n,), to recurrence or to the end of follow-up; finite.
    event : shape (n,), true where recurrence was observed, false where censored.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, a time is not finite, or no pair is comparable.

    References
    ----------
    Harrell et al. 1982, Evaluating the yield of medical tests, JAMA 247:2543-2546.
    HECKTOR 2022, https://github.com/voreille/hecktor, survival_metrics.py (ties and NaN).
    """
    risks, times, events = _columns(risk, time_days, event)
    earlier = times[:, None] < times
    earlier |= (times[:, None] == times) & ~events
    comparable = events[:, None] & earlier
    pairs = np.count_nonzero(comparable)
    if pairs == 0:
        raise ValueError("expected at least one pair of patients that can be compared, found none")
    right = np.count_nonzero(comparable & (risks[:, None] > risks))
    wrong = np.count_nonzero(comparable & (risks[:, None] < risks))
    return (right + (pairs - right - wrong) / 2) / pairs


def time_dependent_auc(
    risk: ArrayLike, time_days: ArrayLike, event: ArrayLike, horizon_days: float
) -> float:
    """Return how often a patient with recurrence by a time has a higher risk than one without.

    The cumulative/dynamic AUC. Who was censored before the time is in neither group; the patients
    with recurrence stand for them, each weighted by the inverse of the probability of not being
    censored by its own time (Kaplan-Meier). Equal risks, and pairs with a NaN, count one half.

    Parameters
    ----------
    risk, time_days, event : as for `concordance_index`.
    horizon_days : the time.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, a time is not finite, nobody had recurrence by the time, or nobody was
        followed beyond it.

    References
    ----------
    Uno et al. 2007, Evaluating prediction rules for t-year survivors with censored regression
    models, JASA 102:527-537. Hung and Chiang 2010, Estimation methods for time-dependent AUC
    models with survival data, Canadian Journal of Statistics 38:8-26.
    """
    risks, times, events = _columns(risk, time_days, event)
    recurred, free = events & (times <= horizon_days), times > horizon_days
    if not recurred.any() or not free.any():
        raise ValueError(
            f"expected patients with recurrence by {horizon_days:g} days and others followed beyond"
            f", found {np.count_nonzero(recurred)} and {np.count_nonzero(free)}"
        )
    weights = 1 / _uncensored_probability(times, events)[recurred]
    high, low = risks[recurred, None], risks[free]
    wins = ((high > low).astype(np.float64) + ~(high < low)) / 2
    return float(weights @ wins.mean(axis=1) / weights.sum())


def _uncensored_probability(
    times: NDArray[np.float64], events: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the Kaplan-Meier probability of not being censored by each patient's own time.

    At equal times recurrence comes before censoring. Lifelines has the estimator, but would bring
    pandas and Matplotlib into the evaluation's image for these lines.
    """
    unique, own = np.unique(times, return_inverse=True)
    at_risk = len(times) - np.concatenate([[0], np.cumsum(np.bincount(own))[:-1]])
    recurred, censored = (np.bincount(own[e], minlength=len(unique)) for e in (events, ~events))
    left = 1 - censored / np.maximum(at_risk - recurred, 1)
    return np.asarray(np.cumprod(left)[own], dtype=np.float64)


def _columns(risk: ArrayLike, time_days: ArrayLike, event: ArrayLike) -> _Columns:
    risks = np.asarray(risk, dtype=np.float64)
    times = np.asarray(time_days, dtype=np.float64)
    events = np.asarray(event, dtype=bool)
    if not risks.shape == times.shape == events.shape or risks.ndim != 1:
        raise ValueError(
            "expected one risk, time and event for each patient, found shapes "
            f"{risks.shape}, {times.shape} and {events.shape}"
        )
    if not np.isfinite(times).all():
        raise ValueError("expected finite times, found NaN or infinity")
    return risks, times, events
