"""Forms groups of patients by predicted risk and compares their recurrence-free survival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from numpy.typing import NDArray

from evaluation.tasks.survival import SurvivalCase

DAYS_PER_YEAR: Final = 365.25
LEAST_FOR_THREE: Final = 30
"""With fewer patients, there are two groups, because three would have fewer than ten patients
each."""
NAMES: Final = {2: ("low risk", "high risk"), 3: ("low risk", "middle risk", "high risk")}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The Kaplan-Meier estimate of a group.

    Attributes
    ----------
    name : name of the group.
    years, survival, low, high : times, estimates, and ends of the 95 % interval (exponential
        Greenwood), each of shape (n,). An estimate holds from its time on.
    censored_years : end of follow-up of patients without recurrence.
    times_years : shape (patients,), time to recurrence or to the end of follow-up.
    events : number of recurrences.
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
        """Number of patients."""
        return len(self.times_years)

    def at_risk(self, years: float) -> int:
        """Return the number of patients under observation without recurrence just before a time."""
        return int(np.count_nonzero(self.times_years >= years))

    def survival_at(self, years: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the estimate at some times."""
        last = np.searchsorted(self.years, years, side="right") - 1
        estimates: NDArray[np.float64] = self.survival[np.maximum(last, 0)]
        return estimates


@dataclass(frozen=True)
class RiskGroups:
    """The curves of the groups, from low to high risk.

    Attributes
    ----------
    curves : one curve for each group that has patients.
    p_value : p-value of the log-rank test that all groups are equal; None with fewer than two
        groups or without any recurrence.
    without_risk : number of patients without a predicted risk.
    """

    curves: tuple[Curve, ...]
    p_value: float | None
    without_risk: int


def risk_groups(results: Sequence[SurvivalCase]) -> RiskGroups:
    """Divide patients by predicted risk into three groups of equal size, or two if they are few.

    Patients with equal risks are in the same group. The limits are quantiles of this cohort, so the
    curves show how well the risk separates these patients, not how well a threshold that was set
    beforehand would.
    """
    with_risk = [result for result in results if result.risk is not None]
    if not with_risk:
        return RiskGroups((), None, len(results))
    risks = np.array([result.risk for result in with_risk], dtype=np.float64)
    years = np.array([result.time_days for result in with_risk]) / DAYS_PER_YEAR
    events = np.array([result.event for result in with_risk])
    count = 3 if len(with_risk) >= LEAST_FOR_THREE else 2
    limits = np.quantile(risks, np.arange(1, count) / count)
    groups = np.searchsorted(limits, risks)
    curves = tuple(
        _curve(name, years[groups == group], events[groups == group])
        for group, name in enumerate(NAMES[count])
        if np.any(groups == group)
    )
    p_value = None
    if len(curves) > 1 and events.any():
        p_value = float(multivariate_logrank_test(years, groups, events).p_value)
    return RiskGroups(curves, p_value, len(results) - len(with_risk))


def _curve(name: str, years: NDArray[np.float64], events: NDArray[np.bool_]) -> Curve:
    fitter = KaplanMeierFitter().fit(years, events)
    interval = fitter.confidence_interval_survival_function_.to_numpy()
    return Curve(
        name=name,
        years=fitter.survival_function_.index.to_numpy(dtype=np.float64),
        survival=fitter.survival_function_.to_numpy()[:, 0],
        low=interval[:, 0],
        high=interval[:, 1],
        censored_years=np.sort(years[~events]),
        times_years=years,
        events=int(np.count_nonzero(events)),
    )
