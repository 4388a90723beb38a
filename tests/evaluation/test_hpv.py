"""Scores of HPV status: by hand, invalid answers, and optional probabilities."""

from __future__ import annotations

import json

import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from evaluation.outputs import HPV_PROBABILITY
from tests.evaluation.submission import Submission

TRUTH = {"MDA-1": 1, "MDA-2": 1, "MDA-3": 0, "MDA-4": 0, "MDA-5": 0}


@pytest.fixture
def hpv(submission: Submission) -> Submission:
    for case_id, status in TRUTH.items():
        submission.add_truth(case_id, HPV_Status=status)
    return submission


def test_scores_equal_hand_calculation(hpv: Submission) -> None:
    for case_id, decision in zip(TRUTH, (True, False, False, False, True), strict=True):
        hpv.add_value(case_id, "hpv", decision)
    metrics = hpv.hpv()
    value = {name: estimate.value for name, estimate in metrics.aggregates.items()}
    assert value["sensitivity"] == 1 / 2
    assert value["specificity"] == 2 / 3
    assert value["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert value["auc"] is value["brier"] is value["calibration_error"] is None
    assert metrics.aggregates["auc"].patients == 0
    assert metrics.calibration == ()
    assert metrics.ranked == ("balanced_accuracy",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1", "expected true or false in hpv-status.json, found 1"),
        ('"true"', 'found "true"'),
        ("null", "found null"),
        ("True", "not valid JSON"),
    ],
)
def test_answer_that_is_not_boolean_counts_as_wrong(
    hpv: Submission, value: str, words: str
) -> None:
    hpv.add_value("MDA-1", "hpv", value)
    for case_id in ("MDA-2", "MDA-3", "MDA-4"):
        hpv.add_value(case_id, "hpv", bool(TRUTH[case_id]))
    metrics = hpv.hpv()
    assert words in (metrics.results[0].failure or "")
    assert metrics.results[0].decision is None
    assert metrics.results[4].failure == "no job has this case"
    assert metrics.aggregates["balanced_accuracy"].value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics.alternatives["balanced_accuracy"]["failed cases: left out"] == 1


def test_optional_probabilities_are_scored(hpv: Submission) -> None:
    probabilities = dict(zip(TRUTH, (0.9, 0.4, 0.4, 0.2, 0.7), strict=True))
    for case_id, probability in probabilities.items():
        output = hpv.add_value(case_id, "hpv", probability > 0.5)
        (output / HPV_PROBABILITY).write_text(json.dumps(probability))
    metrics = hpv.hpv()
    truth, scores = list(TRUTH.values()), list(probabilities.values())
    value = {name: estimate.value for name, estimate in metrics.aggregates.items()}
    assert value["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert value["brier"] == pytest.approx(brier_score_loss(truth, scores), abs=1e-6)
    decisions = [p > 0.5 for p in scores]
    expected = balanced_accuracy_score(truth, decisions)
    assert value["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert sum(each.patients for each in metrics.calibration) == 5
    assert [result.probability for result in metrics.results] == scores


@pytest.mark.parametrize("text", ["1.5", "-0.1", "true", "NaN"])
def test_probability_must_be_between_0_and_1(hpv: Submission, text: str) -> None:
    output = hpv.add_value("MDA-1", "hpv", True)
    (output / HPV_PROBABILITY).write_text(text)
    (failed, *_) = hpv.hpv().results
    assert "in hpv-probability.json" in (failed.failure or "")


def test_balanced_accuracy_needs_both_classes(submission: Submission) -> None:
    submission.add_truth("MDA-1", HPV_Status=1)
    submission.add_truth("USZ-2", HPV_Status="1.0")
    submission.add_truth("USZ-3", HPV_Status="")
    for case_id in ("MDA-1", "USZ-2", "USZ-3"):
        submission.add_value(case_id, "hpv", True)
    metrics = submission.hpv()
    assert metrics.aggregates["balanced_accuracy"].value is None
    assert metrics.aggregates["sensitivity"].value == 1
    assert metrics.unscored == ("USZ-3",)
    assert list(metrics.groups["centre"]) == ["MDA", "USZ"]
