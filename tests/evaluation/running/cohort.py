"""A run of the recording engine as a process of its own, to be killed: FOLDER JOBS."""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation.running.cases import cases_in
from evaluation.running.command import run_task
from evaluation.running.runner import here
from evaluation.running.store import RunStore
from tests.evaluation.running.fakes import TASK, RecordingEngine


def main(folder: Path, jobs: int) -> None:
    """Run or go on with the run in a folder that holds `cases`."""
    engine = RecordingEngine(folder / "calls.txt")
    cases = cases_in(folder / "cases")
    run_task(TASK, cases, folder / "cases", engine, RunStore(folder / "run"), here(jobs))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
