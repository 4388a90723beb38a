"""Command line of the evaluation: `python -m evaluation COMMAND --help`."""

from __future__ import annotations

import sys

import typer

from evaluation.running.command import run
from shared.errors import HecktorError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
app.command()(run)


@app.callback()
def _commands() -> None:
    """Run the algorithms on a cohort, score what they write, and report it."""


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


if __name__ == "__main__":
    raise SystemExit(main())
