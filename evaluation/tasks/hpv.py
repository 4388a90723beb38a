"""Scores of HPV status: balanced accuracy, and the quality of the probability if there is one.

A failed or missing case counts as a wrong decision.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final, Literal

from evaluation.outputs import HPV_PROBABILITY, read_boolean, read_number
from evaluation.schema import CaseResult, TaskMetrics
from evaluation.scoring import Scores, of_columns
from evaluation.scoring_rules import Fraction
from evaluation.tasks.base import Entry, Submission, TaskScoring
from evaluation.truth import CaseTruth
from shared.editions import Edition
from shared.errors import InputError
from shared.metrics.calibration import CalibrationBin, calibration, calibration_error
from shared.metrics.classification import balanced_accuracy, sensitivity, specificity
from shared.metrics.probability import brier_score, roc_auc


class HpvCase(CaseResult):
    """Result of a case for HPV status.

    Attributes
    ----------
    decision : null if the case failed.
    truth : whether the disease is HPV-positive.
    probability : the content of the file `HPV_PROBABILITY`; null if the job has no such file.
    """

    decision: bool | None
    truth: bool
    probability: Fraction | None


class HpvMetrics(TaskMetrics):
    """Metrics of HPV status; `calibration` is empty if no case has a probability."""

    task: Literal["hpv"] = "hpv"
    calibration: tuple[CalibrationBin, ...]
    results: tuple[HpvCase, ...]


class HpvScoring(TaskScoring[bool, HpvCase]):
    """Scoring of HPV status; the truth is whether the disease is HPV-positive."""

    task = "hpv"
    metrics = HpvMetrics
    ranked = ("balanced_accuracy",)
    failure_rule = "decided wrongly"
    truth_columns: ClassVar = {"HPV Status": "hpv"}

    def truth_of(self, case: CaseTruth) -> bool | None:
        """Return the HPV status of a patient."""
        return case.flag("HPV Status")

    def score(self, entries: Sequence[Entry[bool]], submission: Submission) -> HpvMetrics:
        """Return the metrics."""
        results = tuple(_score_case(entry, submission.edition) for entry in entries)
        answered = self.scores_of([result for result in results if result.failure is None])
        value = answered["balanced_accuracy"].value()
        return HpvMetrics(
            alternatives={"balanced_accuracy": {"failed cases: left out": value}},
            calibration=calibration_bins(results),
            results=results,
            **self.common_parts(results, submission),
        )

    def scores_of(self, results: Sequence[HpvCase]) -> Scores:
        """Return the scores; those of the probability use only the cases that have one."""
        decisions = [(not r.truth if r.decision is None else r.decision, r.truth) for r in results]
        probabilities = _probabilities(results)
        return {
            "balanced_accuracy": of_columns(balanced_accuracy, decisions),
            "sensitivity": of_columns(sensitivity, decisions),
            "specificity": of_columns(specificity, decisions),
            "auc": of_columns(roc_auc, probabilities),
            "brier": of_columns(brier_score, probabilities),
            "calibration_error": of_columns(calibration_error, probabilities),
        }


SCORING: Final = HpvScoring()


def read_decision(output: Path, edition: Edition) -> bool:
    """Return the decision of a job on HPV status.

    Raises
    ------
    InputError
        If the file does not hold a JSON boolean.
    """
    return read_boolean(output, edition.outputs["hpv"].path)


def read_probability(output: Path) -> float | None:
    """Return the probability of HPV-positive disease, or None if the job has no such file.

    Raises
    ------
    InputError
        If the file does not hold a number from 0 to 1.
    """
    if not os.path.lexists(output / HPV_PROBABILITY):
        return None
    probability = read_number(output, HPV_PROBABILITY)
    if not 0 <= probability <= 1:
        raise InputError(
            f"expected a number from 0 to 1 in {HPV_PROBABILITY}, found {probability:g}"
        )
    return probability


def calibration_bins(results: Sequence[HpvCase]) -> tuple[CalibrationBin, ...]:
    """Return predicted and observed frequencies by bin; empty if no case has a probability."""
    rows = _probabilities(results)
    if not rows:
        return ()
    probabilities, truths = zip(*rows, strict=True)
    return calibration(probabilities, truths)


def _probabilities(results: Sequence[HpvCase]) -> list[tuple[float, bool]]:
    return [(r.probability, r.truth) for r in results if r.probability is not None]


def _score_case(entry: Entry[bool], edition: Edition) -> HpvCase:
    answer, failure = entry.read(
        lambda output: (read_decision(output, edition), read_probability(output))
    )
    decision, probability = answer or (None, None)
    return HpvCase(
        decision=decision,
        truth=entry.truth,
        probability=probability,
        **entry.common_fields(failure),
    )
