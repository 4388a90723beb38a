"""The checks of a program under the platform's runtime, in both modes.

Everything that the platform would show or store is checked: return codes, outputs, and each line on
the two streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from shared.grand_challenge.job import MODES, Mode
from tests.containers import checks
from tests.containers.checks import Check
from tests.platform.shim import Result, Session
from tests.platform.trials import Trial

BAD: Final = "bad"
"""Name of the job of the bad case."""
TIME_OUT_S: Final = 0.5
"""No program can process a case in this time."""
TIME_OUT_MESSAGES: Final = ("Time limit exceeded", "Invoke time limit exceeded")
MEMORY_LINE: Final = "out of memory; raise the memory limit (the log has the traceback)"


class Start(Protocol):
    """Prepares the runtime for a program in one of the modes."""

    def __call__(
        self,
        mode: Mode,
        *,
        uploaded: Path | None = None,
        limit_s: float = 600,
        memory_mb: int = 15360,
    ) -> Session:
        """Return a session; its options are those of `Session`."""


def check_program(trial: Trial, start: Start, folder: Path) -> list[Check]:
    """Run a program under the runtime, and return the checks.

    Parameters
    ----------
    folder : a new folder for the outputs.
    """
    results: list[Check] = []
    first, second = trial.good

    session = start("exec", uploaded=trial.uploaded if trial.needs_upload else None)
    one, other = session.run(trial.good)  # two jobs in one invocation
    answers: dict[str, Mapping[str, bytes]] = {}
    for job, result in ((first, one), (second, other)):
        results += _check_success(f"exec: {job}", session, job, result)
        if remark := trial.remarks.get(job):
            results.append(_check_log(f"exec: remark on {job}", remark, session))
        answers[job] = {} if result is None else result.outputs
        results += _check_outputs(f"exec: {job}", trial, job, answers[job], folder / job)

    inputs = {**trial.good, BAD: trial.bad}
    orders: dict[Mode, Sequence[str]] = {"exec": (BAD, first), "invoke": (first, BAD, second)}
    for mode, jobs in orders.items():
        session = start(mode, uploaded=trial.uploaded)
        with session.served():
            posted = {job: session.post(job, inputs[job]) for job in jobs}
        rejected = posted.pop(BAD)
        results.append(_check_rejection(f"{mode}: a bad case", session, rejected, trial.bad_words))
        for job, result in posted.items():
            name = f"{mode}: {job} with a tarball"
            results += _check_success(name, session, job, result)
            same = result.outputs == answers[job]
            problem = "expected the bytes of exec mode, found others"
            results.append(Check(f"{name}: same bytes", None if same else problem))
        if trial.mark is not None:
            results.append(_check_log(f"{mode}: tarball", trial.mark, session))
    stops = session.runtime_log.count("Process group terminated")
    problem = "expected the server to end after SIGTERM, found that only SIGKILL ended it"
    results.append(Check("invoke: stop", None if stops == 1 else problem))

    for mode in MODES:
        uploaded = trial.uploaded if trial.needs_upload else None
        # In invoke mode, the models would not load, and the runtime would wait for /health until
        # its limit, so too little memory is only checked in exec mode.
        if trial.too_little_mb is not None and mode == "exec":
            session = start(mode, uploaded=uploaded, memory_mb=trial.too_little_mb)
            results.append(_check_memory(f"{mode}: too little memory", trial, session))
        session = start(mode, uploaded=uploaded, limit_s=TIME_OUT_S)
        results.append(_check_time_out(mode, trial, session))
    return results


def _check_success(name: str, session: Session, job: str, result: Result | None) -> Iterator[Check]:
    """Check that a job succeeded, with nothing on stderr and the last line of the log."""
    if result is None:
        yield Check(name, "expected a result, found that the job was not started")
        return
    end = (result.return_code, result.message, session.lines("stderr", job))
    expected: tuple[int, str, list[str]] = (0, "", [])
    yield Check(name, None if end == expected else f"expected {expected}, found {end}")
    lines = session.lines("stdout", job)
    is_complete = bool(lines) and lines[-1].startswith("done in ")
    problem = f"expected 'done in …' as the last line of the log, found {lines[-1:]}"
    yield Check(f"{name}: log", None if is_complete else problem)


def _check_outputs(
    name: str, trial: Trial, job: str, outputs: Mapping[str, bytes], folder: Path
) -> Iterator[Check]:
    """Check the collected files and their content."""
    for path, content in outputs.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    files = checks.check_files(folder, trial.contract)
    yield Check(f"{name}: files", files.problem)
    if files.passed:
        for check in trial.check_output(job, folder):
            yield Check(f"{name}: {check.name}", check.problem)


def _check_rejection(name: str, session: Session, result: Result, words: str) -> Check:
    """Check that a job failed with one line, which the user sees, and without outputs."""
    lines = session.lines("stderr")
    end = (result.return_code, result.outputs, result.last_stderr)
    is_rejected = end == (1, {}, lines) and len(lines) == 1 and words in lines[0]
    problem = f"expected return code 1 and one line with '{words}', found {end} and {lines}"
    return Check(name, None if is_rejected else problem)


def _check_log(name: str, words: str, session: Session) -> Check:
    is_there = any(words in line for line in session.lines("stdout"))
    return Check(name, None if is_there else f"expected '{words}' in the log, found none")


def _check_memory(name: str, trial: Trial, session: Session) -> Check:
    result = _run_first(trial, session)
    lines = session.lines("stderr")
    is_good = _has_failed(result) and lines == [MEMORY_LINE]
    problem = f"expected a failed job and the line '{MEMORY_LINE}', found {result} and {lines}"
    return Check(name, None if is_good else problem)


def _check_time_out(mode: Mode, trial: Trial, session: Session) -> Check:
    result = _run_first(trial, session)
    lines = session.lines("stderr")
    message = None if result is None else result.message
    if mode == "invoke":
        # The runtime removes the input before it ends the program, which may then complain.
        lines = lines[:1]
    is_good = _has_failed(result) and message in TIME_OUT_MESSAGES and lines == [message]
    problem = f"expected a failed job and only the runtime's line, found {result} and {lines}"
    return Check(f"{mode}: time-out", None if is_good else problem)


def _run_first(trial: Trial, session: Session) -> Result | None:
    job, case = next(iter(trial.good.items()))
    (result,) = session.run({job: case})
    return result


def _has_failed(result: Result | None) -> bool:
    return result is not None and (result.return_code, result.outputs) == (1, {})
