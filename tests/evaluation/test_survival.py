"""Scores of survival: concordance by hand, and invalid answers."""

from __future__ import annotations

import math

import pytest
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored

from evaluation.evaluate import evaluate
from evaluation.tasks.survival import SurvivalMetrics
from shared.editions import CURRENT
from tests.evaluation.submission import QUICK, Submission
from tests.shared.editions import with_risk_sign

TIMES = {"MDA-1": 100, "MDA-2": 200, "CHUP-3": 300, "CHUP-4": 1000}
EVENTS = {"MDA-1": 1, "MDA-2": 0, "CHUP-3": 1, "CHUP-4": 0}


@pytest.fixture
def survival(submission: Submission) -> Submission:
    for case_id, time_days in TIMES.items():
        submission.add_truth(case_id, Relapse=EVENTS[case_id], RFS=time_days)
    return submission


def test_scores_equal_hand_calculation(survival: Submission) -> None:
    # Comparable: (1,2), (1,3), (1,4), (3,4); discordant: (1,3).
    for case_id, risk in zip(TIMES, (3.0, 2.0, 4, 1.0), strict=True):
        survival.add_value(case_id, "survival", risk)
    metrics = survival.survival()
    assert metrics.ranked == ("c_index",)
    assert metrics.aggregates["c_index"].value == 3 / 4
    assert metrics.aggregates["c_index"].patients == 4
    # At 730 days, patients 1 and 3 are compared with patient 4.
    assert metrics.aggregates["auc_2_years"].value == 1
    assert metrics.aggregates["auc_5_years"].value is None
    first = metrics.results[0]
    assert (first.case_id, first.risk, first.time_days, first.event) == ("CHUP-3", 4, 300, True)
    assert {n: g.patients for n, g in metrics.groups["centre"].items()} == {"CHUP": 2, "MDA": 2}
    assert metrics.groups["centre"]["CHUP"].aggregates["c_index"].value == 1
    assert metrics.groups["field_of_view"] == {}


def test_c_index_equals_lifelines_and_scikit_survival(submission: Submission) -> None:
    risks = [(i * 37 % 11) / 3 for i in range(30)]
    times = [100 + i * 53 % 29 * 10 for i in range(30)]
    events = [i % 3 == 0 for i in range(30)]
    for i in range(30):
        submission.add_truth(f"MDA-{i:03}", Relapse=int(events[i]), RFS=times[i])
        submission.add_value(f"MDA-{i:03}", "survival", risks[i])
    c_index = submission.survival().aggregates["c_index"].value
    assert c_index == pytest.approx(concordance_index(times, [-r for r in risks], events), abs=1e-6)
    assert c_index == pytest.approx(concordance_index_censored(events, times, risks)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("NaN", "expected a finite number in rfs.json, found NaN"),
        ("Infinity", "found Infinity"),
        ("1" + "0" * 400, "expected a finite number"),
        ("1e999", "found 1e999"),
        ("null", "found null"),
        ("true", "found true"),
        ('"0.3"', 'found "0.3"'),
        ('{"rfs": 1}', 'found {"rfs": 1}'),
        ("", "rfs.json is not valid JSON"),
        ("[" * 60_000, "not valid JSON"),
    ],
)
def test_answer_that_is_not_a_number_counts_one_half(
    survival: Submission, value: str, words: str
) -> None:
    survival.add_value("MDA-1", "survival", value)
    for case_id in ("MDA-2", "CHUP-3", "CHUP-4"):
        survival.add_value(case_id, "survival", -TIMES[case_id])
    metrics = survival.survival()
    (failed,) = (result for result in metrics.results if result.failure)
    assert failed.case_id == "MDA-1"
    assert failed.risk is None
    assert words in (failed.failure or "")
    # The three pairs with MDA-1 count one half each; (3, 4) is concordant.
    assert metrics.aggregates["c_index"].value == (3 / 2 + 1) / 4
    assert metrics.alternatives["c_index"]["failed cases: left out"] == 1


def test_missing_file_and_missing_job_count_one_half(survival: Submission) -> None:
    survival.add_job("MDA-1", "survival")
    survival.add_value("MDA-2", "survival", 1)
    survival.add_value("CHUP-4", "survival", 1)
    metrics = survival.survival()
    assert metrics.aggregates["c_index"].value == 0.5
    assert {r.case_id: r.failure for r in metrics.results if r.failure} == {
        "MDA-1": "expected a file rfs.json with a JSON value, but it does not exist",
        "CHUP-3": "no job has this case",
    }


def test_risk_sign_follows_the_edition(survival: Submission) -> None:
    for case_id, time_days in TIMES.items():
        survival.add_value(case_id, "survival", time_days)
    assert survival.survival().aggregates["c_index"].value == 0
    metrics = evaluate(survival.input, survival.truth, with_risk_sign(CURRENT, -1), rules=QUICK)
    assert isinstance(metrics, SurvivalMetrics)
    assert metrics.aggregates["c_index"].value == 1
    assert [result.risk for result in metrics.results] == [-300, -1000, -100, -200]


def test_one_patient_has_no_score(submission: Submission) -> None:
    submission.add_truth("MDA-1", Relapse=1, RFS=100)
    submission.add_value("MDA-1", "survival", 1)
    estimate = submission.survival().aggregates["c_index"]
    assert (estimate.value, estimate.low, estimate.patients) == (None, None, 1)


def test_unknown_outcomes_are_not_scored_but_listed(survival: Submission) -> None:
    survival.add_truth("MDA-9", Relapse="", RFS=math.nan)
    for case_id in (*TIMES, "MDA-9"):
        survival.add_value(case_id, "survival", 1)
    metrics = survival.survival()
    assert (metrics.cases, metrics.unscored) == (4, ("MDA-9",))
