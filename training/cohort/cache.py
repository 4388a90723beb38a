"""Patients prepared once, and read from the cache in every epoch.

The cache holds what `prepare_patient` makes of each patient, in HU and SUV, as uncompressed float16
that is memory-mapped: a crop reads only its own pages. Intensities are scaled when a sample is
drawn, so one cache serves every configuration of one `Preparation`. float16 keeps eleven bits:
0.5 HU up to 1024, 2 HU in metal, half a thousandth of an SUV.

A cache belongs to one preparation and to the code that made it; any other is refused. A patient's
record is written last, so a run that is stopped at any time can resume. A patient who cannot be
used gets a finding instead of a record.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from shared.conventions import LabelVolume, Volume
from shared.errors import InputError
from shared.files import whole, write_first, write_whole
from shared.geometry import Grid
from shared.preprocessing.pipeline import Prepared, Undo
from shared.preprocessing.region import BODY_HU, Preparation
from shared.schema import Strict
from training.cohort.checks import check_images
from training.cohort.code_version import code_version
from training.cohort.findings import Finding, Problem
from training.cohort.layout import Cohort, Patient, read_cohort
from training.cohort.preparation import prepare_patient
from training.processes import is_first_process
from training.records import read_record

CACHE_RECORD: Final = "cache.json"
FINDING: Final = "finding.json"

BYTES_PER_VOXEL: Final = 2 * 2 + 1
"""CT and PET in float16, labels in uint8."""


class CacheRecord(Strict):
    """`cache.json`: what all patients of a cache have in common."""

    preparation: Preparation
    code: str


class PatientRecord(Strict):
    """`<ID>.json`: how one patient was prepared.

    Attributes
    ----------
    source_bytes : sizes of the patient's files, by which changes are noticed.
    region, ct : grids, see `Undo`.
    max_suv : highest SUV in the region.
    """

    source_bytes: dict[str, int]
    region: Grid
    ct: Grid
    max_suv: float


class FindingRecord(Strict):
    """`<ID>.finding.json`: why one patient could not be prepared from files of these sizes."""

    source_bytes: dict[str, int]
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class PreparedPatient:
    """One patient as the cache holds it.

    Attributes
    ----------
    image : float16, shape (2, z, y, x): CT in HU and PET in SUV, memory-mapped.
    labels : uint8, shape (z, y, x), memory-mapped; background if the patient has no label map.
    undo : the way back to the CT's grid.
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
        """Return the patient as serving sees a case, to the precision of the cache."""
        ct_hu: Volume = np.asarray(self.image[0], dtype=np.float32)
        pet_suv: Volume = np.asarray(self.image[1], dtype=np.float32)
        return Prepared(
            ct_hu=ct_hu, pet_suv=pet_suv, body=ct_hu > BODY_HU, undo=self.undo, remarks=()
        )


def prepare_cohort(
    folder: Path,
    cache: Path,
    preparation: Preparation,
    *,
    workers: int,
    skip_bad: bool = False,
) -> list[PreparedPatient]:
    """Read, check and prepare the cohort in a folder of the challenge's layout.

    Raises
    ------
    InputError
        See `read_cohort` and `build_cache`.
    """
    cohort = read_cohort(folder)
    if is_first_process():
        for remark in cohort.remarks:
            print(remark)
    return build_cache(cohort, cache, preparation, workers=workers, skip_bad=skip_bad)


def build_cache(
    cohort: Cohort,
    folder: Path,
    preparation: Preparation,
    *,
    workers: int,
    skip_bad: bool = False,
) -> list[PreparedPatient]:
    """Check and prepare the patients that the cache does not hold yet, and open all of them.

    Only the first process of a training fills the cache. Processes that Lightning starts itself
    begin after it; on a cluster that starts all at once, `python -m training prepare` must run
    before. With `skip_bad`, a patient with a finding in the cache is not examined again unless the
    size of a file has changed, so that all processes leave out the same patients; without it, the
    patient is examined again.

    Raises
    ------
    InputError
        If the folder holds a cache of another preparation or of other code, there is no room for
        it, a patient cannot be used and `skip_bad` is false, or this is not the first process and
        the cache is incomplete. Patients already prepared are kept.
    """
    _claim(folder, CacheRecord(preparation=preparation, code=code_version()))
    stages: list[Callable[[Sequence[Patient]], list[Finding]]] = [
        partial(_check_new, folder=folder, workers=workers),
        partial(_prepare_new, folder=folder, preparation=preparation, workers=workers),
    ]
    if not is_first_process():
        stages = [partial(_require_complete, folder=folder)]
    if skip_bad or not is_first_process():
        stages.insert(0, partial(_known_findings, folder=folder))
    for stage in stages:
        if cohort.findings and not skip_bad:
            break  # `usable` stops here; without the break it would do so hours later
        cohort = cohort.with_findings(stage(cohort.patients))
    return [_open(folder, patient) for patient in cohort.usable(skip_bad)]


def _known_findings(patients: Sequence[Patient], folder: Path) -> list[Finding]:
    """Return the findings that the cache holds about patients whose files have not changed."""
    findings = []
    for patient in patients:
        path = _path(folder, patient, FINDING)
        if path.exists() and not _is_prepared(folder, patient):
            record = read_record(FindingRecord, path)
            if record.source_bytes == _source_bytes(patient):
                findings.append(record.finding)
    return findings


