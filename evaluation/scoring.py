"""Turns the results of cases into scores with intervals, for all cases and for groups of cases."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from evaluation.schema import CaseResult, Estimate, Estimates, Group
from shared.metrics.uncertainty import Statistic, bootstrap

Result = TypeVar("Result", bound=CaseResult)


@dataclass(frozen=True)
class Score:
    """A score that can be computed for any selection of cases.

    Attributes
    ----------
    statistic : returns the score of the cases with the given indices.
    cases : number of cases.
    """

    statistic: Statistic
    cases: int

    def value(self) -> float | None:
        """Return the score of all cases, or None if it cannot be computed."""
        try:
            return self.statistic(np.arange(self.cases))
        except ValueError:
            return None

    def estimate(self, samples: int) -> Estimate:
        """Return the score with its interval."""
        value = self.value()
        if value is None:
            return Estimate(
                value=None, low=None, high=None, standard_error=None, patients=self.cases
            )
        interval = bootstrap(self.statistic, self.cases, samples=samples)
        return Estimate(
            value=value,
            low=interval.low,
            high=interval.high,
            standard_error=interval.standard_error,
            patients=self.cases,
        )


Scores: TypeAlias = dict[str, Score]
ScoresOf: TypeAlias = Callable[[Sequence[Result]], Scores]
"""Returns the scores of cases by name; the names do not depend on the cases."""
GroupOf: TypeAlias = Callable[[Result], str | None]
"""Returns the name of a case's group, or None if the case is in no group."""


def of_columns(metric: Callable[..., float], rows: Sequence[tuple[float | bool, ...]]) -> Score:
    """Return the score that a metric computes from the columns of some rows, one row per case."""
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]

    def statistic(indices: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
        if not columns:
            raise ValueError("expected at least one case, found none")
        return metric(*(column[indices] for column in columns))

    return Score(statistic, len(rows))


def mean(values: Sequence[float | None]) -> Score:
    """Return the mean over the cases that have a value."""
    return of_columns(lambda column: float(column.mean()), [(v,) for v in values if v is not None])


def by_centre(result: CaseResult) -> str | None:
    """Return the centre of a case."""
    return result.centre


def by_field_of_view(result: CaseResult) -> str | None:
    """Return the field of view of a case."""
    return result.field_of_view


def aggregate(results: Sequence[Result], scores_of: ScoresOf[Result], samples: int) -> Estimates:
    """Return the scores of some cases with their intervals.

    Parameters
    ----------
    samples : number of bootstrap resamples for each interval.
    """
    return {name: score.estimate(samples) for name, score in scores_of(results).items()}


def group_aggregates(
    results: Sequence[Result],
    scores_of: ScoresOf[Result],
    other_kinds: Mapping[str, GroupOf[Result]],
    *,
    samples: int,
) -> dict[str, dict[str, Group]]:
    """Return the scores by grouping, then by group; groups without a case are left out.

    Parameters
    ----------
    other_kinds : the groupings in addition to centre and field of view, by name.
    """
    kinds = {"centre": by_centre, "field_of_view": by_field_of_view, **other_kinds}
    groups: dict[str, dict[str, Group]] = {}
    for kind, group_of in kinds.items():
        members: dict[str, list[Result]] = {}
        for result in results:
            name = group_of(result)
            if name is not None:
                members.setdefault(name, []).append(result)
        groups[kind] = {
            name: Group(
                patients=len(members[name]),
                aggregates=aggregate(members[name], scores_of, samples),
            )
            for name in sorted(members, key=_natural)
        }
    return groups


def _natural(name: str) -> tuple[float, str]:
    """Return the key that sorts names by the number they begin with, then by letters."""
    number = re.match(r"\d+", name)
    return float(number[0]) if number else math.inf, name
