"""Make the sample cases again: `python -m tests.cases`.

`./test_containers.sh --update-expected` then updates the expected outputs under `task*/test`.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.editions import CURRENT
from training.phantom import Kind, make_patient

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CASES: Final = REPOSITORY / "tests/cases"
SEED: Final = 2025
PET_STEP_SUV: Final = 1 / 32
"""PET values are rounded to this step, because finer noise only makes the files larger."""


def _tilt(degrees: float, flips: tuple[int, int, int]) -> tuple[float, ...]:
    """Return the direction cosines of a tilt about x, with some of the file's axes reversed."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return tuple((tilt * np.asarray(flips)).ravel().tolist())


KINDS: Final = {
    "whole_body": Kind(
        spacing_mm=(4.0, 4.0, 5.0), whole_body=True, primary=True, nodes=2, bqml=False, small=True
    ),
    "oblique_flipped": Kind(
        spacing_mm=(2.5, 2.5, 4.0),
        whole_body=False,
        primary=True,
        nodes=1,
        bqml=False,
        small=True,
        direction=_tilt(12, (-1, 1, -1)),
        pet_direction=_tilt(0, (1, -1, 1)),
    ),
    "no_primary": Kind(
        spacing_mm=(2.5, 2.5, 4.0), whole_body=False, primary=False, nodes=2, bqml=False, small=True
    ),
}


def make_cases() -> None:
    """Write the three sample cases."""
    for index, (name, kind) in enumerate(KINDS.items()):
        patient = make_patient(SEED, index, kind)
        folder = CASES / name
        shutil.rmtree(folder, ignore_errors=True)
        pet = np.round(sitk.GetArrayFromImage(patient.pet_suv) / PET_STEP_SUV) * PET_STEP_SUV
        pet_suv = sitk.GetImageFromArray(pet.astype(np.float32))
        pet_suv.CopyInformation(patient.pet_suv)
        for socket, image in ((CURRENT.ct, patient.ct_hu), (CURRENT.pet, pet_suv)):
            path = folder / "input" / socket.path / f"{name}.mha"
            path.parent.mkdir(parents=True)
            sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=9)
        _write_json(folder / "input" / CURRENT.ehr.path, patient.ehr)
        sitk.WriteImage(patient.labels, str(folder / "truth.nii.gz"), useCompression=True)
        outcome = {"hpv": patient.hpv, "relapse": patient.relapse, "rfs_days": patient.rfs_days}
        _write_json(folder / "truth.json", outcome)
        print(f"{name}: {_size_mb(folder):.1f} MB")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    make_cases()
