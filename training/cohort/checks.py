"""Checks the headers, grids and labels of a cohort's images before anything is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from shared.conventions import Label
from shared.geometry import Grid
from training.cohort.findings import Finding, Problem
from training.cohort.layout import Patient


def check_images(patients: Sequence[Patient], workers: int) -> list[Finding]:
    """Check the images of patients, and return one finding for each patient with a problem.

    This reads the headers of CT and PET and the whole label map, in about 10 ms per patient. Damage
    after a header is detected later, when the patient is prepared.
    """
    if not patients:
        return []
    with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn")) as pool:
        results = pool.map(_check, patients, chunksize=8)
        findings = list(tqdm(results, total=len(patients), desc="checking", disable=None))
    return [finding for finding in findings if finding is not None]


def _check(patient: Patient) -> Finding | None:
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
        return None
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
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    unknown = sorted(set(values.tolist()) - set(Label))
    if unknown:
        return finding("unknown label", f"found {unknown[:5]}, expected 0, 1, 2")
    return None
