"""Compare methods on the same cases: `python -m evaluation.compare A/metrics.json B/metrics.json`.

Reads their `metrics.json` and nothing else. Prints what the challenge ranks by and the challenge's
rank of each method, then for each pair of methods the difference with its 95 % interval: both are
resampled on the same patients, so what makes a patient hard for both does not widen it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from evaluation import hpv, segmentation, survival
from evaluation.schema import Metrics, read_metrics
from evaluation.scoring import Score
from shared.errors import InputError
from shared.grand_challenge.job import log, run_job
from shared.metrics.ranking import rank_segmentation, ranks
from shared.metrics.uncertainty import Interval, paired_difference


def differences(first: Metrics, second: Metrics) -> dict[str, Interval | None]:
    """Return the first method's ranked scores less the second's; None where one has none.

    Raises
    ------
    InputError
        If they are of other tasks, other cases or other rules.
    """
    _require_comparable(first, second)
    found: dict[str, Interval | None] = {}
    pairs = zip(_ranked(first).items(), _ranked(second).values(), strict=True)
    for (name, ours), theirs in pairs:
        try:
            found[name] = paired_difference(ours.statistic, theirs.statistic, first.cases)
        except ValueError:
            found[name] = None
    return found


def rank(methods: Mapping[str, Metrics]) -> dict[str, float]:
    """Return the challenge's rank of each method, best first; a method without a score is last.

    Raises
    ------
    InputError
        If they are of other tasks, other cases or other rules.
    """
    first, *others = methods.values()
    for other in others:
        _require_comparable(first, other)
    scores = {name: _values(metrics) for name, metrics in methods.items()}
    if first.task == "segmentation":
        return rank_segmentation(scores)
    (only,) = first.ranked
    placed = zip(ranks([each[only] for each in scores.values()]).tolist(), scores, strict=True)
    return {name: place for place, name in sorted(placed)}


def describe(methods: Mapping[str, Metrics]) -> list[str]:
    """Return lines for a reader: scores and ranks, then the differences of each pair."""
    lines = []
    for name, place in rank(methods).items():
        scores = (f"{score} {value:.4f}" for score, value in _values(methods[name]).items())
        lines.append(f"{place:g}. {name}: {', '.join(scores)}")
    for first, second in combinations(methods, 2):
        for score, found in differences(methods[first], methods[second]).items():
            text = "none"
            if found is not None:
                text = f"{found.value:+.4f}"
                if found.low is not None and found.high is not None:
                    text += f" ({found.low:+.4f} to {found.high:+.4f})"
            lines.append(f"{first} - {second}: {score} {text}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.compare",
        description="Rank methods that were evaluated on the same cases, and compare each pair.",
    )
    parser.add_argument("metrics", type=Path, nargs="+", help="metrics.json of each method")
    paths: list[Path] = parser.parse_args(arguments).metrics
    return run_job(
        lambda: log(*describe({str(path): read_metrics(path) for path in dict.fromkeys(paths)}))
    )


def _ranked(metrics: Metrics) -> dict[str, Score]:
    """Return what the challenge ranks by, as scores of all cases."""
    if metrics.task == "segmentation":
        scores = segmentation.scores_of(metrics.results)
    elif metrics.task == "survival":
        scores = survival.scores_of(metrics.results)
    else:
        scores = hpv.scores_of(metrics.results)
    return {name: scores[name] for name in metrics.ranked}


def _values(metrics: Metrics) -> dict[str, float]:
    values = {name: metrics.aggregates[name].value for name in metrics.ranked}
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _require_comparable(first: Metrics, second: Metrics) -> None:
    ours, theirs = ({result.case_id for result in m.results} for m in (first, second))
    if first.task != second.task or ours != theirs:
        raise InputError(
            f"expected two evaluations of one task on the same cases, found {first.task} of "
            f"{len(ours)} and {second.task} of {len(theirs)} cases, {len(ours & theirs)} in common;"
            " evaluate both with the same ground truth"
        )
    rules, others = (m.rules.model_dump(exclude={"bootstrap_samples"}) for m in (first, second))
    if rules != others:
        differing = ", ".join(name for name in rules if rules[name] != others[name])
        raise InputError(
            f"expected two evaluations by the same rules, found another {differing}; "
            "evaluate both with the same --rules"
        )


if __name__ == "__main__":
    sys.exit(main())
