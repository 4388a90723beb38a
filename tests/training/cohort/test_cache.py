"""The cache contains what serving prepares, and is filled once.

It stays consistent wherever its preparation is interrupted.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from lightning.pytorch.utilities import rank_zero_only

from shared.case import Case
from shared.conventions import Label
from shared.errors import InputError
from shared.geometry import resample
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation
from tests.training.synthetic import names_of
from training.cohort.cache import PreparedPatient, build_cache, prepare_cohort
from training.cohort.cache_files import CACHE_RECORD
from training.cohort.findings import Finding
from training.cohort.layout import Cohort, Patient, index_cohort
from training.phantom import Kind, make_cohort

KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))
REGION = Preparation(spacing_mm=6, size_xyz=(48, 40, 44), interpolation="linear")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3, seed=11, kind=KIND, tasks=(1,))
    return folder


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[Patient]:
    return index_cohort(cohort)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "new"


@pytest.fixture(scope="module")
def prepared(patients: list[Patient], folder: Path) -> list[PreparedPatient]:
    return build(patients, folder)


@pytest.fixture
def copied(folder: Path, prepared: list[PreparedPatient], tmp_path: Path) -> Path:
    """Return a copy of the complete cache that a test may damage."""
    assert prepared
    shutil.copytree(folder, tmp_path / "cache")
    return tmp_path / "cache"


def build(
    patients: Sequence[Patient],
    folder: Path,
    *,
    skip_bad: bool = False,
    region: Preparation = REGION,
) -> list[PreparedPatient]:
    cohort = Cohort(patients=tuple(patients))
    return build_cache(cohort, folder, region, workers=1, skip_bad=skip_bad)


def serving_case(patient: Patient) -> Case:
    """Return a patient's case, without use of the code under test."""
    return Case(
        ct_hu=sitk.ReadImage(str(patient.ct)),
        pet=sitk.ReadImage(str(patient.pet)),
        clinical=patient.clinical,
    )


def test_cache_holds_what_serving_prepares(prepared: list[PreparedPatient]) -> None:
    for each in prepared:
        expected = prepare(serving_case(each.patient), REGION)
        assert each.image.dtype == np.float16
        assert each.image.shape == (2, 44, 40, 48)
        np.testing.assert_allclose(each.image[0], expected.ct_hu, rtol=1e-3, atol=1)
        np.testing.assert_allclose(each.image[1], expected.pet_suv, rtol=1e-3, atol=1e-3)
        truth = resample(
            sitk.ReadImage(str(each.patient.labels)),
            expected.undo.region,
            interpolation="nearest",
            outside=Label.BACKGROUND,
        )
        assert np.array_equal(each.labels, sitk.GetArrayFromImage(truth))
        assert each.labels.any()
        assert each.undo == expected.undo
        assert each.max_suv == pytest.approx(expected.pet_suv.max(), rel=1e-3)


def test_prepared_patient_gives_the_same_prepared_case_as_serving(
    prepared: list[PreparedPatient],
) -> None:
    """The cache rounds to float16, which may change a few voxels of the body mask."""
    for each in prepared:
        expected, case = prepare(serving_case(each.patient), REGION), each.prepared()
        assert case.undo == expected.undo
        assert np.mean(case.body == expected.body) > 0.999
        assert case.ct_hu.dtype == case.pet_suv.dtype == np.float32


def test_cache_is_memory_mapped_and_read_only(prepared: list[PreparedPatient]) -> None:
    for each in prepared:
        assert isinstance(each.image, np.memmap)
        assert not each.image.flags.writeable


def test_labels_of_an_unlabelled_patient_are_all_background(
    patients: list[Patient], tmp_path: Path
) -> None:
    (only,) = build([dataclasses.replace(patients[0], labels=None)], tmp_path)
    assert not only.labels.any()


def test_prepare_cohort_reads_a_folder_and_prints_its_remarks(
    cohort: Path,
    patients: list[Patient],
    copied: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(cohort, tmp_path / "cohort")
    (table,) = (tmp_path / "cohort").rglob("*.csv")
    pd.read_csv(table).assign(Relapse="unknown").to_csv(table, index=False)
    before = times(copied)
    prepared = prepare_cohort(tmp_path / "cohort", copied, REGION, workers=1)
    assert names_of(prepared) == tuple(patient.patient_id for patient in patients)
    assert capsys.readouterr().out.count("Relapse: 'unknown' is not understood") == 3
    assert times(copied) == before
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    assert len(prepare_cohort(tmp_path / "cohort", copied, REGION, workers=1)) == 3
    assert capsys.readouterr().out == ""


# Review before the preparation


def test_labels_are_reviewed_before_any_patient_is_prepared(
    patients: list[Patient], tmp_path: Path
) -> None:
    """The review gets the distinct values of each label map, and none for a patient without one."""
    reviewed: list[PreparedPatient] = []

    def refuse(unprepared: Sequence[PreparedPatient]) -> None:
        reviewed.extend(unprepared)
        raise InputError("refused")

    cohort = Cohort(patients=(*patients[:2], dataclasses.replace(patients[2], labels=None)))
    with pytest.raises(InputError, match="refused"):
        build_cache(cohort, tmp_path, REGION, workers=1, review=refuse)
    assert not list(tmp_path.glob("*.npy"))
    assert names_of(reviewed) == tuple(patient.patient_id for patient in patients)
    for each in reviewed[:2]:
        values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(each.patient.labels))))
        assert each.labels.ravel().tolist() == values.tolist()
    assert reviewed[2].labels.size == 0


