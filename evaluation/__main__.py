"""Run algorithms on a cohort of cases, score their outputs, report, view and compare.

`python -m evaluation COMMAND --help` explains a command. The entry point of the evaluation image is
`evaluation.container`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer._completion_classes import completion_init

from evaluation.compare import describe_files
from evaluation.metrics_io import read_metrics
from evaluation.report.report_command import report
from evaluation.report.viewer.view_command import view
from evaluation.running.run_command import run
from evaluation.running.score_command import score
from shared.command_line import run_command_line

app = typer.Typer(
    add_completion=False,  # its script fails for `python -m`; completion.sh replaces it
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Run algorithms on a cohort of cases, score their outputs, report, view and compare.",
)


def compare(
    metrics: Annotated[list[Path], typer.Argument(help="The metrics.json of each method.")],
) -> None:
    """Rank methods that were evaluated on the same cases, and compare each pair of methods."""
    files = {str(path): read_metrics(path) for path in dict.fromkeys(metrics)}
    print("\n".join(describe_files(files)))


for command in (run, score, report, view, compare):
    app.command()(command)


def main() -> int:
    """Run the command line and return its exit code."""
    completion_init()  # Typer calls it only with `add_completion`.
    return run_command_line(
        app, interrupted="`run` keeps finished cases and resumes if started again"
    )


if __name__ == "__main__":
    sys.exit(main())
