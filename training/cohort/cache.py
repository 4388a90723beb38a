"""Patients prepared once, and read from there in every epoch.

The cache holds what `shared.preprocessing.prepare` makes of each patient, in HU and SUV, as
uncompressed float16 that is memory-mapped: a crop reads only its own pages. Intensities are scaled
when a sample is drawn, so one cache serves every configuration of one `Preparation`. float16 keeps
eleven bits: 0.5 HU up to 1024, 2 HU in metal, half a thousandth of an SUV.

A cache belongs to one preparation and to the code that made it; another one is refused. A
patient's record is written last, so that a run stopped at any time goes on where it was. A patient
that cannot be used leaves a finding in place of a record.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from shared.case import Case
from shared.conventions import Label, LabelVolume, Volume
from shared.errors import InputError
from shared.files import whole, write_first, write_whole
from shared.geometry import Grid, resample
from shared.preprocessing.pipeline import Prepared, Undo, prepare
from shared.preprocessing.region import BODY_HU, Preparation
from training.cohort.layout import Finding, PatientFiles, check_images, usable
from training.processes import is_first_process

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CARD: Final = "cache.json"
FINDING: Final = "finding.json"

DECIDING_MODULES: Final = (
    "shared/bspline.py",
    "shared/conventions.py",
    "shared/geometry.py",
    "shared/preprocessing/morphology.py",
    "shared/preprocessing/pipeline.py",
    "shared/preprocessing/region.py",
    "shared/preprocessing/uptake.py",
    "training/cohort/cache.py",
)
"""Those that a prepared patient depends on."""

BYTES_PER_VOXEL: Final = 2 * 2 + 1
"""CT and PET in float16, labels in uint8."""


@dataclass(frozen=True)
class Cached:
    """One prepared patient.

    Attributes
    ----------
    image : float16, shape (2, z, y, x): CT in HU and PET in SUV, memory-mapped.
    labels : uint8, shape (z, y, x), memory-mapped; background where the patient has none.
    undo : the way back to the CT's grid.
    max_suv : highest SUV in the region.
    """

    files: PatientFiles
    image: NDArray[np.float16]
    labels: LabelVolume
    undo: Undo
    max_suv: float

    def prepared(self) -> Prepared:
        """Return the patient as serving sees a case, to the precision of the cache."""
        ct_hu: Volume = np.asarray(self.image[0], dtype=np.float32)
        pet_suv: Volume = np.asarray(self.image[1], dtype=np.float32)
        return Prepared(
            ct_hu=ct_hu, pet_suv=pet_suv, body=ct_hu > BODY_HU, undo=self.undo, remarks=()
        )


def build_cache(
    patients: Sequence[PatientFiles],
    folder: Path,
    preparation: Preparation,
    workers: int,
    skip_bad: bool = False,
) -> list[Cached]:
    """Check and prepare the patients that the cache does not hold yet, and open them all.

    Of several processes of one training only the first makes the cache. Those that Lightning starts
    itself begin after it; where a cluster starts all at once, `python -m training prepare` goes
    before. With `skip_bad` a patient that was found bad is not examined again, so that all
    processes leave out the same ones, unless its files changed in size; without it, it is.

    Raises
    ------
    InputError
        If the folder holds a cache of another preparation or of other code, there is no room for
        it, a patient cannot be used and `skip_bad` is false, or this is not the first process and
        the cache is not complete. What is prepared already is kept.
    """
    _claim(folder, preparation)
    missing = [p for p in patients if not _is_made(folder, p)]
    findings: list[Finding] = []
    if skip_bad or not is_first_process():
        known = {p.patient_id: _finding(folder, p) for p in missing}
        findings = [finding for finding in known.values() if finding is not None]
        missing = [p for p in missing if known[p.patient_id] is None]
    if missing and not is_first_process():
        raise InputError(
            f"expected a complete cache in {folder}, found {len(missing)} of {len(patients)} "
            "patients missing; run 'python -m training prepare' before several processes start"
        )
    found = check_images(missing, workers)
    _keep_findings(folder, missing, found)
    findings += found
    if findings and not skip_bad:
        usable(patients, findings, skip_bad)
    bad = {finding.patient_id for finding in findings}
    good = [patient for patient in missing if patient.patient_id not in bad]
    if good:
        _require_room(folder, len(good), preparation)
        found = _prepare_all(good, folder, preparation, workers)
        _keep_findings(folder, good, found)
        findings += found
    return [_open(folder, patient) for patient in usable(patients, findings, skip_bad)]


@cache
def code_version() -> str:
    """Return a hash of the code that decides what a prepared patient is.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256(sitk.Version.VersionString().encode())
    for name in DECIDING_MODULES:
        tree = ast.parse((REPOSITORY / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                # A text that stands by itself says something to readers only.
                kept = [n for n in body if not _is_text(n)]
                node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _claim(folder: Path, preparation: Preparation) -> None:
    """Make the folder a cache of this preparation, or refuse one that is of another."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = {"preparation": preparation.model_dump(mode="json"), "code": code_version()}
    card = folder / CARD
    write_first(card, json.dumps(stated, indent=2) + "\n")
    found = json.loads(card.read_text(encoding="utf-8"))
    if found != stated:
        which = [name for name, value in stated.items() if found.get(name) != value]
        raise InputError(
            f"expected in {folder} a cache of {stated}, found one of another "
            f"{' and '.join(which)}, {found}; give another folder of runs or delete this cache"
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
            f"{free / 1e9:.1f} GB; free some or give a folder of runs on another disk"
        )


def _prepare_all(
    patients: Sequence[PatientFiles], folder: Path, preparation: Preparation, workers: int
) -> list[Finding]:
    findings = []
    work = partial(_prepare_into, folder=folder, preparation=preparation)
    with ProcessPoolExecutor(max(workers, 1), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(work, patient) for patient in patients]
        try:
            for done in tqdm(as_completed(jobs), total=len(jobs), desc="preparing", unit="patient"):
                finding = done.result()
                if finding is not None:
                    findings.append(finding)
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            made = sum(_is_made(folder, patient) for patient in patients)
            free = shutil.disk_usage(folder).free
            raise InputError(
                f"writing the cache in {folder} failed after {made} of {len(patients)} patients "
                f"({error}; {free / 1e9:.1f} GB free); these are kept: make room and start the "
                "same command again"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return findings


def _path(folder: Path, patient: PatientFiles, what: str) -> Path:
    return folder / f"{patient.patient_id}.{what}"


def _source_bytes(patient: PatientFiles) -> dict[str, int]:
    """Return the sizes of a patient's files, by which changes are noticed; 0 where one is gone."""
    paths = {"CT": patient.ct, "PET": patient.pet, "labels": patient.labels}
    known = {name: path for name, path in paths.items() if path is not None}
    return {name: path.stat().st_size if path.exists() else 0 for name, path in known.items()}


def _is_made(folder: Path, patient: PatientFiles) -> bool:
    record = _path(folder, patient, "json")
    if not record.exists():
        return False
    made_from = json.loads(record.read_text(encoding="utf-8"))["source_bytes"]
    return bool(made_from == _source_bytes(patient))


def _keep_findings(
    folder: Path, patients: Sequence[PatientFiles], findings: Sequence[Finding]
) -> None:
    """Write why patients cannot be used, each with the sizes of its files as in a record."""
    files = {patient.patient_id: patient for patient in patients}
    for finding in findings:
        patient = files[finding.patient_id]
        stated = {"source_bytes": _source_bytes(patient), **asdict(finding)}
        write_whole(_path(folder, patient, FINDING), json.dumps(stated))


def _finding(folder: Path, patient: PatientFiles) -> Finding | None:
    """Return why a patient cannot be used, if that was found with files of the same sizes."""
    path = _path(folder, patient, FINDING)
    if not path.exists():
        return None
    stated = json.loads(path.read_text(encoding="utf-8"))
    return Finding(**stated) if stated.pop("source_bytes") == _source_bytes(patient) else None


def _prepare_into(patient: PatientFiles, folder: Path, preparation: Preparation) -> Finding | None:
    """Write one patient; the record last, so that a stopped run leaves no half patient."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        source_bytes = _source_bytes(patient)
        image, labels, undo = _prepare(patient, preparation)
    except OSError as error:
        return Finding(patient.patient_id, "unreadable", str(error))
    except (RuntimeError, InputError) as error:
        # SimpleITK's message is many lines; its last one says what happened.
        return Finding(patient.patient_id, "unusable", str(error).strip().splitlines()[-1][:300])
    record = {
        "source_bytes": source_bytes,
        "region": asdict(undo.region),
        "ct": asdict(undo.ct),
        "max_suv": float(image[1].max()),
    }
    _path(folder, patient, "json").unlink(missing_ok=True)
    for what, array in (("labels.npy", labels), ("image.npy", image)):
        with whole(_path(folder, patient, what)) as draft:
            np.save(draft, array)
    write_whole(_path(folder, patient, "json"), json.dumps(record))
    _path(folder, patient, FINDING).unlink(missing_ok=True)
    return None


def _prepare(
    patient: PatientFiles, preparation: Preparation
) -> tuple[NDArray[np.float16], LabelVolume, Undo]:
    for path in (patient.ct, patient.pet, patient.labels):
        if path is not None:
            _require_whole(path)
    case = Case(
        ct_hu=sitk.ReadImage(str(patient.ct)),
        pet=sitk.ReadImage(str(patient.pet)),
        clinical=patient.clinical,
    )
    prepared = prepare(case, preparation)
    with np.errstate(over="ignore"):
        image = np.stack([prepared.ct_hu, prepared.pet_suv]).astype(np.float16)
    if not np.isfinite(image).all():
        raise InputError("an intensity is not finite or beyond float16")
    labels = np.zeros(image.shape[1:], dtype=np.uint8)
    if patient.labels is not None:
        truth = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        truth.CopyInformation(case.ct_hu)  # equal to 1 % of a voxel, as was checked
        on_region = resample(
            truth, prepared.undo.region, interpolation="nearest", outside=Label.BACKGROUND
        )
        labels = sitk.GetArrayFromImage(on_region)
    return image, labels, prepared.undo


def _require_whole(path: Path) -> None:
    """Raise InputError if a file is cut short, where SimpleITK reads zeros for the rest."""
    try:
        with gzip.open(path) as file:
            while file.read(2**24):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{path.name} is damaged or cut short") from None


def _open(folder: Path, patient: PatientFiles) -> Cached:
    record = json.loads(_path(folder, patient, "json").read_text(encoding="utf-8"))
    return Cached(
        patient,
        np.load(_path(folder, patient, "image.npy"), mmap_mode="r"),
        np.load(_path(folder, patient, "labels.npy"), mmap_mode="r"),
        Undo(_grid(record["region"]), _grid(record["ct"])),
        record["max_suv"],
    )


def _grid(stated: dict[str, list[Any]]) -> Grid:
    return Grid(**{name: tuple(values) for name, values in stated.items()})
