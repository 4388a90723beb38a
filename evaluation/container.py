"""The entry point of the evaluation container; by default it uses the platform's paths."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.evaluate import evaluate
from evaluation.metrics_io import METRICS, summary, write_metrics
from evaluation.scoring_rules import read_rules
from shared.editions import CURRENT, Edition
from shared.grand_challenge.job import add_mode_options, log, run_container
from shared.resources import granted_cpus
from shared.tasks import TASK_NAMES


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.container",
        description="Score a submission and write metrics.json.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        default=Path("/input"),
        help="folder with predictions.json and the folders of the jobs",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        default=Path("/opt/ml/input/data/ground_truth"),
        help="folder of the ground truth: patients.csv and masks/",
    )
    parser.add_argument("--output", type=Path, default=Path("/output"), help="folder to write to")
    parser.add_argument(
        "--task",
        choices=TASK_NAMES,
        help="score only this task (default: every task that the jobs' outputs answer)",
    )
    parser.add_argument(
        "--rules",
        type=Path,
        help="JSON file with scoring rules (default: rules.json of the ground truth, if any)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=granted_cpus(),
        help="processes that read masks (default: one per CPU)",
    )
    add_mode_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None, edition: Edition = CURRENT) -> int:
    """Score a submission, or serve submissions over HTTP, and return the exit code."""
    options = parser().parse_args(arguments)

    def score() -> None:
        metrics = evaluate(
            options.input,
            options.truth,
            edition,
            task=options.task,
            rules=None if options.rules is None else read_rules(options.rules),
            workers=max(1, options.workers),
        )
        write_metrics(options.output / METRICS, metrics)
        log(*summary(metrics))

    def load() -> Callable[[], None]:
        return score  # keeps nothing, because the next submission may have another ground truth

    return run_container(
        load, output_dir=options.output, api_method=options.api_method, port=options.port
    )


if __name__ == "__main__":
    sys.exit(main())