def test_cached_patients_are_reviewed_from_the_cache_and_only_if_others_are_missing(
    patients: list[Patient], copied: Path
) -> None:
    reviews: list[list[PreparedPatient]] = []
    cohort = Cohort(patients=tuple(patients))

    def build_again() -> list[PreparedPatient]:
        return build_cache(
            cohort, copied, REGION, workers=1, review=lambda each: reviews.append(list(each))
        )

    complete = build_again()
    assert not reviews
    (copied / f"{patients[1].patient_id}.json").unlink()
    build_again()
    ((first, second, _),) = reviews
    assert np.array_equal(first.labels, complete[0].labels)
    assert second.image.size == 0


@pytest.mark.parametrize("skip_bad", [False, True])
def test_findings_come_before_the_review(
    patients: list[Patient], tmp_path: Path, skip_bad: bool
) -> None:
    """With `skip_bad`, the patients without a finding are reviewed."""
    bad = dataclasses.replace(patients[0], ct=tmp_path / "none.nii.gz")
    cohort = Cohort(patients=(bad, *patients[1:]))
    reviewed: list[str] = []

    def refuse(unprepared: Sequence[PreparedPatient]) -> None:
        reviewed.extend(names_of(unprepared))
        raise InputError("refused")

    message = "refused" if skip_bad else "1 of the patients cannot be used"
    with pytest.raises(InputError, match=message):
        build_cache(cohort, tmp_path / "cache", REGION, workers=1, skip_bad=skip_bad, review=refuse)
    assert reviewed == ([each.patient_id for each in patients[1:]] if skip_bad else [])


# What is prepared again, and what is refused


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_only_missing_patients_are_prepared(patients: list[Patient], copied: Path) -> None:
    before = times(copied)
    (copied / f"{patients[1].patient_id}.json").unlink()
    build(patients, copied)
    after = times(copied)
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert {name.split(".")[0] for name in changed} == {patients[1].patient_id}


def test_patient_whose_files_changed_is_prepared_again(
    patients: list[Patient], copied: Path
) -> None:
    record = copied / f"{patients[0].patient_id}.json"
    content = json.loads(record.read_text())
    content["source_bytes"]["CT"] += 1
    record.write_text(json.dumps(content))
    build(patients, copied)
    assert json.loads(record.read_text())["source_bytes"]["CT"] == patients[0].ct.stat().st_size


def test_cache_of_another_preparation_is_refused_and_kept(
    patients: list[Patient], copied: Path
) -> None:
    before = times(copied)
    other = REGION.model_copy(update={"spacing_mm": 5.0})
    with pytest.raises(InputError, match=r"with a different preparation: .*; give another"):
        build(patients, copied, region=other)
    assert times(copied) == before


def test_cache_of_other_code_is_refused(patients: list[Patient], copied: Path) -> None:
    content = json.loads((copied / CACHE_RECORD).read_text())
    (copied / CACHE_RECORD).write_text(json.dumps({**content, "code": "0123"}))
    with pytest.raises(InputError, match="found a cache with a different version of the code: "):
        build(patients, copied)


@pytest.mark.parametrize("name", [CACHE_RECORD, "patient"])
def test_record_with_an_unknown_key_is_refused(
    patients: list[Patient], copied: Path, name: str
) -> None:
    path = copied / (name if name == CACHE_RECORD else f"{patients[0].patient_id}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": 3}))
    with pytest.raises(InputError, match=r"json is not a valid record: colour: Extra inputs"):
        build(patients, copied)


# Full disks


def test_missing_space_is_reported_before_anything_is_written(
    patients: list[Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6, 1000))
    with pytest.raises(InputError, match=r"expected 0\.0 GB free .* found 0\.0 GB; free some sp"):
        build(patients, tmp_path)
    assert [path.name for path in tmp_path.glob("[!.]*")] == [CACHE_RECORD]


