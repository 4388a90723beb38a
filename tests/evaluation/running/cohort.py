"""A program that runs a cohort until a test kills it; arguments: FOLDER PARALLEL [CHECKOUT].

With CHECKOUT, the cases run natively; without it, the engine only records its calls.
"""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation.running.case_folders import find_cases
from evaluation.running.engines.native import NativeEngine
from evaluation.running.engines.protocol import Engine
from evaluation.running.job_store import JobStore
from evaluation.running.run_command import run_algorithm
from evaluation.running.runner import local_pool
from tests.containers.conftest import this_python
from tests.evaluation.running.fakes import ALGORITHM, RecordingEngine


def main(folder: Path, parallel: int, checkout: Path | None = None) -> None:
    """Run the cases in the folder `cases`, or resume their run."""
    engine: Engine = RecordingEngine(folder / "calls.txt")
    store = JobStore(folder / "run")
    if checkout is not None:
        engine = NativeEngine(root=checkout, work=store.application, python_of=this_python)
    run_algorithm(
        ALGORITHM,
        find_cases(folder / "cases"),
        cases_folder=folder / "cases",
        engine=engine,
        store=store,
        pool=local_pool(parallel),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
