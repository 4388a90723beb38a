"""Scores of recurrence-free survival: the C-index, and the AUC at some horizons.

A failed or missing case has no risk: it counts one half in each of its pairs, as NaN does in the
organisers' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from evaluation.schema import SurvivalCase
from evaluation.scoring import Scores, Scoring, of_columns
from shared.metrics.survival import concordance_index, time_dependent_auc

YEARS: Final = (2, 5)
"""Horizons of the AUC; the median follow-up in the training set is 3.5 years."""
DAYS_PER_YEAR: Final = 365.25


def scores_of(results: Sequence[SurvivalCase]) -> Scores:
    """Return the scores."""
    rows = [(math.nan if r.risk is None else r.risk, r.time_days, r.event) for r in results]
    scores = {"c_index": of_columns(concordance_index, rows)}
    for years in YEARS:
        auc = partial(time_dependent_auc, horizon_days=years * DAYS_PER_YEAR)
        scores[f"auc_{years}_years"] = of_columns(auc, rows)
    return scores


def alternatives(results: Sequence[SurvivalCase]) -> dict[str, dict[str, float | None]]:
    """Return the C-index if failed cases were left out."""
    answered = scores_of([result for result in results if result.failure is None])
    return {"c_index": {"failed cases: left out": answered["c_index"].value()}}


SCORING: Final = Scoring(
    ranked=("c_index",),
    failure_rule="one half in each pair with another patient",
    scores_of=scores_of,
)
