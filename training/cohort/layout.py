"""The challenge's training data: indexed from its tables, and checked before it is used.

What cannot be trained on is a `Finding`. Findings are collected, so that one look at a cohort shows
all that is wrong with it; `usable` then stops with their table, or leaves those patients out. What
is merely odd (an age that two tables give differently) is a remark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from shared.clinical import EHR_VARIABLES, ClinicalRecord, parse_ehr
from shared.conventions import Label
from shared.errors import InputError
from shared.geometry import Grid

TASKS: Final = (1, 2, 3)

Problem: TypeAlias = Literal[
    "duplicate ID", "missing file", "unreadable", "other grid", "unknown label", "unusable"
]


@dataclass(frozen=True)
class Finding:
    """Why a patient cannot be trained on."""

    patient_id: str
    problem: Problem
    detail: str


@dataclass(frozen=True)
class PatientFiles:
    """One patient of the challenge's layout.

    Attributes
    ----------
    labels : None where Task 1 does not have the patient.
    hpv : HPV status, None where unknown.
    relapse, rfs_days : recurrence observed, and time to it or to the end of follow-up; None where
        Task 2 does not have the patient.
    """

    patient_id: str
    ct: Path
    pet: Path
    labels: Path | None
    clinical: ClinicalRecord
    hpv: bool | None
    relapse: bool | None
    rfs_days: float | None

    @property
    def centre(self) -> str:
        """The centre: what the ID has before its number, or the table's CenterID."""
        named = re.fullmatch(r"(.*\D)[-_]\d+", self.patient_id)
        if named:
            return named[1]
        number = self.clinical.centre_id
        return "unknown" if number is None else f"{number:g}"


@dataclass(frozen=True)
class Cohort:
    """What a folder in the challenge's layout holds.

    Attributes
    ----------
    patients : those whose files are there, by ID.
    findings : of the other patients.
    remarks : what is odd in the tables, for the log.
    """

    patients: tuple[PatientFiles, ...]
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def index_cohort(folder: Path, skip_bad: bool = False) -> list[PatientFiles]:
    """List the patients of a folder in the challenge's layout, by ID; no image is opened.

    Raises
    ------
    InputError
        If there is no table, or a patient has findings and `skip_bad` is false.
    """
    cohort = read_cohort(folder)
    return usable(cohort.patients, cohort.findings, skip_bad)


def read_cohort(folder: Path) -> Cohort:
    """Read the tables of a folder in the challenge's layout and look for each patient's files.

    A patient may appear under several tasks: images are those of the first, labels those of
    Task 1, and a value is the first that a table knows: what a later table leaves empty does not
    erase it.

    Raises
    ------
    InputError
        If there is no table, or one cannot be read or has no column PatientID.
    """
    rows: dict[str, dict[str, object]] = {}
    tasks: dict[str, list[int]] = {}
    findings: dict[str, Finding] = {}
    remarks: list[str] = []
    for task, table in _tables(folder):
        names = [str(row["PatientID"]) for row in table]
        for name, count in Counter(names).items():
            if count > 1:
                findings[name] = Finding(name, "duplicate ID", f"{count} rows in Task {task}")
        for name, row in zip(names, table, strict=True):
            known = rows.setdefault(name, {})
            tasks.setdefault(name, []).append(task)
            for column, value in row.items():
                if pd.isna(value):
                    continue
                first = known.setdefault(str(column), value)
                if first != value and str(first) != str(value):
                    remarks.append(
                        f"{name}: {column} is {first} in an earlier table and {value} in that of "
                        f"Task {task}; the first is taken"
                    )
    patients = []
    for name in sorted(rows):
        if name in findings:
            continue
        found, patient_remarks = _patient(folder, name, rows[name], tasks[name])
        remarks += patient_remarks
        if isinstance(found, Finding):
            findings[name] = found
        else:
            patients.append(found)
    return Cohort(tuple(patients), tuple(findings[n] for n in sorted(findings)), tuple(remarks))


def _tables(folder: Path) -> list[tuple[int, list[dict[str, object]]]]:
    """Return the rows of each task's table, which lies in the folder or in that of its task."""
    found = []
    for task in TASKS:
        path = folder / f"HECKTOR_2025_Training_Task_{task}.csv"
        if not path.is_file():
            path = folder / f"Task {task}" / path.name
        if not path.is_file():
            continue
        try:
            # IDs are texts, even where they look like numbers: 007 is not 7.
            table = pd.read_csv(path, dtype={"PatientID": str})
        except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
            raise InputError(
                f"expected a table in {path}, but it cannot be read: {error}"
            ) from None
        if "PatientID" not in table.columns:
            raise InputError(
                f"expected a column PatientID in {path}, found {', '.join(map(str, table.columns))}"
            )
        rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
        found.append((task, [row for row in rows if not pd.isna(row["PatientID"])]))
    if not any(rows for _, rows in found):
        raise InputError(
            f"expected HECKTOR_2025_Training_Task_N.csv with patients in {folder} or its folders "
            "Task N, found none; give the folder that holds the challenge's training data"
        )
    return found


