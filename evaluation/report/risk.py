"""Groups of patients by predicted risk, their recurrence-free survival, and whether it differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from numpy.typing import NDArray

from evaluation.schema import SurvivalCase

DAYS_PER_YEAR: Final = 365.25
LEAST_FOR_THREE: Final = 30
"""Patients from which there are three groups; below, ten a group would not be reached."""
NAMES: Final = {2: ("low risk", "high risk"), 3: ("low risk", "middle risk", "high risk")}


@dataclass(frozen=True)
class Curve:
    """Kaplan-Meier estimate of a group.

    Attributes
    ----------
    name : of the group.
    years, survival, low, high : shape (n,); the estimate from each time on, with its 95 % interval
        (exponential Greenwood).
    censored_years : when follow-up of patients without recurrence ended.
    times_years : shape (patients,), time of each patient.
    events : how many recurrences.
    """

    name: str
    years: NDArray[np.float64]
    survival: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    censored_years: NDArray[np.float64]
    times_years: NDArray[np.float64]
    events: int

    @property
    def patients(self) -> int:
        """How many patients."""
        return len(self.times_years)

    def at_risk(self, years: float) -> int:
        """Return how many are under observation and without recurrence just before a time."""
        return int(np.count_nonzero(self.times_years >= years))

    def survival_at(self, years: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the estimate at times."""
        last = np.searchsorted(self.years, years, side="right") - 1
        found: NDArray[np.float64] = self.survival[np.maximum(last, 0)]
        return found


@dataclass(frozen=True)
class RiskGroups:
    """Curves of the groups, from low to high risk.

    Attributes
    ----------
    curves : of the groups that have patients.
    p_value : of the log-rank test that they are alike; None with fewer than two groups or without
        any recurrence.
    left_out : patients without a risk.
    """

    curves: tuple[Curve, ...]
    p_value: float | None
    left_out: int


def risk_groups(results: Sequence[SurvivalCase]) -> RiskGroups:
    """Divide patients into equal groups by predicted risk, three of them or two if they are few.

    Equal risks share a group. The cuts are the cohort's own quantiles, so the curves tell how risks
    separate these patients, not how a threshold set beforehand would.
    """
    known = [result for result in results if result.risk is not None]
    if not known:
        return RiskGroups((), None, len(results))
    risks = np.array([result.risk for result in known], dtype=np.float64)
    years = np.array([result.time_days for result in known]) / DAYS_PER_YEAR
    events = np.array([result.event for result in known])
    count = 3 if len(known) >= LEAST_FOR_THREE else 2
    cuts = np.quantile(risks, np.arange(1, count) / count)
    own = np.searchsorted(cuts, risks)
    curves = tuple(
        _curve(name, years[own == group], events[own == group])
        for group, name in enumerate(NAMES[count])
        if np.any(own == group)
    )
    p_value = None
    if len(curves) > 1 and events.any():
        p_value = float(multivariate_logrank_test(years, own, events).p_value)
    return RiskGroups(curves, p_value, len(results) - len(known))


def _curve(name: str, years: NDArray[np.float64], events: NDArray[np.bool_]) -> Curve:
    fitted = KaplanMeierFitter().fit(years, events)
    interval = fitted.confidence_interval_survival_function_.to_numpy()
    return Curve(
        name,
        fitted.survival_function_.index.to_numpy(dtype=np.float64),
        fitted.survival_function_.to_numpy()[:, 0],
        interval[:, 0],
        interval[:, 1],
        np.sort(years[~events]),
        years,
        int(np.count_nonzero(events)),
    )
