"""Helps engines with invoke mode: adds the driver to a program's command, and reads its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import NonNegativeFloat, ValidationError

from evaluation.running.engines import invoke_driver
from evaluation.running.engines.protocol import Run
from evaluation.running.limits import Limits
from shared.schema import Strict

DRIVER: Final = Path(invoke_driver.__file__)


class Call(Strict):
    """What the driver says about a call.

    Attributes
    ----------
    status : HTTP status of the reply; None without a reply.
    call_s : seconds of the call; None if the program was never ready.
    timed_out : whether the call reached its time limit.
    problem : why there is no reply, if the time limit is not the reason.
    stop_s : seconds from SIGTERM to the end of the program; None if only SIGKILL ended it.
    """

    status: int | None
    call_s: NonNegativeFloat | None
    timed_out: bool
    problem: str | None
    stop_s: NonNegativeFloat | None


def drive(driver: Path, port: int, *, limits: Limits, command: Sequence[str]) -> list[str]:
    """Return the command that runs a program's command on one case in invoke mode.

    Parameters
    ----------
    driver : path of `DRIVER` where the command runs.
    port : port on which the program listens.
    """
    return [command[0], str(driver), str(port), str(limits.time_s), *command]


def total_limit_s(limits: Limits) -> int:
    """Return the time limit in seconds for a whole run, including the start."""
    if limits.mode == "exec":
        return limits.time_s
    return invoke_driver.START_LIMIT_S + limits.time_s + 2 * invoke_driver.GRACE_S


def interpret(run: Run, limits: Limits, logs: Path) -> Run:
    """Turn the run of a driver into that of its program: the call's time, the program's log.

    If the driver itself was stopped, its log has no line about the call. Its run is then returned
    unchanged.
    """
    *lines, last = run.stdout.splitlines() or [""]
    try:
        call = Call.model_validate_json(last)
    except ValidationError:
        return run
    stdout = "".join(f"{line}\n" for line in lines)
    (logs / "stdout.txt").write_text(stdout, encoding="utf-8")
    note = f"stopped at the time limit of {limits.time_s} s" if call.timed_out else ""
    if call.problem and not run.stderr.strip():  # otherwise stderr of the program says why
        note = call.problem
    return replace(
        run,
        exit_code=None if call.timed_out else run.exit_code,
        stdout=stdout,
        seconds=run.seconds if call.call_s is None else call.call_s,
        stop_seconds=call.stop_s,
        note=note,
    )
