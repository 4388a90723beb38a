"""A run as a process of its own, to be killed: FOLDER JOBS, and CHECKOUT for a native one."""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation.running.cases import cases_in
from evaluation.running.command import run_task
from evaluation.running.engines import Engine, NativeEngine
from evaluation.running.runner import here
from evaluation.running.store import RunStore
from tests.evaluation.running.fakes import TASK, RecordingEngine


def main(folder: Path, jobs: int, checkout: Path | None = None) -> None:
    """Run or go on with the run in a folder that holds `cases`; by default nothing is run."""
    engine: Engine = RecordingEngine(folder / "calls.txt")
    store = RunStore(folder / "run")
    if checkout is not None:
        engine = NativeEngine(checkout, store.application, Path(sys.executable))
    cases = cases_in(folder / "cases")
    run_task(TASK, cases, folder / "cases", engine, store, here(jobs))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
