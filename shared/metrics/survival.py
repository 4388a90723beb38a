"""Scores of a risk of recurrence: C-index by the organisers' rules, and time-dependent AUC."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Columns: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]


def concordance_index(risk: ArrayLike, time_days: ArrayLike, event: ArrayLike) -> float:
    """Return the fraction of comparable pairs in which the earlier recurrence has the higher risk.

    A pair is comparable if the patient with the shorter time had a recurrence. A pair with equal
    times is comparable if exactly one patient had a recurrence; that patient counts as earlier.
    A pair with equal risks counts one half, as does a pair with NaN (a missing prediction).

    Parameters
    ----------
    risk : shape (n,); higher = earlier recurrence.
    time_days : shape (n,), time to recurrence or to the end of follow-up; finite.
    event : shape (n,), true if recurrence was observed, false if the patient was censored.

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
    is_earlier = times[:, None] < times
    is_earlier |= (times[:, None] == times) & ~events
    comparable = events[:, None] & is_earlier
    pairs = np.count_nonzero(comparable)
    if pairs == 0:
        raise ValueError("expected at least one comparable pair of patients, found none")
    concordant = np.count_nonzero(comparable & (risks[:, None] > risks))
    discordant = np.count_nonzero(comparable & (risks[:, None] < risks))
    return (concordant + (pairs - concordant - discordant) / 2) / pairs


def time_dependent_auc(
    risk: ArrayLike, time_days: ArrayLike, event: ArrayLike, *, horizon_days: float
) -> float:
    """Return the AUC for recurrence by a horizon.

    It is the probability that a patient with recurrence by the horizon has a higher risk than a
    patient without (the cumulative/dynamic AUC). Patients who are censored before the horizon are
    in neither group. To compensate for them, each patient with recurrence is weighted by the
    inverse of the Kaplan-Meier probability of remaining uncensored up to that patient's time. A
    pair with equal risks or with NaN counts one half.

    Parameters
    ----------
    risk, time_days, event : see `concordance_index`.
    horizon_days : the time that separates the groups.

    Returns
    -------
    Between 0 and 1; 0.5 is chance.

    Raises
    ------
    ValueError
        If shapes differ, a time is not finite, no patient had a recurrence by the horizon, or no
        patient was followed beyond the horizon.

    References
    ----------
    Uno et al. 2007, Evaluating prediction rules for t-year survivors with censored regression
    models, JASA 102:527-537. Hung and Chiang 2010, Estimation methods for time-dependent AUC
    models with survival data, Canadian Journal of Statistics 38:8-26.
    """
    risks, times, events = _columns(risk, time_days, event)
    has_recurrence, is_free = events & (times <= horizon_days), times > horizon_days
    if not has_recurrence.any() or not is_free.any():
        raise ValueError(
            f"expected patients with recurrence by {horizon_days:g} days and patients followed "
            f"longer, found {np.count_nonzero(has_recurrence)} and {np.count_nonzero(is_free)}"
        )
    weights = 1 / _uncensored_probability(times, events)[has_recurrence]
    with_recurrence, without = risks[has_recurrence, None], risks[is_free]
    is_higher, is_lower = with_recurrence > without, with_recurrence < without
    wins = (is_higher.astype(np.float64) + ~is_lower) / 2
    return float(weights @ wins.mean(axis=1) / weights.sum())


def _uncensored_probability(
    times: NDArray[np.float64], events: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the Kaplan-Meier probability of remaining uncensored up to each patient's own time.

    At equal times, recurrence comes before censoring. lifelines has this estimator too, but would
    bring pandas and Matplotlib into the evaluation's image.
    """
    steps, step_of_patient = np.unique(times, return_inverse=True)
    at_risk = len(times) - np.concatenate([[0], np.cumsum(np.bincount(step_of_patient))[:-1]])
    recurrences, censorings = (
        np.bincount(step_of_patient[mask], minlength=len(steps)) for mask in (events, ~events)
    )
    factors = 1 - censorings / np.maximum(at_risk - recurrences, 1)
    return np.asarray(np.cumprod(factors)[step_of_patient], dtype=np.float64)


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
