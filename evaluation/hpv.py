"""Scores of HPV status: balanced accuracy, and the quality of the probability if there is one.

A failed or missing case counts as a wrong decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from evaluation.schema import HpvCase
from evaluation.scoring import Scores, Scoring, of_columns
from shared.metrics.calibration import CalibrationBin, calibration, calibration_error
from shared.metrics.classification import balanced_accuracy, sensitivity, specificity
from shared.metrics.probability import brier_score, roc_auc


def scores_of(results: Sequence[HpvCase]) -> Scores:
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


def alternatives(results: Sequence[HpvCase]) -> dict[str, dict[str, float | None]]:
    """Return the balanced accuracy if failed cases were left out."""
    answered = scores_of([result for result in results if result.failure is None])
    value = answered["balanced_accuracy"].value()
    return {"balanced_accuracy": {"failed cases: left out": value}}


def calibration_bins(results: Sequence[HpvCase]) -> tuple[CalibrationBin, ...]:
    """Return predicted and observed frequencies; empty if no case has a probability."""
    rows = _probabilities(results)
    if not rows:
        return ()
    probabilities, truths = zip(*rows, strict=True)
    return calibration(probabilities, truths)


def _probabilities(results: Sequence[HpvCase]) -> list[tuple[float, bool]]:
    return [(r.probability, r.truth) for r in results if r.probability is not None]


SCORING: Final = Scoring(
    ranked=("balanced_accuracy",),
    failure_rule="decided wrongly",
    scores_of=scores_of,
)
