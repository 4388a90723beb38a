"""Prepares each patient once, and reads the prepared patients from the cache in every epoch.

The cache holds the output of `prepare_patient` for each patient, in HU and SUV. The arrays are
uncompressed float16 and memory-mapped, so a crop reads only the pages that it needs. Intensities
are scaled later, when a sample is drawn, so configurations with the same `Preparation` can share
a cache. float16 has eleven significant bits: its steps are 0.5 HU up to 1024 HU, 2 HU in metal, and
0.001 at an SUV of 1.

A cache is refused if it was made with another preparation or with other code. The record of a
patient is written last, so a run that was stopped at any time can resume. A patient who cannot be
used has a finding instead of a record.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from shared.conventions import LabelVolume, Volume
from shared.errors import InputError
from shared.files import write_first
from shared.geometry import Grid
from shared.preprocessing.pipeline import Prepared, Undo
from shared.preprocessing.region import BODY_HU, Preparation
from training.cohort.cache_files import (
    CACHE_RECORD,
    FINDING,
    CacheRecord,
    FindingRecord,
    PatientRecord,
    is_prepared,
    keep_findings,
    patient_path,
    prepare_into,
    source_bytes,
)
from training.cohort.checks import Labels, examine_images
from training.cohort.code_version import code_version
from training.cohort.findings import Finding
from training.cohort.layout import Cohort, Patient, read_cohort
from training.cohort.pool import process_pool
from training.processes import is_first_process
from training.records import read_record

BYTES_PER_VOXEL: Final = 2 * 2 + 1
"""CT and PET in float16, labels in uint8."""


@dataclass(frozen=True, kw_only=True)
class PreparedPatient:
    """One patient as the cache stores it.

    Attributes
    ----------
    image : float16, shape (2, z, y, x): CT in HU and PET in SUV, memory-mapped.
    labels : uint8, shape (z, y, x), memory-mapped; all background if the patient has no label map.
    undo : how to map a volume back to the CT's grid.
    max_suv : highest SUV in the region.
    """

    patient: Patient
    image: NDArray[np.float16]
    labels: LabelVolume
    undo: Undo
    max_suv: float

    @property
    def patient_id(self) -> str:
        """The patient's ID."""
        return self.patient.patient_id

    def prepared(self) -> Prepared:
        """Return the patient in the form of a prepared case, with the precision of the cache."""
        ct_hu: Volume = np.asarray(self.image[0], dtype=np.float32)
        pet_suv: Volume = np.asarray(self.image[1], dtype=np.float32)
        return Prepared(
            ct_hu=ct_hu, pet_suv=pet_suv, body=ct_hu > BODY_HU, undo=self.undo, remarks=()
        )


Review: TypeAlias = Callable[[Sequence[PreparedPatient]], object]
"""Raises an error if a cohort cannot be used, before hours are spent on its preparation."""


def prepare_cohort(
    folder: Path,
    cache: Path,
    preparation: Preparation,
    *,
    workers: int,
    skip_bad: bool = False,
    review: Review | None = None,
) -> list[PreparedPatient]:
    """Read, check and prepare the cohort in a folder of the challenge's layout.

    Parameters
    ----------
    review : see `build_cache`.

    Raises
    ------
    InputError
        See `read_cohort` and `build_cache`.
    """
    cohort = read_cohort(folder)
    if is_first_process():
        for remark in cohort.remarks:
            print(remark)
    return build_cache(
        cohort, cache, preparation, workers=workers, skip_bad=skip_bad, review=review
    )


def build_cache(
    cohort: Cohort,
    folder: Path,
    preparation: Preparation,
    *,
    workers: int,
    skip_bad: bool = False,
    review: Review | None = None,
) -> list[PreparedPatient]:
    """Check and prepare the patients that the cache does not hold yet, and open all of them.

    Only the first process of a training run fills the cache. Lightning starts its other processes
    after that. If a cluster starts all processes at once, run `python -m training prepare` first.

    The cache keeps the findings too. With `skip_bad`, a patient with a finding is left out without
    another check, unless the size of one of the patient's files has changed. All processes thus
    leave out the same patients. Without `skip_bad`, the first process checks these patients again.

    Parameters
    ----------
    review : called in the first process with all patients, after their images are checked and
        before any is prepared; not called if all are prepared already. A patient who is not yet
        prepared has an empty image, and a label map with one voxel for each label. A lesion may
        still be lost on the grid of the region, so conclusions from the labels must be checked
        again after the preparation.

    Raises
    ------
    InputError
        - If the folder holds a cache that was made with another preparation or other code.
        - If the disk has too little space.
        - If a patient cannot be used and `skip_bad` is false.
        - If no patient can be used.
        - If this is not the first process and the cache is incomplete.
        - If `review` raises it.

        Patients that have been prepared stay in the cache.
    """
    _claim(folder, CacheRecord(preparation=preparation, code=code_version()))
    stages: list[Callable[[Sequence[Patient]], list[Finding]]] = [
        partial(_check_new, folder=folder, workers=workers, review=review, skip_bad=skip_bad),
        partial(_prepare_new, folder=folder, preparation=preparation, workers=workers),
    ]
    if not is_first_process():
        stages = [partial(_require_complete, folder=folder)]
    if skip_bad or not is_first_process():
        stages.insert(0, partial(_known_findings, folder=folder))
    for stage in stages:
        if cohort.findings and not skip_bad:
            break  # `usable` raises the error below; the next stage may take hours
        cohort = cohort.with_findings(stage(cohort.patients))
    return [_open(folder, patient) for patient in cohort.usable(skip_bad)]


