"""Patients prepared into a cache: equal to serving, made once, and never half."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.conventions import Label
from shared.errors import InputError
from shared.geometry import resample
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation
from training.cohort import cache as module
from training.cohort.cache import (
    CARD,
    DECIDING_MODULES,
    REPOSITORY,
    Cached,
    build_cache,
    code_version,
)
from training.cohort.layout import PatientFiles, index_cohort
from training.phantom import Kind, make_cohort

KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))
REGION = Preparation(spacing_mm=6, size_xyz=(48, 40, 44), interpolation="linear")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3, seed=11, kind=KIND, tasks=(1,))
    return folder


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[PatientFiles]:
    return index_cohort(cohort)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "new"


@pytest.fixture(scope="module")
def prepared(patients: list[PatientFiles], folder: Path) -> list[Cached]:
    return build_cache(patients, folder, REGION, workers=1)


@pytest.fixture
def copied(folder: Path, prepared: list[Cached], tmp_path: Path) -> Path:
    """Return a copy of the finished cache that is ours to spoil."""
    assert prepared
    shutil.copytree(folder, tmp_path / "cache")
    return tmp_path / "cache"


def test_cache_holds_what_serving_prepares(prepared: list[Cached]) -> None:
    for patient in prepared:
        files = patient.files
        case = Case(
            ct_hu=sitk.ReadImage(str(files.ct)),
            pet=sitk.ReadImage(str(files.pet)),
            clinical=files.clinical,
        )
        expected = prepare(case, REGION)
        assert patient.image.dtype == np.float16
        assert patient.image.shape == (2, 44, 40, 48)
        np.testing.assert_allclose(patient.image[0], expected.ct_hu, rtol=1e-3, atol=1)
        np.testing.assert_allclose(patient.image[1], expected.pet_suv, rtol=1e-3, atol=1e-3)
        truth = resample(
            sitk.ReadImage(str(files.labels)),
            expected.undo.region,
            interpolation="nearest",
            outside=Label.BACKGROUND,
        )
        assert np.array_equal(patient.labels, sitk.GetArrayFromImage(truth))
        assert patient.labels.any()
        assert patient.undo == expected.undo
        assert patient.max_suv == pytest.approx(expected.pet_suv.max(), rel=1e-3)


def test_a_cached_patient_is_a_prepared_case(prepared: list[Cached]) -> None:
    for patient in prepared:
        files = patient.files
        case = Case(
            ct_hu=sitk.ReadImage(str(files.ct)),
            pet=sitk.ReadImage(str(files.pet)),
            clinical=files.clinical,
        )
        expected, found = prepare(case, REGION), patient.prepared()
        assert found.undo == expected.undo
        assert np.mean(found.body == expected.body) > 0.999
        assert found.ct_hu.dtype == found.pet_suv.dtype == np.float32


def test_cache_is_read_in_place(prepared: list[Cached]) -> None:
    for patient in prepared:
        assert isinstance(patient.image, np.memmap)
        assert not patient.image.flags.writeable


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_only_what_is_missing_is_made(patients: list[PatientFiles], copied: Path) -> None:
    before = times(copied)
    (copied / f"{patients[1].patient_id}.json").unlink()
    build_cache(patients, copied, REGION, workers=1)
    after = times(copied)
    assert set(after) == set(before)
    made = {name for name in after if after[name] != before[name]}
    assert {name.split(".")[0] for name in made} == {patients[1].patient_id}


def test_a_patient_whose_files_changed_is_made_again(
    patients: list[PatientFiles], copied: Path
) -> None:
    record = copied / f"{patients[0].patient_id}.json"
    stated = json.loads(record.read_text())
    stated["source_bytes"]["CT"] += 1
    record.write_text(json.dumps(stated))
    build_cache(patients, copied, REGION, workers=1)
    assert json.loads(record.read_text())["source_bytes"]["CT"] == patients[0].ct.stat().st_size


def test_a_cache_of_another_preparation_is_refused_and_kept(
    patients: list[PatientFiles], copied: Path
) -> None:
    before = times(copied)
    other = REGION.model_copy(update={"spacing_mm": 5.0})
    with pytest.raises(InputError, match=r"found one of another preparation, .*; give another"):
        build_cache(patients, copied, other, workers=1)
    assert times(copied) == before


def test_a_cache_of_other_code_is_refused(patients: list[PatientFiles], copied: Path) -> None:
    stated = json.loads((copied / CARD).read_text())
    (copied / CARD).write_text(json.dumps({**stated, "code": "0123"}))
    with pytest.raises(InputError, match="found one of another code"):
        build_cache(patients, copied, REGION, workers=1)


def test_code_version_sees_code_and_no_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(text: str) -> str:
        (tmp_path / "module.py").write_text(text)
        code_version.cache_clear()
        return code_version()

    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "DECIDING_MODULES", ("module.py",))
    first = version('"""Idea."""\ndef f():\n    """Say."""\n    return 1\n')
    assert version("def f():  # why\n    return (1)\n") == first
    assert version("def f():\n    return 2\n") != first
    code_version.cache_clear()


DECIDE_NOTHING = {
    "shared/case.py",  # holds images
    "shared/clinical.py",  # no record reaches an image
    "shared/errors.py",  # words only
    "shared/schema.py",  # what a preparation may be; what it is, the cache's card says
}


def test_all_of_the_library_that_prepares_a_patient_decides() -> None:
    """What a fresh interpreter loads of `shared` for the pipeline, packages' own texts left out."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, shared.preprocessing.pipeline; print(*sys.modules)"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = {f"{name.replace('.', '/')}.py" for name in loaded.stdout.split()}
    ours = {path for path in paths if path.startswith("shared/") and (REPOSITORY / path).is_file()}
    assert ours - DECIDE_NOTHING == set(DECIDING_MODULES) - {"training/cohort/cache.py"}
    assert ours >= DECIDE_NOTHING


