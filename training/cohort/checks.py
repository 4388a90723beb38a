"""Checks the headers, grids and labels of a cohort's images before anything is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from shared.conventions import Label
from shared.geometry import Grid
from training.cohort.findings import Finding, Problem
from training.cohort.layout import Patient
from training.cohort.pool import process_pool

Labels: TypeAlias = tuple[int, ...]
"""The values in a label map, in order; empty without a label map."""


def check_images(patients: Sequence[Patient], workers: int) -> list[Finding]:
    """Check the images of patients, and return one finding for each patient with a problem."""
    results = examine_images(patients, workers).values()
    return [result for result in results if isinstance(result, Finding)]


def examine_images(patients: Sequence[Patient], workers: int) -> dict[str, Finding | Labels]:
    """Check the images of patients.

    This reads the headers of CT and PET and the whole label map, in about 10 ms per patient. Damage
    after a header is detected later, when the patient is prepared.

    Returns
    -------
    By ID, a finding or, without a problem, the labels of the patient.
    """
    if not patients:
        return {}
    with process_pool(workers) as pool:
        results = pool.map(_check, patients, chunksize=8)
        examined = list(tqdm(results, total=len(patients), desc="checking", disable=None))
    names = [patient.patient_id for patient in patients]
    return dict(zip(names, examined, strict=True))


def _check(patient: Patient) -> Finding | Labels:
    def finding(problem: Problem, detail: str) -> Finding:
        return Finding(patient_id=patient.patient_id, problem=problem, detail=detail)

    grids = {}
    for path in (patient.ct, patient.pet):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return finding("unreadable", f"{path.name} is not an image")
        if len(reader.GetSize()) != 3:
            return finding("unreadable", f"{path.name} has {len(reader.GetSize())} axes")
        grids[path] = Grid(
            reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
        )
    if patient.labels is None:
        return ()
    try:
        labels = sitk.ReadImage(str(patient.labels))
    except RuntimeError:
        return finding("unreadable", f"{patient.labels.name} cannot be read")
    ct_grid, labels_grid = grids[patient.ct], Grid.of(labels)
    if not labels_grid.is_close(ct_grid):
        detail = (
            f"mask of {labels_grid.size_xyz} voxels, CT of {ct_grid.size_xyz}"
            if labels_grid.size_xyz != ct_grid.size_xyz
            else f"corners of mask and CT are up to {labels_grid.distance_mm(ct_grid):.3g} mm apart"
        )
        return finding("other grid", detail)
    values = tuple(np.unique(sitk.GetArrayViewFromImage(labels)).tolist())
    unknown = sorted(set(values) - set(Label))
    if unknown:
        return finding("unknown label", f"found {unknown[:5]}, expected 0, 1, 2")
    return values
