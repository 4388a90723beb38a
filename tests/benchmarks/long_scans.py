"""Task 1 on long scans: `python -m tests.benchmarks.long_scans`.

Task 1's container program segments two cases, from the input files to the mask on disk: a CT of
1330 mm, and a CT of 512x512x1500 voxels, each with a PET. The command prints seconds and peak
memory, and fails if the peak exceeds 6 GB or the mask is not on the CT's grid.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
import typer

from evaluation.running.logs import peak_memory_gb
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.images import open_image

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MEMORY_LIMIT_GB: Final = 6.0
CTS: Final = {
    "1330 mm": Grid((512, 512, 407), (0.98, 0.98, 3.27), (-250.0, -250.0, -1330.0)),
    "1500 slices": Grid((512, 512, 1500), (0.98, 0.98, 1.0), (-250.0, -250.0, -1500.0)),
}


def make_case(folder: Path, ct_grid: Grid) -> None:
    """Write a case: a noisy cylinder with an ellipsoidal skull near its upper end."""
    rng = np.random.default_rng(0)
    (x, y, z), length_mm = ct_grid.size_xyz, ct_grid.size_xyz[2] * ct_grid.spacing_mm[2]
    across, along = np.mgrid[:y, :x]
    radius_mm = ct_grid.spacing_mm[0] * np.hypot(along - x / 2, across - y / 2)
    noise = rng.normal(30, 20, (8, y, x))
    volume = np.full((z, y, x), -1000, np.int16)
    for index in range(z):
        from_top_mm = (z - 1 - index) * ct_grid.spacing_mm[2]
        body_mm = 90.0 if from_top_mm < 300 else 180.0
        volume[index][radius_mm < body_mm] = noise[index % 8][radius_mm < body_mm]
        skull = np.hypot(radius_mm / 80, (from_top_mm - 90) / 85)
        volume[index][(skull > 0.92) & (skull < 1)] = 900
    ct = ct_grid.image(volume)
    size = int(length_mm / 4)
    pet_grid = Grid((128, 128, size), (4.0, 4.0, 4.0), (-250.0, -250.0, ct_grid.origin_mm[2]))
    uptake = rng.gamma(3, 0.25, (size, 128, 128)).astype(np.float32)
    for name, image in (("ct", ct), ("pet", pet_grid.image(uptake))):
        path = folder / "images" / name / f"{name}.mha"
        path.parent.mkdir(parents=True)
        sitk.WriteImage(image, str(path), useCompression=True)
    (folder / "ehr.json").write_text(json.dumps({"Age": 60}), encoding="utf-8")


def run() -> None:
    """Measure both scans."""
    is_within = True
    for name, grid in CTS.items():
        with tempfile.TemporaryDirectory() as folder:
            case, output = Path(folder, "input"), Path(folder, "output")
            make_case(case, grid)
            command = [sys.executable, "task1_segmentation/inference.py"]
            started = time.perf_counter()
            process = subprocess.run(
                [*command, "--input", str(case), "--output", str(output)],
                cwd=REPOSITORY,
                env={"PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - started
            if process.returncode:
                raise SystemExit(f"{name}: {process.stderr}")
            mask = open_image(output / CURRENT.outputs["segmentation"].path)
            peak_gb = peak_memory_gb(process.stdout) or float("inf")
        is_on_grid = mask.grid == grid
        is_within &= is_on_grid and peak_gb < MEMORY_LIMIT_GB
        print(
            f"{name}: {seconds:.0f} s, peak {peak_gb:.2f} GB (at most {MEMORY_LIMIT_GB:g} GB), "
            f"mask {'on' if is_on_grid else 'NOT ON'} the CT's grid"
        )
    raise SystemExit(0 if is_within else 1)


if __name__ == "__main__":
    typer.run(run)