def _known_findings(patients: Sequence[Patient], folder: Path) -> list[Finding]:
    """Return the findings in the cache about patients whose files have not changed."""
    findings = []
    for patient in patients:
        path = patient_path(folder, patient, FINDING)
        if path.exists() and not is_prepared(folder, patient):
            record = read_record(FindingRecord, path)
            if record.source_bytes == source_bytes(patient):
                findings.append(record.finding)
    return findings


def _require_complete(patients: Sequence[Patient], folder: Path) -> list[Finding]:
    missing = sum(not is_prepared(folder, patient) for patient in patients)
    if missing:
        raise InputError(
            f"expected a complete cache in {folder}, found {missing} of {len(patients)} "
            "patients missing; run 'python -m training prepare' before several processes start"
        )
    return []


def _check_new(
    patients: Sequence[Patient],
    folder: Path,
    workers: int,
    review: Review | None,
    skip_bad: bool,
) -> list[Finding]:
    new = [patient for patient in patients if not is_prepared(folder, patient)]
    examined = examine_images(new, workers)
    findings = [result for result in examined.values() if isinstance(result, Finding)]
    keep_findings(findings, folder, new)
    if review is not None and new and (skip_bad or not findings):
        labels = {name: each for name, each in examined.items() if not isinstance(each, Finding)}
        unusable = set(examined) - set(labels)
        review(
            [
                _unprepared(patient, labels[patient.patient_id])
                if patient.patient_id in labels
                else _open(folder, patient)
                for patient in patients
                if patient.patient_id not in unusable
            ]
        )
    return findings


def _unprepared(patient: Patient, labels: Labels) -> PreparedPatient:
    """Return a patient without an image, and with one voxel for each label."""
    grid = Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    return PreparedPatient(
        patient=patient,
        image=np.zeros((2, 0, 0, 0), np.float16),
        labels=np.array(labels, np.uint8).reshape(-1, 1, 1),
        undo=Undo(grid, grid),
        max_suv=0.0,
    )


def _prepare_new(
    patients: Sequence[Patient], folder: Path, preparation: Preparation, workers: int
) -> list[Finding]:
    new = [patient for patient in patients if not is_prepared(folder, patient)]
    if not new:
        return []
    _require_room(folder, len(new), preparation)
    return keep_findings(_prepare_all(new, folder, preparation, workers), folder, new)


def _claim(folder: Path, record: CacheRecord) -> None:
    """Write the cache's record, or check that an existing cache has the same record."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CACHE_RECORD
    write_first(path, record.model_dump_json(indent=2) + "\n")
    existing = read_record(CacheRecord, path)
    if existing != record:
        words = {"preparation": "preparation", "code": "version of the code"}
        differing = [
            word for name, word in words.items() if getattr(existing, name) != getattr(record, name)
        ]
        raise InputError(
            f"expected a cache with {record} in {folder}, found a cache with a different "
            f"{' and '.join(differing)}: {existing}; give another folder of runs or delete this "
            "cache"
        )


def patient_bytes(preparation: Preparation) -> int:
    """Return the size of a patient in the cache."""
    return int(np.prod(preparation.size_xyz)) * BYTES_PER_VOXEL


def _require_room(folder: Path, count: int, preparation: Preparation) -> None:
    needed = count * patient_bytes(preparation)
    free = shutil.disk_usage(folder).free
    print(
        f"cache: {count} patients to prepare need {needed / 1e9:.1f} GB in {folder}; "
        f"{free / 1e9:.1f} GB are free"
    )
    if needed > free:
        raise InputError(
            f"expected {needed / 1e9:.1f} GB free for the cache in {folder}, found "
            f"{free / 1e9:.1f} GB; free some space or give a folder of runs on another disk"
        )


def _prepare_all(
    patients: Sequence[Patient], folder: Path, preparation: Preparation, workers: int
) -> list[Finding]:
    findings = []
    work = partial(prepare_into, folder=folder, preparation=preparation)
    with process_pool(workers) as pool:
        futures = [pool.submit(work, patient) for patient in patients]
        try:
            completed = as_completed(futures)
            for future in tqdm(completed, total=len(futures), desc="preparing", unit="patient"):
                finding = future.result()
                if finding is not None:
                    findings.append(finding)
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            count = sum(is_prepared(folder, patient) for patient in patients)
            free = shutil.disk_usage(folder).free
            raise InputError(
                f"expected to write {len(patients)} patients to the cache in {folder}, but writing "
                f"failed after {count} ({error}; {free / 1e9:.1f} GB free); free some space and "
                f"run the same command again, which keeps these {count}"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return findings


def _open(folder: Path, patient: Patient) -> PreparedPatient:
    record = read_record(PatientRecord, patient_path(folder, patient, "json"))
    return PreparedPatient(
        patient=patient,
        image=np.load(patient_path(folder, patient, "image.npy"), mmap_mode="r"),
        labels=np.load(patient_path(folder, patient, "labels.npy"), mmap_mode="r"),
        undo=Undo(record.region, record.ct),
        max_suv=record.max_suv,
    )
