"""A script that calls `train`, without `if __name__ == "__main__":`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from tests.training.synthetic import TINY

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
from pathlib import Path

from shared.errors import HecktorError
from training.tasks.segmentation import Segmentation
from training.train import Options, train

print("the script begins")
try:
    train(Segmentation(), Path("cohort"), Path("runs"), Options(configuration="{configuration}"))
except HecktorError as error:
    print(error)
"""


def write_cohort(folder: Path, patients: int) -> None:
    """Write patients of 512 voxels who have a primary tumour and no node."""
    names = [f"MDA-{number:03d}" for number in range(patients)]
    for name in names:
        place = folder / "Task 1" / name
        place.mkdir(parents=True)
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2:4, 2:4, 2:4] = 1
        for file, voxels in (("__CT", labels * 0.5), ("__PT", labels * 0.5), ("", labels)):
            image = sitk.GetImageFromArray(voxels)
            sitk.WriteImage(image, str(place / f"{name}{file}.nii.gz"))
    pd.DataFrame({"PatientID": names}).to_csv(
        folder / "HECKTOR_2025_Training_Task_1.csv", index=False
    )


@pytest.mark.slow  # CI runs it in a step of its own
def test_processes_do_not_run_the_script_and_label_maps_are_judged_before_the_preparation(
    tmp_path: Path,
) -> None:
    write_cohort(tmp_path / "cohort", 40)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(configuration=TINY))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, *_, last = done.stdout.splitlines()
    assert first == "the script begins"
    assert done.stdout.count(first) == 1
    assert last.startswith("fold 0: expected a patient with GTVn among the 4 training patients, fo")
    assert "Error" not in done.stderr
    assert not list((tmp_path / "runs/cache").glob("*.npy"))
