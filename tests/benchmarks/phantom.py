"""Speed and memory of the phantom generator: `python -m tests.benchmarks.phantom`.

Makes a few patients of each kind with two processes, writes them as the challenge does, and prints
patients a minute (the start of the processes left out) and the peak memory of a process. The
command fails where a bound does not hold: 6 full-size head-and-neck patients a minute, 40 small
ones, under 1.5 GB a process.
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


def _make(folder: Path, index: int, kind: Kind) -> float:
    make_one(folder, seed=0, index=index, kind=kind, tasks=(1, 2, 3), as_cases=False)
    return peak_memory_gb()


def main(
    patients: Annotated[int, typer.Option(min=2, help="Of each kind.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Print speed and memory of each kind."""
    held = True
    for name, (kind, bound) in KINDS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        ):
            list(pool.map(time.sleep, [1.0] * workers))  # imports are not to be timed
            started = time.perf_counter()
            jobs = [pool.submit(_make, Path(folder), index, kind) for index in range(patients)]
            peak = max(job.result() for job in jobs)
            rate = 60 * patients / (time.perf_counter() - started)
        held &= rate >= bound and peak < MAX_GB
        print(f"{name:<10} {rate:5.1f} patients a minute (bound {bound:.0f}), peak {peak:.2f} GB")
    sys.exit(not held)


if __name__ == "__main__":
    typer.run(main)
