"""The C-index of recurrence-free survival, by the organisers' rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


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
    earlier = times[:, None] < times
    earlier |= (times[:, None] == times) & ~events
    comparable = events[:, None] & earlier
    pairs = np.count_nonzero(comparable)
    if pairs == 0:
        raise ValueError("expected at least one pair of patients that can be compared, found none")
    right = np.count_nonzero(comparable & (risks[:, None] > risks))
    wrong = np.count_nonzero(comparable & (risks[:, None] < risks))
    return (right + (pairs - right - wrong) / 2) / pairs
