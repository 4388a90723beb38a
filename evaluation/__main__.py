"""The command line of the evaluation container; by default the platform's paths.

In a checkout, a command as the first word (run, score, report) is that of `evaluation.commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from evaluation.evaluate import evaluate
from evaluation.schema import Metrics, Task, read_rules, write_metrics
from shared.grand_challenge.job import log, run_job
from shared.resources import granted_cpus
from shared.tasks import CURRENT

METRICS = "metrics.json"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="evaluation", description="Score a submission and write metrics.json."
    )
    made.add_argument(
        "--input", type=Path, default=Path("/input"), help="folder of predictions.json and the jobs"
    )
    made.add_argument(
        "--truth",
        type=Path,
        default=Path("/opt/ml/input/data/ground_truth"),
        help="folder of the ground truth: patients.csv and masks/",
    )
    made.add_argument("--output", type=Path, default=Path("/output"), help="folder to write to")
    made.add_argument(
        "--task", choices=get_args(Task), help="default: the one that the jobs' outputs are of"
    )
    made.add_argument(
        "--rules",
        type=Path,
        help="JSON object of the open choices (default: rules.json beside the truth, if any)",
    )
    made.add_argument(
        "--workers", type=int, default=granted_cpus(), help="processes (default: one a CPU)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and return the exit code."""
    options = parser().parse_args(arguments)

    def score() -> None:
        metrics = evaluate(
            options.input,
            options.truth,
            CURRENT,
            task=options.task,
            rules=options.rules and read_rules(options.rules),
            workers=max(1, options.workers),
        )
        write_metrics(options.output / METRICS, metrics)
        log(*summary(metrics))

    return run_job(score)


def summary(metrics: Metrics) -> list[str]:
    """Return lines for the log: what is ranked, and which cases have failed and why."""
    lines = [f"{metrics.task}, {metrics.edition}: {metrics.cases} cases, {metrics.failed} failed"]
    for name in metrics.ranked:
        score = metrics.aggregates[name]
        if score.value is None:
            lines.append(f"{name}: none")
        elif score.low is None or score.high is None:
            lines.append(f"{name}: {score.value:.4f}")
        else:
            lines.append(f"{name}: {score.value:.4f} ({score.low:.4f} to {score.high:.4f})")
    failures = ((result.case_id, result.failure) for result in metrics.results)
    return lines + [f"failed: {case_id}: {why}" for case_id, why in failures if why]


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        from evaluation import commands  # its libraries are not in the image

        sys.exit(commands.main())
    sys.exit(main())
