"""Scores of recurrence-free survival: the C-index, and the AUC at 2 and 5 years.

A failed or missing case has no risk. Each of its pairs counts one half, as with a risk of NaN in
the organisers' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import NonNegativeFloat

from evaluation.outputs import read_number
from evaluation.schema import CaseResult, TaskMetrics
from evaluation.scoring import Scores, of_columns
from evaluation.tasks.base import Entry, Submission, TaskScoring
from evaluation.truth import TABLE, CaseTruth
from shared.editions import Edition
from shared.errors import InputError
from shared.metrics.survival import concordance_index, time_dependent_auc

YEARS: Final = (2, 5)
"""Horizons of the AUC; the median follow-up in the training set is 3.5 years."""
DAYS_PER_YEAR: Final = 365.25


@dataclass(frozen=True)
class Outcome:
    """Whether recurrence was observed, and the time to recurrence or to the end of follow-up."""

    event: bool
    time_days: float


class SurvivalCase(CaseResult):
    """Result of a case for survival.

    Attributes
    ----------
    risk : higher = earlier recurrence, also if the edition's outputs have the opposite sign; null
        if the case failed.
    time_days : time to recurrence or to the end of follow-up.
    event : whether recurrence was observed.
    """

    risk: float | None
    time_days: NonNegativeFloat
    event: bool


class SurvivalMetrics(TaskMetrics):
    """Metrics of recurrence-free survival."""

    task: Literal["survival"] = "survival"
    results: tuple[SurvivalCase, ...]


class SurvivalScoring(TaskScoring[Outcome, SurvivalCase]):
    """Scoring of recurrence-free survival."""

    task = "survival"
    metrics = SurvivalMetrics
    ranked = ("c_index",)
    failure_rule = "one half in each pair with another patient"
    truth_columns: ClassVar = {"Relapse": "relapse", "RFS": "rfs_days"}

    def truth_of(self, case: CaseTruth) -> Outcome | None:
        """Return the outcome of a patient."""
        event, time_days = case.flag("Relapse"), case.number("RFS")
        if event is None and time_days is None:
            return None
        if event is None or time_days is None or time_days < 0:
            raise InputError(
                f"expected Relapse and RFS of {case.case_id} both present, RFS at least 0, or both "
                f"missing, found '{case.row.get('Relapse', '')}' and '{case.row.get('RFS', '')}' "
                f"in {TABLE}; correct the table"
            )
        return Outcome(event, time_days)

    def score(self, entries: Sequence[Entry[Outcome]], submission: Submission) -> SurvivalMetrics:
        """Return the metrics."""
        results = tuple(_score_case(entry, submission.edition) for entry in entries)
        answered = self.scores_of([result for result in results if result.failure is None])
        return SurvivalMetrics(
            alternatives={"c_index": {"failed cases: left out": answered["c_index"].value()}},
            results=results,
            **self.common_parts(results, submission),
        )

    def scores_of(self, results: Sequence[SurvivalCase]) -> Scores:
        """Return the C-index and the AUC at each horizon."""
        rows = [(math.nan if r.risk is None else r.risk, r.time_days, r.event) for r in results]
        scores = {"c_index": of_columns(concordance_index, rows)}
        for years in YEARS:
            auc = partial(time_dependent_auc, horizon_days=years * DAYS_PER_YEAR)
            scores[f"auc_{years}_years"] = of_columns(auc, rows)
        return scores


SCORING: Final = SurvivalScoring()


def read_risk(output: Path, edition: Edition) -> float:
    """Return the risk of a job; higher = earlier recurrence, for either `risk_sign` of the edition.

    Raises
    ------
    InputError
        If the file does not hold a finite number.
    """
    survival = edition.outputs["survival"]
    return survival.risk_sign * read_number(output, survival.path)


def _score_case(entry: Entry[Outcome], edition: Edition) -> SurvivalCase:
    risk, failure = entry.read(partial(read_risk, edition=edition))
    return SurvivalCase(
        risk=risk,
        time_days=entry.truth.time_days,
        event=entry.truth.event,
        **entry.common_fields(failure),
    )
