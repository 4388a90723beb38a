"""Runs the command lines of the training, the evaluation and the predictions."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Final

from shared.errors import HecktorError

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, also that of Typer, which prints no message with it."""
FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)


def run_command_line(app: Callable[[], object], *, interrupted: str) -> int:
    """Run a command line and return its exit code.

    A mistake of the user, a full disk and Ctrl-C each give one line on stderr.

    Parameters
    ----------
    app : the Typer application.
    interrupted : what Ctrl-C leaves behind, in words.
    """
    try:
        app()
    except HecktorError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(
            f"expected space on the disk{where}, found none ({error.strerror}); free some space "
            "and run the same command again",
            file=sys.stderr,
        )
        return 1
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    return 0
