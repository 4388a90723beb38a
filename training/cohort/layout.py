"""Reads the challenge's training data: one table per task and one folder per patient.

`read_cohort` reads the tables and looks for each patient's files; no image is opened. A patient who
cannot be used becomes a `Finding`, so one run reports all problems of a cohort. Something unusual
that does no harm, such as an age that differs between two tables, becomes a remark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from shared.clinical import EHR_VARIABLES, ClinicalRecord, parse_ehr
from shared.errors import InputError
from training.cohort.findings import Finding, table_of

TASK_NUMBERS: Final = (1, 2, 3)
"""The numbers of the tasks that HECKTOR 2025 has tables for. To read one more table, add its number
here and its outcome to `Patient`."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One patient of a cohort: files, clinical record and outcomes.

    Attributes
    ----------
    labels : the label map; None if the patient is not in Task 1.
    hpv : HPV status; None if unknown.
    relapse, rfs_days : whether recurrence was observed, and the time to recurrence or to the end of
        follow-up; None if unknown.
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
        """The part of the ID before its number, or else the table's CenterID."""
        match = re.fullmatch(r"(.*\D)[-_]\d+", self.patient_id)
        if match:
            return match[1]
        number = self.clinical.centre_id
        return "unknown" if number is None else f"{number:g}"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The usable patients of a cohort, and the findings about the other patients.

    Attributes
    ----------
    patients : the patients without a finding, sorted by ID.
    findings : why the other patients cannot be used.
    remarks : unusual values in the tables, for the log.
    """

    patients: tuple[Patient, ...]
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()

    def with_findings(self, findings: Sequence[Finding]) -> Cohort:
        """Return the cohort with more findings, and without the patients that these are about."""
        bad = {finding.patient_id for finding in findings}
        return replace(
            self,
            patients=tuple(p for p in self.patients if p.patient_id not in bad),
            findings=(*self.findings, *findings),
        )

    def usable(self, skip_bad: bool) -> list[Patient]:
        """Return the patients without findings; print the table of the findings, if any.

        Raises
        ------
        InputError
            If there are findings and `skip_bad` is false, or no patient is left.
        """
        count = len({finding.patient_id for finding in self.findings})
        if self.findings:
            print(table_of(self.findings))
        if self.findings and not skip_bad:
            first = self.findings[0]
            raise InputError(
                f"{count} of the patients cannot be used (table above; first: {first.patient_id}: "
                f"{first.problem}, {first.detail}); fix them, or skip bad patients"
            )
        if not self.patients:
            raise InputError(f"expected usable patients, found none; {count} have findings")
        return list(self.patients)


def index_cohort(folder: Path, skip_bad: bool = False) -> list[Patient]:
    """Return the patients of a folder in the challenge's layout, by ID; no image is opened.

    Raises
    ------
    InputError
        See `read_cohort` and `Cohort.usable`.
    """
    return read_cohort(folder).usable(skip_bad)


def read_cohort(folder: Path) -> Cohort:
    """Read the tables of a folder in the challenge's layout and look for each patient's files.

    A patient may appear under several tasks. The images are those of the first of these tasks, and
    the labels those of Task 1. If several tables give a value, the first one is used; an empty cell
    in a later table does not erase it.

    Raises
    ------
    InputError
        If there is no table, or a table cannot be read or has no column PatientID.
    """
    rows: dict[str, dict[str, object]] = {}
    tasks: dict[str, list[int]] = {}
    findings: dict[str, Finding] = {}
    remarks: list[str] = []
    for task, table in _tables(folder):
        names = [str(row["PatientID"]) for row in table]
        for name, count in Counter(names).items():
            if count > 1:
                findings[name] = Finding(
                    patient_id=name,
                    problem="duplicate ID",
                    detail=f"{count} rows in the table of Task {task}",
                )
        for name, row in zip(names, table, strict=True):
            values = rows.setdefault(name, {})
            tasks.setdefault(name, []).append(task)
            for column, value in row.items():
                if pd.isna(value):
                    continue
                first = values.setdefault(str(column), value)
                if first != value and str(first) != str(value):
                    remarks.append(
                        f"{name}: {column} is {first} in an earlier table and {value} in the table "
                        f"of Task {task}; {first} is used"
                    )
    patients = []
    for name in sorted(rows):
        if name in findings:
            continue
        patient, patient_remarks = _patient(folder, name, rows[name], tasks[name])
        remarks += patient_remarks
        if isinstance(patient, Finding):
            findings[name] = patient
        else:
            patients.append(patient)
    return Cohort(
        patients=tuple(patients),
        findings=tuple(findings[name] for name in sorted(findings)),
        remarks=tuple(remarks),
    )


def _tables(folder: Path) -> list[tuple[int, list[dict[str, object]]]]:
    """Return the rows of each task's table, which is in the folder or its subfolder `Task N`."""
    tables = []
    for task in TASK_NUMBERS:
        path = folder / f"HECKTOR_2025_Training_Task_{task}.csv"
        if not path.is_file():
            path = folder / f"Task {task}" / path.name
        if not path.is_file():
            continue
        try:
            # IDs are texts even if they look like numbers: 007 is not 7.
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
        tables.append((task, [row for row in rows if not pd.isna(row["PatientID"])]))
    if not any(rows for _, rows in tables):
        raise InputError(
            f"expected HECKTOR_2025_Training_Task_N.csv with patients in {folder} or its folders "
            "Task N, found none; give the folder that holds the challenge's training data"
        )
    return tables