def _require_complete(patients: Sequence[Patient], folder: Path) -> list[Finding]:
    missing = sum(not _is_prepared(folder, patient) for patient in patients)
    if missing:
        raise InputError(
            f"expected a complete cache in {folder}, found {missing} of {len(patients)} "
            "patients missing; run 'python -m training prepare' before several processes start"
        )
    return []


def _check_new(patients: Sequence[Patient], folder: Path, workers: int) -> list[Finding]:
    new = [patient for patient in patients if not _is_prepared(folder, patient)]
    return _keep(check_images(new, workers), folder, new)


def _prepare_new(
    patients: Sequence[Patient], folder: Path, preparation: Preparation, workers: int
) -> list[Finding]:
    new = [patient for patient in patients if not _is_prepared(folder, patient)]
    if not new:
        return []
    _require_room(folder, len(new), preparation)
    return _keep(_prepare_all(new, folder, preparation, workers), folder, new)


def _claim(folder: Path, record: CacheRecord) -> None:
    """Make the folder a cache for this preparation and code, or refuse one that is for another."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CACHE_RECORD
    write_first(path, record.model_dump_json(indent=2) + "\n")
    existing = read_record(CacheRecord, path)
    if existing != record:
        differing = [
            name
            for name in CacheRecord.model_fields
            if getattr(existing, name) != getattr(record, name)
        ]
        raise InputError(
            f"expected a cache of {record} in {folder}, found one of another "
            f"{' and '.join(differing)}, {existing}; give another folder of runs or delete this "
            "cache"
        )


def _require_room(folder: Path, count: int, preparation: Preparation) -> None:
    needed = count * int(np.prod(preparation.size_xyz)) * BYTES_PER_VOXEL
    free = shutil.disk_usage(folder).free
    print(
        f"cache: {count} patients to prepare, {needed / 1e9:.1f} GB in {folder}, where "
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
    work = partial(_prepare_into, folder=folder, preparation=preparation)
    with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(work, patient) for patient in patients]
        try:
            completed = as_completed(futures)
            for future in tqdm(completed, total=len(futures), desc="preparing", unit="patient"):
                finding = future.result()
                if finding is not None:
                    findings.append(finding)
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            count = sum(_is_prepared(folder, patient) for patient in patients)
            free = shutil.disk_usage(folder).free
            raise InputError(
                f"writing the cache in {folder} failed after {count} of {len(patients)} patients "
                f"({error}; {free / 1e9:.1f} GB free); these are kept: make room and start the "
                "same command again"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return findings


def _prepare_into(patient: Patient, folder: Path, preparation: Preparation) -> Finding | None:
    """Write one patient; the record comes last, so an interrupted run leaves no half patient."""

    def finding(problem: Problem, detail: str) -> Finding:
        return Finding(patient_id=patient.patient_id, problem=problem, detail=detail)

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        source_bytes = _source_bytes(patient)
        volumes = prepare_patient(patient, preparation)
    except OSError as error:
        return finding("unreadable", str(error))
    except (RuntimeError, InputError) as error:
        # SimpleITK's message has many lines; the last one says what happened.
        return finding("unusable", str(error).strip().splitlines()[-1][:300])
    record = PatientRecord(
        source_bytes=source_bytes,
        region=volumes.undo.region,
        ct=volumes.undo.ct,
        max_suv=float(volumes.image[1].max()),
    )
    _path(folder, patient, "json").unlink(missing_ok=True)
    for suffix, array in (("labels.npy", volumes.labels), ("image.npy", volumes.image)):
        with whole(_path(folder, patient, suffix)) as draft:
            np.save(draft, array)
    write_whole(_path(folder, patient, "json"), record.model_dump_json())
    _path(folder, patient, FINDING).unlink(missing_ok=True)
    return None


def _path(folder: Path, patient: Patient, suffix: str) -> Path:
    return folder / f"{patient.patient_id}.{suffix}"


def _source_bytes(patient: Patient) -> dict[str, int]:
    """Return the sizes of a patient's files; 0 for a file that is gone."""
    paths = {"CT": patient.ct, "PET": patient.pet, "labels": patient.labels}
    return {
        name: path.stat().st_size if path.exists() else 0
        for name, path in paths.items()
        if path is not None
    }


def _is_prepared(folder: Path, patient: Patient) -> bool:
    path = _path(folder, patient, "json")
    if not path.exists():
        return False
    record = read_record(PatientRecord, path)
    return record.source_bytes == _source_bytes(patient)


def _keep(findings: list[Finding], folder: Path, patients: Sequence[Patient]) -> list[Finding]:
    """Write findings into the cache, each with the sizes of the patient's files; return them."""
    by_id = {patient.patient_id: patient for patient in patients}
    for finding in findings:
        patient = by_id[finding.patient_id]
        record = FindingRecord(source_bytes=_source_bytes(patient), finding=finding)
        write_whole(_path(folder, patient, FINDING), record.model_dump_json())
    return findings


def _open(folder: Path, patient: Patient) -> PreparedPatient:
    record = read_record(PatientRecord, _path(folder, patient, "json"))
    return PreparedPatient(
        patient=patient,
        image=np.load(_path(folder, patient, "image.npy"), mmap_mode="r"),
        labels=np.load(_path(folder, patient, "labels.npy"), mmap_mode="r"),
        undo=Undo(record.region, record.ct),
        max_suv=record.max_suv,
    )
