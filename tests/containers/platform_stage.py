"""The stage of `./test_containers.sh` that runs the programs under the platform's own runtime."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from evaluation.running.case_folders import CaseFolder
from evaluation.running.engines.native import PythonOf, locked_python
from evaluation.running.programs import lay_out
from shared.grand_challenge.job import Mode
from tests.containers.checks import Check
from tests.containers.contract import EVALUATION
from tests.containers.report import Group, Report
from tests.containers.runner import Container
from tests.platform.environment import NoPythonError, install
from tests.platform.program_checks import check_program
from tests.platform.s3 import S3, local_s3
from tests.platform.shim import Session, app_of
from tests.platform.trials import Trial, algorithm_trial, evaluation_trial


def check_under_runtime(
    containers: Sequence[Container],
    cases: Sequence[CaseFolder],
    *,
    root: Path,
    logs: Path,
    report: Report,
    python_of: PythonOf | None = None,
) -> None:
    """Run each container's program under the platform's runtime, in both modes.

    If Python 3.12 is missing, the report says that this stage was skipped.

    Parameters
    ----------
    cases : the sample cases.
    root : the checkout.
    logs : folder for logs and outputs.
    python_of : returns a program's interpreter; by default that of its locked environment.
    """
    try:
        programs = install()
    except NoPythonError as error:
        report.say(f"\nruntime of the platform: skipped, not checked: {error}")
        return
    logs.mkdir(parents=True)
    with local_s3(programs, logs / "s3.txt") as s3:
        for container in containers:
            python = (python_of or locked_python(root))(container.program)
            folder = logs / container.name
            report.add(
                _check(container, cases, root=root, python=python, folder=folder, at=(programs, s3))
            )


def _check(
    container: Container,
    cases: Sequence[CaseFolder],
    *,
    root: Path,
    python: Path,
    folder: Path,
    at: tuple[Path, S3],
) -> Group:
    begin = time.perf_counter()
    program, sessions = container.program, folder / "sessions"
    sessions.mkdir(parents=True)
    lay_out(program, root=root, folder=folder / "app")
    programs, s3 = at

    def start(
        mode: Mode,
        *,
        uploaded: Path | None = None,
        limit_s: float = program.limits.time_s,
        memory_mb: int = int(program.limits.memory_gib * 1024),
    ) -> Session:
        session_folder = sessions / f"{len(list(sessions.iterdir()))}_{mode}"
        session_folder.mkdir()
        return Session(
            app_of(program, mode, python=python, folder=folder / "app"),
            mode,
            programs=programs,
            s3=s3,
            folder=session_folder,
            uploaded=uploaded,
            limit_s=limit_s,
            memory_mb=memory_mb,
        )

    trial = _trial(container, cases, root=root, folder=folder / "trial")
    try:
        results = check_program(trial, start, folder / "outputs")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        results = [Check("runtime", f"expected the runtime to work, found {error}")]
    return Group(
        container=container.name,
        name="platform's runtime",
        checks=results,
        seconds=time.perf_counter() - begin,
        note="both modes, bad cases, tarballs, too little memory, time-outs",
        logs=sessions,
    )


def _trial(container: Container, cases: Sequence[CaseFolder], *, root: Path, folder: Path) -> Trial:
    if container.name == EVALUATION.name:
        return evaluation_trial(cases, root=root, folder=folder)
    return algorithm_trial(container.contract, container.program, cases, root=root, folder=folder)
