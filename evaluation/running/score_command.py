"""The command `python -m evaluation score`: scores results as the evaluation container does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from evaluation.evaluate import NoTruthError, evaluate
from evaluation.metrics_io import METRICS, MetricsFile, summary, write_metrics
from evaluation.predictions import PREDICTIONS
from evaluation.running.ground_truth import GROUND_TRUTH
from evaluation.scoring_rules import ScoringRules, read_rules
from shared.editions import CURRENT, Edition
from shared.errors import InputError
from shared.resources import granted_cpus

WORKERS: Final = granted_cpus()
RULES_HELP: Final = (
    "JSON file with scoring rules (default: rules.json of the ground truth, if any)."
)


def score(
    results: Annotated[Path, typer.Argument(help="Folder that `run` wrote to.")],
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth (default: RESULTS/ground_truth).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read masks.")] = WORKERS,
    rules: Annotated[Path | None, typer.Option(help=RULES_HELP)] = None,
) -> None:
    """Score the jobs of each algorithm and write metrics.json next to them.

    An algorithm is left out if no case has a truth for any of its tasks.
    """
    scores = score_results(
        results,
        truth or results / GROUND_TRUTH,
        workers=workers,
        rules=None if rules is None else read_rules(rules),
    )
    for metrics in scores.values():
        print("\n".join(summary(metrics)), flush=True)


def score_results(
    results: Path,
    truth: Path,
    *,
    workers: int,
    rules: ScoringRules | None = None,
    edition: Edition = CURRENT,
) -> dict[str, MetricsFile]:
    """Score the jobs of each algorithm, write the metrics, and return them by algorithm.

    An algorithm is reported and left out if no case has a truth for any of its tasks.

    Raises
    ------
    InputError
        If there are no jobs, all algorithms are left out, or the jobs do not match the truth.
    """
    names = [a.name for a in edition.algorithms if (results / a.name / PREDICTIONS).is_file()]
    if not names:
        raise InputError(
            f"expected the {PREDICTIONS} of at least one algorithm in {results}, such as "
            f"{edition.algorithms[0].name}/{PREDICTIONS}, found none; name the folder that "
            "`python -m evaluation run` wrote to"
        )
    scores: dict[str, MetricsFile] = {}
    problems: list[NoTruthError] = []
    for name in names:
        path = results / name / METRICS
        try:
            metrics = evaluate(results / name, truth, edition, rules=rules, workers=workers)
        except NoTruthError as error:
            path.unlink(missing_ok=True)  # It may exist from an earlier ground truth.
            problems.append(error)
            print(f"{name}: not scored: {error}", flush=True)
            continue
        write_metrics(path, metrics)
        scores[name] = metrics
    if not scores:
        raise problems[0]
    return scores