def _patient(
    folder: Path, name: str, row: dict[str, object], tasks: Sequence[int]
) -> tuple[Patient | Finding, list[str]]:
    places = [folder / f"Task {task}" / name for task in tasks]
    images = next((place for place in places if place.is_dir()), places[0])
    ct, pet = images / f"{name}__CT.nii.gz", images / f"{name}__PT.nii.gz"
    labels = folder / "Task 1" / name / f"{name}.nii.gz"
    # If there is no folder of Task 1 at all, only other tasks were downloaded.
    is_labelled = labels.is_file() or (1 in tasks and (folder / "Task 1").is_dir())
    for path in (ct, pet, labels) if is_labelled else (ct, pet):
        if not path.is_file():
            detail = str(path.relative_to(folder))
            return Finding(patient_id=name, problem="missing file", detail=detail), []
    ehr = {column: value for column, value in row.items() if column in EHR_VARIABLES}
    clinical, remarks = parse_ehr(ehr)
    notes = [f"{name}: {remark}" for remark in remarks]
    hpv, relapse = (_boolean(row.get(column)) for column in ("HPV Status", "Relapse"))
    days = pd.to_numeric(row.get("RFS"), errors="coerce")
    for column, value in (("HPV Status", hpv), ("Relapse", relapse), ("RFS", days)):
        if column in row and pd.isna(value):
            notes.append(f"{name}: {column}: {row[column]!r} is not understood; treated as missing")
    patient = Patient(
        patient_id=name,
        ct=ct,
        pet=pet,
        labels=labels if is_labelled else None,
        clinical=clinical,
        hpv=hpv,
        relapse=relapse,
        rfs_days=None if pd.isna(days) else float(days),
    )
    return patient, notes


def _boolean(value: object) -> bool | None:
    """Return the Boolean of a table's cell; None if the cell is empty or holds something else.

    A single text in a column makes pandas read the whole column as texts, so '0' must be handled.
    """
    if value is None or pd.isna(value):
        return None
    text = str(value).strip().lower()
    codes = {"1": True, "1.0": True, "true": True, "yes": True, "positive": True,
             "0": False, "0.0": False, "false": False, "no": False, "negative": False}  # fmt: skip
    return codes.get(text)
