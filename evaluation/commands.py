"""Run the algorithms on a cohort of cases, score what they write, and report it.

`python -m evaluation COMMAND --help`.
"""

from __future__ import annotations

import sys

import typer

from evaluation.report.command import report
from evaluation.running.command import run
from evaluation.running.score import score
from shared.errors import HecktorError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
for command in (run, score, report):
    app.command()(command)


def main() -> int:
    """Run the command line; an error meant for the user is one line."""
    try:
        app(standalone_mode=True)
    except HecktorError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what has ended is kept; run it again to go on", file=sys.stderr)
        return 130
    return 0