def test_no_room_is_said_before_anything_is_written(
    patients: list[PatientFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    with pytest.raises(InputError, match=r"expected 0\.0 GB free .* found 0\.0 GB; free some or"):
        build_cache(patients, tmp_path, REGION, workers=1)
    assert [path.name for path in tmp_path.glob("[!.]*")] == [CARD]


def full(path: Path) -> Path:
    path.symlink_to("/dev/full")
    return path


def test_a_cache_that_could_not_be_begun_can_be_begun_later(
    patients: list[PatientFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("shared.files.draft_of", lambda path: full(path.with_name("draft")))
        with pytest.raises(OSError, match="No space left"):
            build_cache(patients[:1], tmp_path, REGION, workers=1)
    assert len(build_cache(patients[:1], tmp_path, REGION, workers=1)) == 1


def test_a_disk_that_fills_up_loses_nothing(
    patients: list[PatientFiles], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written goes to /dev/full, where every write fails as on a full disk."""
    lost = patients[2].patient_id
    (copied / f"{lost}.json").unlink()
    (copied / f"{lost}.image.npy").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(module, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
        patched.setattr("shared.files.draft_of", lambda path: full(path.with_name("draft")))
        with pytest.raises(
            InputError, match=r"after 0 of 1 patients .*; these are kept: make room"
        ):
            build_cache(patients, copied, REGION, workers=1)
    assert not (copied / f"{lost}.json").exists()
    for kept in patients[:2]:
        assert (copied / f"{kept.patient_id}.json").exists()
    assert len(build_cache(patients, copied, REGION, workers=1)) == 3


def test_an_image_damaged_behind_its_header_is_a_finding(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(cohort, tmp_path / "cohort")
    patients = index_cohort(tmp_path / "cohort")
    whole = patients[0].pet.read_bytes()
    patients[0].pet.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="1 of the patients cannot be used"):
        build_cache(patients, tmp_path / "cache", REGION, workers=1)
    left = build_cache(patients, tmp_path / "cache", REGION, workers=1, skip_bad=True)
    assert [p.files.patient_id for p in left] == [p.patient_id for p in patients[1:]]
    assert patients[0].patient_id in capsys.readouterr().out


def test_a_later_process_does_not_make_the_cache(
    patients: list[PatientFiles], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_first_process", lambda: False)
    assert len(build_cache(patients, copied, REGION, workers=1)) == 3
    (copied / f"{patients[0].patient_id}.json").unlink()
    with pytest.raises(InputError, match="1 of 3 patients missing; run 'python -m training prep"):
        build_cache(patients, copied, REGION, workers=1)


def test_a_file_that_cannot_be_read_is_a_finding_and_no_full_disk(
    patients: list[PatientFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(module.gzip, "open", unreadable)
    monkeypatch.setattr(module, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    (finding,) = module._prepare_all(patients[:1], tmp_path, REGION, workers=1)
    assert (finding.patient_id, finding.problem) == (patients[0].patient_id, "unreadable")
    assert "Input/output error" in finding.detail
    assert patients[0].ct.name in finding.detail


def test_every_process_leaves_out_the_patients_that_were_found_bad(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose CT is no image, and one whose PET is cut short behind its header."""
    shutil.copytree(cohort, tmp_path / "cohort")
    patients = index_cohort(tmp_path / "cohort")
    patients[0].ct.write_bytes(b"this is no image")
    pet = patients[1].pet.read_bytes()
    patients[1].pet.write_bytes(pet[: len(pet) // 2])

    def left() -> list[str]:
        built = build_cache(patients, tmp_path / "cache", REGION, workers=1, skip_bad=True)
        return [p.files.patient_id for p in built]

    assert left() == [patients[2].patient_id]
    with monkeypatch.context() as patched:
        patched.setattr(module, "is_first_process", lambda: False)
        assert left() == [patients[2].patient_id]
        with pytest.raises(InputError, match="2 of the patients cannot be used"):
            build_cache(patients, tmp_path / "cache", REGION, workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_prepare_all", lambda *_: pytest.fail("examined again"))
        assert left() == [patients[2].patient_id]
    patients[1].pet.write_bytes(pet)
    assert left() == [p.patient_id for p in patients[1:]]


def test_a_patient_without_labels_is_background(
    patients: list[PatientFiles], tmp_path: Path
) -> None:
    unlabelled = PatientFiles(**{**vars(patients[0]), "labels": None})
    (found,) = build_cache([unlabelled], tmp_path, REGION, workers=1)
    assert not found.labels.any()
