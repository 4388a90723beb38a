"""Risk groups and their curves equal hand calculations and scikit-survival."""

from __future__ import annotations

import numpy as np
import pytest
from sksurv.compare import compare_survival
from sksurv.nonparametric import kaplan_meier_estimator

from evaluation.report.risk import DAYS_PER_YEAR, RiskGroups, risk_groups
from evaluation.tasks.survival import SurvivalCase


def patient(risk: float | None, years: float, event: bool) -> SurvivalCase:
    return SurvivalCase(
        case_id="x", pk="x", centre=None, field_of_view=None, failure=None,
        risk=risk, time_days=years * DAYS_PER_YEAR, event=event,
    )  # fmt: skip


def cohort(count: int) -> list[SurvivalCase]:
    rng = np.random.default_rng(3)
    risks = rng.normal(size=count)
    years = rng.exponential(3 * np.exp(-risks))
    return [
        patient(float(risk), float(time), bool(event))
        for risk, time, event in zip(risks, years, rng.random(count) < 0.7, strict=True)
    ]


def test_four_patients_equal_hand_calculation() -> None:
    groups = risk_groups(
        [patient(0.1, 4, False), patient(0.2, 3, True), patient(0.9, 1, True),
         patient(0.8, 2, False), patient(None, 1, True)]
    )  # fmt: skip
    low, high = groups.curves
    assert groups.without_risk == 1
    assert (low.name, low.patients, low.events) == ("low risk", 2, 1)
    assert (high.name, high.patients, high.events) == ("high risk", 2, 1)
    assert [low.at_risk(years) for years in (0, 3, 3.1, 5)] == [2, 2, 1, 0]
    assert low.survival_at(np.array([0, 2.9, 3, 4])).tolist() == [1, 1, 0.5, 0.5]
    assert high.survival_at(np.array([0.5, 1, 2])).tolist() == [1, 0.5, 0.5]
    assert low.censored_years.tolist() == [4]
    # In the high-risk group, one event is observed at year 1 and 1/2 is expected; at year 3, none
    # is observed and none expected. (O - E)^2 / V = 0.25 / 0.25 = 1 with one degree of freedom.
    assert groups.p_value == pytest.approx(0.3173105, abs=1e-6)


def test_curves_and_log_rank_test_equal_scikit_survival() -> None:
    results = cohort(60)
    groups = risk_groups(results)
    assert [curve.name for curve in groups.curves] == ["low risk", "middle risk", "high risk"]
    assert [curve.patients for curve in groups.curves] == [20, 20, 20]
    risks = np.array([result.risk for result in results], dtype=float)
    group_of = np.searchsorted(np.quantile(risks, [1 / 3, 2 / 3]), risks)
    events = np.array([result.event for result in results])
    years = np.array([result.time_days for result in results]) / DAYS_PER_YEAR
    for group, curve in enumerate(groups.curves):
        inside = group_of == group
        times, survival = kaplan_meier_estimator(events[inside], years[inside])
        assert curve.survival_at(times) == pytest.approx(survival, abs=1e-9)
        assert np.all(curve.low <= curve.survival + 1e-9)
        assert np.all(curve.high >= curve.survival - 1e-9)
    outcome = np.array(list(zip(events, years, strict=True)), dtype=[("e", bool), ("t", float)])
    _, p_value = compare_survival(outcome, group_of)
    assert groups.p_value == pytest.approx(p_value, abs=1e-6)


def test_few_patients_form_two_groups_and_equal_risks_one() -> None:
    assert len(risk_groups(cohort(29)).curves) == 2
    same = risk_groups([patient(1.0, years, True) for years in (1, 2, 3)])
    assert [curve.patients for curve in same.curves] == [3]
    assert same.p_value is None


def test_without_risks_or_recurrences_there_is_no_log_rank_test() -> None:
    assert risk_groups([patient(None, 1, True)]) == RiskGroups((), None, 1)
    assert risk_groups([patient(0.1, 1, False), patient(0.2, 2, False)]).p_value is None