def full_disk(path: Path) -> Path:
    """Return a draft on which every write fails as on a full disk."""
    draft = path.with_name("draft")
    draft.symlink_to("/dev/full")
    return draft


def test_cache_can_be_started_again_after_the_disk_was_full(
    patients: list[Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("shared.files.draft_of", full_disk)
        with pytest.raises(OSError, match="No space left"):
            build(patients[:1], tmp_path)
    assert len(build(patients[:1], tmp_path)) == 1


def run_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare patients in this process, because other processes do not see a test's patches."""
    pool = "training.cohort.cache.process_pool"
    monkeypatch.setattr(pool, lambda _: ThreadPoolExecutor(1))


def test_disk_that_fills_up_keeps_what_is_prepared(
    patients: list[Patient], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = patients[2].patient_id
    (copied / f"{lost}.json").unlink()
    (copied / f"{lost}.image.npy").unlink()
    with monkeypatch.context() as patched:
        run_in_a_thread(patched)
        patched.setattr("shared.files.draft_of", full_disk)
        with pytest.raises(
            InputError, match=r"failed after 0 .*; free some space and run the same"
        ):
            build(patients, copied)
    assert not (copied / f"{lost}.json").exists()
    for kept in patients[:2]:
        assert (copied / f"{kept.patient_id}.json").exists()
    assert len(build(patients, copied)) == 3


def test_read_error_is_a_finding_and_not_a_full_disk(
    patients: list[Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    run_in_a_thread(monkeypatch)
    monkeypatch.setattr("gzip.open", unreadable)
    first = patients[0]
    with pytest.raises(
        InputError, match=rf"{first.patient_id}: unreadable, .*Input/output error.*{first.ct.name}"
    ):
        build(patients[:1], tmp_path)


# Patients who cannot be used


@pytest.fixture
def damaged(cohort: Path, tmp_path: Path) -> list[Patient]:
    """Return patients: one CT is not an image, one PET is cut short, and one patient is good."""
    shutil.copytree(cohort, tmp_path / "cohort")
    patients = index_cohort(tmp_path / "cohort")
    patients[0].ct.write_bytes(b"this is not an image")
    pet = patients[1].pet.read_bytes()
    patients[1].pet.write_bytes(pet[: len(pet) // 2])
    return patients


def test_nothing_is_examined_if_the_cohort_already_has_findings(
    damaged: list[Patient], tmp_path: Path
) -> None:
    cohort = Cohort(
        patients=tuple(damaged),
        findings=(Finding(patient_id="X-1", problem="missing file", detail="X-1__CT.nii.gz"),),
    )
    folder = tmp_path / "cache"
    with pytest.raises(InputError, match=r"1 of the patients cannot be used .* first: X-1"):
        build_cache(cohort, folder, REGION, workers=1)
    assert [path.name for path in folder.glob("[!.]*")] == [CACHE_RECORD]


def test_nothing_is_prepared_if_the_checks_have_findings(
    damaged: list[Patient], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    # The PET that is cut short would be a second finding, but only its preparation detects it.
    with pytest.raises(InputError, match=f"1 of the .* first: {damaged[0].patient_id}: un"):
        build(damaged, folder)
    names = {path.name for path in folder.glob("[!.]*")}
    assert names == {CACHE_RECORD, f"{damaged[0].patient_id}.finding.json"}


def test_image_damaged_behind_its_header_is_a_finding(
    damaged: list[Patient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="1 of the patients cannot be used"):
        build(damaged[1:], tmp_path / "cache")
    usable = build(damaged[1:], tmp_path / "cache", skip_bad=True)
    assert names_of(usable) == (damaged[2].patient_id,)
    assert damaged[1].patient_id in capsys.readouterr().out


def test_only_the_process_of_rank_0_fills_the_cache(
    patients: list[Patient], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    assert len(build(patients, copied)) == 3
    (copied / f"{patients[0].patient_id}.json").unlink()
    with pytest.raises(InputError, match="1 of 3 patients missing; run 'python -m training prep"):
        build(patients, copied)


def test_all_processes_leave_out_the_same_patients(
    damaged: list[Patient], patients: list[Patient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"

    def usable() -> tuple[str, ...]:
        return names_of(build(damaged, folder, skip_bad=True))

    assert usable() == (damaged[2].patient_id,)
    with monkeypatch.context() as patched:
        patched.setattr(rank_zero_only, "rank", 1, raising=False)
        assert usable() == (damaged[2].patient_id,)
        with pytest.raises(InputError, match="2 of the patients cannot be used"):
            build(damaged, folder)
    before = times(folder)
    assert usable() == (damaged[2].patient_id,)
    assert times(folder) == before  # the damaged patients were not examined again
    shutil.copyfile(patients[1].pet, damaged[1].pet)
    assert usable() == tuple(patient.patient_id for patient in damaged[1:])
