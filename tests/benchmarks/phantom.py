"""Speed and memory of the phantom generator: `python -m tests.benchmarks.phantom`.

The command makes a few patients of each kind with two processes and writes them in the challenge's
layout. It prints the patients per minute (without the start of the processes) and the peak memory
of one process. It fails if there are fewer than 6 full-size head-and-neck patients or 40 small
patients per minute, or if a process needs 1.5 GB or more.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final

import typer

from shared.resources import peak_memory_gb
from training.phantom import Kind
from training.phantom.cohort import make_one

KINDS: Final = {
    "full size": (Kind(whole_body=False), 6.0),
    "small": (Kind(small=True, whole_body=False), 40.0),
}
MAX_GB: Final = 1.5


def _make_patient(folder: Path, index: int, kind: Kind) -> float:
    """Make one patient and return the peak memory of this process in GB."""
    make_one(folder, seed=0, index=index, kind=kind, tasks=(1, 2, 3), as_cases=False)
    return peak_memory_gb()


def main(
    patients: Annotated[int, typer.Option(min=2, help="Patients of each kind.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Print speed and memory of each kind."""
    is_met = True
    for name, (kind, min_rate) in KINDS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        ):
            list(pool.map(time.sleep, [1.0] * workers))  # so that imports are not timed
            started = time.perf_counter()
            futures = [
                pool.submit(_make_patient, Path(folder), index, kind) for index in range(patients)
            ]
            peak_gb = max(future.result() for future in futures)
            rate = 60 * patients / (time.perf_counter() - started)
        is_met &= rate >= min_rate and peak_gb < MAX_GB
        print(
            f"{name:<10} {rate:5.1f} patients per minute (limit {min_rate:.0f}), "
            f"peak {peak_gb:.2f} GB"
        )
    sys.exit(not is_met)


if __name__ == "__main__":
    typer.run(main)