def _patient(
    folder: Path, name: str, row: dict[str, object], tasks: Sequence[int]
) -> tuple[PatientFiles | Finding, list[str]]:
    places = [folder / f"Task {task}" / name for task in tasks]
    images = next((place for place in places if place.is_dir()), places[0])
    ct, pet = images / f"{name}__CT.nii.gz", images / f"{name}__PT.nii.gz"
    labels = folder / "Task 1" / name / f"{name}.nii.gz"
    # A folder of Task 1 that is not there at all means that only other tasks were downloaded.
    is_labelled = labels.is_file() or (1 in tasks and (folder / "Task 1").is_dir())
    for path in (ct, pet, labels) if is_labelled else (ct, pet):
        if not path.is_file():
            return Finding(name, "missing file", str(path.relative_to(folder))), []
    ehr = {column: value for column, value in row.items() if column in EHR_VARIABLES}
    clinical, remarks = parse_ehr(ehr)
    notes = [f"{name}: {remark}" for remark in remarks]
    hpv, relapse = (_boolean(row.get(column)) for column in ("HPV Status", "Relapse"))
    days = pd.to_numeric(row.get("RFS"), errors="coerce")
    for column, value in (("HPV Status", hpv), ("Relapse", relapse), ("RFS", days)):
        if column in row and pd.isna(value):
            notes.append(f"{name}: {column}: {row[column]!r} is not understood; taken as missing")
    rfs_days = None if pd.isna(days) else float(days)
    found = PatientFiles(
        name, ct, pet, labels if is_labelled else None, clinical, hpv, relapse, rfs_days
    )
    return found, notes


def _boolean(value: object) -> bool | None:
    """Return a yes or no of a table; None where it is empty or neither.

    A column with a single text in it is read as texts, and the text '0' is not true by itself.
    """
    if value is None or pd.isna(value):
        return None
    text = str(value).strip().lower()
    codes = {"1": True, "1.0": True, "true": True, "yes": True, "positive": True,
             "0": False, "0.0": False, "false": False, "no": False, "negative": False}  # fmt: skip
    return codes.get(text)


def check_images(patients: Sequence[PatientFiles], workers: int) -> list[Finding]:
    """Open the images of patients and return what is wrong with them.

    Headers of CT and PET are read, and all of the label maps: it takes a hundredth of a second a
    patient. An image that is damaged behind its header is found when it is prepared.
    """
    if not patients:
        return []
    with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn")) as pool:
        found = pool.map(_check, patients, chunksize=8)
        checked = list(tqdm(found, total=len(patients), desc="checking", disable=None))
    return [finding for finding in checked if finding is not None]


def _check(patient: PatientFiles) -> Finding | None:
    name = patient.patient_id
    grids = {}
    for path in (patient.ct, patient.pet):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return Finding(name, "unreadable", f"{path.name} is no image")
        if len(reader.GetSize()) != 3:
            return Finding(name, "unreadable", f"{path.name} has {len(reader.GetSize())} axes")
        grids[path] = Grid(
            reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
        )
    if patient.labels is None:
        return None
    try:
        labels = sitk.ReadImage(str(patient.labels))
    except RuntimeError:
        return Finding(name, "unreadable", f"{patient.labels.name} cannot be read")
    ct, found = grids[patient.ct], Grid.of(labels)
    if not found.is_close(ct):
        detail = (
            f"mask of {found.size_xyz} voxels, CT of {ct.size_xyz}"
            if found.size_xyz != ct.size_xyz
            else f"corners of mask and CT are up to {found.distance_mm(ct):.3g} mm apart"
        )
        return Finding(name, "other grid", detail)
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    unknown = sorted(set(values.tolist()) - set(Label))
    if unknown:
        return Finding(name, "unknown label", f"found {unknown[:5]}, expected 0, 1, 2")
    return None


def usable(
    patients: Sequence[PatientFiles], findings: Sequence[Finding], skip_bad: bool
) -> list[PatientFiles]:
    """Return the patients without findings; print the table of those that are left out.

    Raises
    ------
    InputError
        With the table, if there are findings and `skip_bad` is false, or no patient is left.
    """
    bad = {finding.patient_id for finding in findings}
    left = [patient for patient in patients if patient.patient_id not in bad]
    if findings:
        print(table_of(findings))
    if findings and not skip_bad:
        first = findings[0]
        raise InputError(
            f"{len(bad)} of the patients cannot be used (table above; first: {first.patient_id}: "
            f"{first.problem}, {first.detail}); mend them, or leave them out with --skip-bad"
        )
    if not left:
        raise InputError(f"expected patients to work with, found none; {len(bad)} were left out")
    return left


def table_of(findings: Sequence[Finding]) -> str:
    """Return findings as a table of text, one a line."""
    lines = [("patient", "problem", "detail")]
    lines += [(f.patient_id, f.problem, f.detail) for f in findings]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in lines)
