"""Reads and writes the files of the cache.

There is one record for the whole cache. Each patient has a record with two arrays, or a finding.

Worker processes import this module, so it imports neither torch nor Lightning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.errors import InputError
from shared.files import whole, write_whole
from shared.geometry import Grid
from shared.preprocessing.region import Preparation
from shared.schema import Strict
from training.cohort.findings import Finding, Problem
from training.cohort.layout import Patient
from training.cohort.preparation import prepare_patient
from training.records import read_record

CACHE_RECORD: Final = "cache.json"
FINDING: Final = "finding.json"


class CacheRecord(Strict):
    """`cache.json`: the preparation, and the hash of the code that prepared the patients."""

    preparation: Preparation
    code: str


class PatientRecord(Strict):
    """`<ID>.json`: how one patient was prepared.

    Attributes
    ----------
    source_bytes : sizes of the patient's files; if a size differs, the patient is prepared again.
    region, ct : the grids of `Undo`.
    max_suv : highest SUV in the region.
    """

    source_bytes: dict[str, int]
    region: Grid
    ct: Grid
    max_suv: float


class FindingRecord(Strict):
    """`<ID>.finding.json`: why one patient cannot be used, and the sizes of the files."""

    source_bytes: dict[str, int]
    finding: Finding


def prepare_into(patient: Patient, folder: Path, preparation: Preparation) -> Finding | None:
    """Prepare one patient and write the files, or return a finding.

    The record is written last, so an interrupted run leaves no incomplete patient.
    """

    def finding(problem: Problem, detail: str) -> Finding:
        return Finding(patient_id=patient.patient_id, problem=problem, detail=detail)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        sizes = source_bytes(patient)
        volumes = prepare_patient(patient, preparation)
    except OSError as error:
        return finding("unreadable", str(error))
    except (RuntimeError, InputError) as error:
        # SimpleITK's message has many lines; the last line says what happened.
        return finding("unusable", str(error).strip().splitlines()[-1][:300])
    record = PatientRecord(
        source_bytes=sizes,
        region=volumes.undo.region,
        ct=volumes.undo.ct,
        max_suv=float(volumes.image[1].max()),
    )
    patient_path(folder, patient, "json").unlink(missing_ok=True)
    for suffix, array in (("labels.npy", volumes.labels), ("image.npy", volumes.image)):
        with whole(patient_path(folder, patient, suffix)) as draft:
            np.save(draft, array)
    write_whole(patient_path(folder, patient, "json"), record.model_dump_json())
    patient_path(folder, patient, FINDING).unlink(missing_ok=True)
    return None


def patient_path(folder: Path, patient: Patient, suffix: str) -> Path:
    """Return the path of one of a patient's files in the cache."""
    return folder / f"{patient.patient_id}.{suffix}"


def source_bytes(patient: Patient) -> dict[str, int]:
    """Return the sizes of a patient's files; 0 for a file that no longer exists."""
    paths = {"CT": patient.ct, "PET": patient.pet, "labels": patient.labels}
    return {
        name: path.stat().st_size if path.exists() else 0
        for name, path in paths.items()
        if path is not None
    }


def is_prepared(folder: Path, patient: Patient) -> bool:
    """Return whether the cache holds a patient who was prepared from files of the same sizes."""
    path = patient_path(folder, patient, "json")
    if not path.exists():
        return False
    record = read_record(PatientRecord, path)
    return record.source_bytes == source_bytes(patient)


def keep_findings(
    findings: list[Finding], folder: Path, patients: Sequence[Patient]
) -> list[Finding]:
    """Write findings to the cache, with the sizes of the patients' files, and return them."""
    by_id = {patient.patient_id: patient for patient in patients}
    for finding in findings:
        patient = by_id[finding.patient_id]
        record = FindingRecord(source_bytes=source_bytes(patient), finding=finding)
        write_whole(patient_path(folder, patient, FINDING), record.model_dump_json())
    return findings
