"""SUV of digital reference objects: `python -m tests.benchmarks.suv DRO`.

DRO is the folder of that name in github.com/oncoray/suv_computation (Vácha et al. 2026, CC BY 4.0):
PETs of one phantom, stored with different units, decay corrections, slopes and times.
`DRO_list.csv` states the lowest, median and highest SUV in the phantom, which are the same for all
objects. The command fails if these values of a converted object are not correct to two decimals. It
lists the objects that are refused.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import SimpleITK as sitk
import typer

from prediction.case_files import read_dicom_pet
from shared.errors import InputError


def main(
    folder: Annotated[Path, typer.Argument(help="The folder DRO of the reference objects.")],
) -> None:
    """Print how many objects are converted to the expected SUV."""
    right: list[str] = []
    wrong: list[str] = []
    refused: list[str] = []
    with (folder / "DRO_list.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    for row in rows:
        name = row["ID"]
        expected = [float(row[f"SUV{key}_expected"]) for key in ("min", "med", "max")]
        try:
            pet = read_dicom_pet(folder / name).image
        except InputError as error:
            refused.append(name)
            print(f"{name}  refused: {error}")
            continue
        mask = sitk.ReadImage(str(folder / name / "mask/DRO_mask.nii.gz"))
        suv = sitk.GetArrayFromImage(pet)[sitk.GetArrayFromImage(mask) > 0]
        values = [float(value) for value in (suv.min(), np.median(suv), suv.max())]
        is_right = np.abs(np.subtract(values, expected)).max() <= 0.005
        (right if is_right else wrong).append(name)
        print(f"{name}  {' '.join(f'{value:.3f}' for value in values)}  {row['Description']}")
    print(f"{len(right)} of {len(rows)} right, {len(refused)} refused, {len(wrong)} wrong")
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
