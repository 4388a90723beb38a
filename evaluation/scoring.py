"""From the results of cases to scores with intervals, of all cases and of groups of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from evaluation.schema import CaseResult, Estimate, Estimates, Group, Rules
from shared.metrics.uncertainty import Statistic, bootstrap

Result = TypeVar("Result", bound=CaseResult)


@dataclass(frozen=True)
class Score:
    """A score that is still to be measured.

    Attributes
    ----------
    statistic : the score of cases, by index.
    cases : how many cases there are to choose from.
    """

    statistic: Statistic
    cases: int

    def value(self) -> float | None:
        """Return the score of all cases, None where they have none."""
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
        found = bootstrap(self.statistic, self.cases, samples=samples)
        return Estimate(
            value=value,
            low=found.low,
            high=found.high,
            standard_error=found.standard_error,
            patients=self.cases,
        )


Scores: TypeAlias = dict[str, Score]
ScoresOf: TypeAlias = Callable[[Sequence[Result]], Scores]
"""Names the scores of cases; the same names, whatever the cases."""
GroupOf: TypeAlias = Callable[[Result], str | None]
"""Names the group of a case, None for a case that is in none."""


def of_columns(metric: Callable[..., float], rows: Sequence[tuple[float | bool, ...]]) -> Score:
    """Return the score that a metric of columns gives for rows, one a case."""
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]

    def statistic(chosen: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
        if not columns:
            raise ValueError("expected at least one case, found none")
        return metric(*(column[chosen] for column in columns))

    return Score(statistic, len(rows))


def mean(values: Sequence[float | None]) -> Score:
    """Return the mean over the cases that have a value."""
    return of_columns(lambda known: float(known.mean()), [(v,) for v in values if v is not None])


def by_centre(result: CaseResult) -> str | None:
    """Return the centre of a case."""
    return result.centre


def by_field_of_view(result: CaseResult) -> str | None:
    """Return the kind of field of view of a case."""
    return result.field_of_view


@dataclass(frozen=True)
class Scoring(Generic[Result]):
    """How the cases of one task are scored together.

    Attributes
    ----------
    ranked : names of the scores that the challenge ranks by.
    failure_rule : how a failed or missing case is scored, in words.
    scores_of : the scores of cases.
    group_kinds : how cases are grouped, beside centre and field of view.
    """

    ranked: tuple[str, ...]
    failure_rule: str
    scores_of: ScoresOf[Result]
    group_kinds: Mapping[str, GroupOf[Result]] = field(default_factory=dict)

    def summary(self, results: Sequence[Result], rules: Rules) -> dict[str, Any]:
        """Return what `metrics.json` says of all cases together, by the name of its part."""
        kinds = {"centre": by_centre, "field_of_view": by_field_of_view, **self.group_kinds}
        return {
            "rules": rules,
            "failure_rule": self.failure_rule,
            "ranked": self.ranked,
            "cases": len(results),
            "failed": sum(result.failure is not None for result in results),
            "aggregates": self._measure(results, rules),
            "groups": {kind: self._groups(results, of, rules) for kind, of in kinds.items()},
        }

    def _measure(self, results: Sequence[Result], rules: Rules) -> Estimates:
        scores = self.scores_of(results)
        return {name: score.estimate(rules.bootstrap_samples) for name, score in scores.items()}

    def _groups(
        self, results: Sequence[Result], group_of: GroupOf[Result], rules: Rules
    ) -> dict[str, Group]:
        members: dict[str, list[Result]] = {}
        for result in results:
            name = group_of(result)
            if name is not None:
                members.setdefault(name, []).append(result)
        return {
            name: Group(patients=len(members[name]), aggregates=self._measure(members[name], rules))
            for name in sorted(members, key=_natural)
        }


def _natural(name: str) -> tuple[float, str]:
    """Sort names by the number that they begin with, then by letters."""
    number = re.match(r"\d+", name)
    return float(number[0]) if number else math.inf, name
