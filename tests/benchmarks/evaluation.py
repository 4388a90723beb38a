"""Seconds and memory of the evaluation at full size: `python -m tests.benchmarks.evaluation`.

The masks have 512x512 voxels and as many slices as the challenge's scans, with a primary, two nodes
and a distant false lesion. They are evaluated as a submission of 400 cases in two processes. Most
cases are links to the same few masks, so the page cache speeds up reading. It does not speed up
decompression, which takes most of the reading time. The command fails if the evaluation exceeds
`MOST_SECONDS` or `MOST_GB`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import SimpleITK as sitk
import typer

from shared.conventions import Label, LabelVolume
from shared.geometry import Grid
from tests.evaluation.submission import SLUGS, Submission, image

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SLICES: Final = (135, 135, 200, 300)
"""Numbers of slices: 135 is the median of the challenge's training set, 300 a whole-body scan."""
IMAGES: Final = SLUGS["segmentation"][1]
SPACING_MM: Final = (0.98, 0.98, 3.27)
MOST_SECONDS: Final = 600
MOST_GB: Final = 4.0
SAMPLED_EVERY_S: Final = 0.2


def main(cases: int = 400, workers: int = 2) -> None:
    """Make the submission, evaluate it, and print seconds and memory."""
    with tempfile.TemporaryDirectory() as folder:
        submission = Submission(Path(folder))
        make(submission, cases)
        seconds, peak_gb = measure(submission, workers)
    print(f"{cases} cases of 512x512x{'/'.join(map(str, SLICES))} in {workers} processes")
    print(f"  {seconds:6.1f} s (at most {MOST_SECONDS}), {seconds / cases:.2f} s per case")
    print(f"  {peak_gb:6.2f} GB resident in all processes together (at most {MOST_GB:g})")
    raise SystemExit(0 if seconds <= MOST_SECONDS and peak_gb < MOST_GB else 1)


def make(submission: Submission, cases: int) -> None:
    """Write the files of a few cases; the files of all other cases are links to them."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        case_id = f"MDA-{number:03}"
        if number < len(SLICES):
            grid = Grid((512, 512, SLICES[number]), SPACING_MM, (0.0, 0.0, 0.0))
            truth, prediction = masks(grid, rng)
            submission.add_truth(case_id, image(truth, grid))
            mask = image(prediction, grid)
            folder = submission.add_job(case_id, "segmentation") / IMAGES
            folder.mkdir(parents=True)
            sitk.WriteImage(mask, str(folder / "output.mha"), useCompression=True)
            continue
        first = number % len(SLICES)
        os.link(
            submission.truth / f"masks/MDA-{first:03}.nii.gz",
            submission.truth / f"masks/{case_id}.nii.gz",
        )
        folder = submission.add_job(case_id, "segmentation") / IMAGES
        folder.mkdir(parents=True)
        os.link(
            submission.input / f"job-{first:03}/output" / IMAGES / "output.mha",
            folder / "output.mha",
        )
    submission.write()


def masks(grid: Grid, rng: np.random.Generator) -> tuple[LabelVolume, LabelVolume]:
    """Return a truth and a prediction that differs a little and has one false node."""
    truth, prediction = np.zeros((2, *grid.shape_zyx), np.uint8)
    middle = np.asarray(grid.shape_zyx) * np.asarray(grid.spacing_mm[::-1]) / 2
    lesions = ((Label.GTVP, (0, 0, 0), 18), (Label.GTVN, (-30, 10, 40), 11),
               (Label.GTVN, (-45, 20, -45), 9))  # fmt: skip
    for label, offset_mm, radius_mm in lesions:
        centre = middle + np.asarray(offset_mm)
        paint(truth, grid, centre, radius_mm, label)
        paint(prediction, grid, centre + rng.uniform(-3, 3, 3), radius_mm * 0.95, label)
    paint(prediction, grid, middle + np.array([-150, -80, 120]), 6, Label.GTVN)
    return truth, prediction


def paint(
    volume: LabelVolume, grid: Grid, centre_zyx_mm: np.ndarray, radius_mm: float, label: Label
) -> None:
    """Fill a ball."""
    spacing = np.asarray(grid.spacing_mm[::-1])
    start = np.maximum(0, (centre_zyx_mm - radius_mm) // spacing).astype(int)
    stop = (centre_zyx_mm + radius_mm) // spacing + 2
    box = tuple(slice(a, int(b)) for a, b in zip(start, stop, strict=True))
    part = volume[box]
    axes = (np.arange(n) + a for n, a in zip(part.shape, start, strict=True))
    distance = sum(
        ((index * step - c) ** 2
         for index, step, c in zip(np.ix_(*axes), spacing, centre_zyx_mm, strict=True)),
        np.zeros(()),
    )  # fmt: skip
    part[distance < radius_mm**2] = label


def measure(submission: Submission, workers: int) -> tuple[float, float]:
    """Return the seconds of the evaluation, and the peak memory of its processes together in GB."""
    command = [
        *(sys.executable, "-m", "evaluation.container", "--workers", str(workers)),
        *("--input", str(submission.input), "--truth", str(submission.truth)),
        *("--output", str(submission.root / "output")),
    ]
    start = time.perf_counter()
    process = psutil.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, resident_bytes(process))
        time.sleep(SAMPLED_EVERY_S)
    if process.returncode != 0:
        raise SystemExit(f"the evaluation ended with exit code {process.returncode}")
    return time.perf_counter() - start, peak_bytes / 1e9


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process and its children; shared pages count each time."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


if __name__ == "__main__":
    typer.run(main)
