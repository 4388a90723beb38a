"""The challenge's layout, indexed and prepared into a cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.conventions import Label
from shared.errors import InputError
from shared.geometry import resample
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation
from training.data import Cached, PatientFiles, build_cache, index_cohort
from training.phantom import Kind, make_cohort

KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))
REGION = Preparation(spacing_mm=6, size_xyz=(48, 40, 44), interpolation="linear")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3, seed=11, kind=KIND)
    return folder


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[PatientFiles]:
    return index_cohort(cohort)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "new"


@pytest.fixture(scope="module")
def prepared(patients: list[PatientFiles], cache: Path) -> list[Cached]:
    return build_cache(patients, cache, REGION, workers=1)


def table_of(cohort: Path, task: int) -> Path:
    return cohort / f"Task {task}" / f"HECKTOR_2025_Training_Task_{task}.csv"


def edited(cohort: Path, folder: Path, task: int, **columns: object) -> Path:
    """Return a copy of a cohort in which columns of one table have other values."""
    copy = folder / "copy"
    shutil.copytree(cohort, copy)
    table = pd.read_csv(table_of(copy, task))
    for name, value in columns.items():
        table[name] = value
    table.to_csv(table_of(copy, task), index=False)
    return copy


def test_index_is_that_of_the_tables(cohort: Path, patients: list[PatientFiles]) -> None:
    tables = {task: pd.read_csv(table_of(cohort, task), index_col=0) for task in (1, 2, 3)}
    assert [p.patient_id for p in patients] == sorted(tables[1].index)
    for patient in patients:
        assert patient.ct.name == f"{patient.patient_id}__CT.nii.gz"
        assert patient.pet.name == f"{patient.patient_id}__PT.nii.gz"
        assert patient.labels is not None
        assert patient.labels.parent.parent.name == "Task 1"
        row = tables[2].loc[patient.patient_id]
        assert patient.clinical.age == row["Age"]
        assert patient.clinical.center_id == row["CenterID"]
        assert patient.relapse == bool(row["Relapse"])
        assert patient.rfs_days == row["RFS"]
        hpv = tables[3].loc[patient.patient_id, "HPV Status"]
        assert patient.hpv == (None if np.isnan(hpv) else bool(hpv))


def test_what_a_table_does_not_know_is_none(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 3, **{"HPV Status": np.nan})
    assert [p.hpv for p in index_cohort(copy)] == [None, None, None]


def test_a_patient_of_other_tasks_only_has_no_labels(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    shutil.rmtree(copy / "Task 1")
    found = index_cohort(copy)
    assert len(found) == 3
    assert all(p.labels is None and p.ct.is_file() for p in found)


def test_tables_may_lie_beside_the_task_folders(
    cohort: Path, patients: list[PatientFiles], tmp_path: Path
) -> None:
    copy = edited(cohort, tmp_path, 1)
    for task in (1, 2, 3):
        table_of(copy, task).rename(copy / table_of(copy, task).name)
    assert [p.patient_id for p in index_cohort(copy)] == [p.patient_id for p in patients]


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected HECKTOR_2025_Training_Task_N\.csv in"):
        index_cohort(tmp_path)


def test_a_patient_without_images_is_refused(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1, PatientID=["MDA-997", "MDA-998", "MDA-999"])
    with pytest.raises(InputError, match=r"expected .*MDA-997__CT.nii.gz for patient MDA-997"):
        index_cohort(copy)


def test_cache_holds_what_serving_prepares(prepared: list[Cached]) -> None:
    for patient in prepared:
        files = patient.files
        case = Case(sitk.ReadImage(str(files.ct)), sitk.ReadImage(str(files.pet)), files.clinical)
        expected = prepare(case, REGION)
        assert patient.image.dtype == np.float16
        assert patient.image.shape == (2, 44, 40, 48)
        np.testing.assert_allclose(patient.image[0], expected.ct_hu, rtol=1e-3, atol=1)
        np.testing.assert_allclose(patient.image[1], expected.pet_suv, rtol=1e-3, atol=1e-3)
        truth = resample(
            sitk.ReadImage(str(files.labels)), expected.undo.region, "nearest", Label.BACKGROUND
        )
        assert np.array_equal(patient.labels, sitk.GetArrayFromImage(truth))
        assert patient.labels.any()


def test_cache_is_read_in_place(prepared: list[Cached]) -> None:
    for patient in prepared:
        assert isinstance(patient.image, np.memmap)
        assert not patient.image.flags.writeable


def test_what_is_in_the_cache_is_not_made_again(
    patients: list[PatientFiles], prepared: list[Cached], cache: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    removed = f"{patients[1].patient_id}.image.npy"
    (cache / removed).unlink()
    build_cache(patients, cache, REGION, workers=1)
    after = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert set(after) == set(before)
    made = {name for name in after if after[name] != before[name]}
    assert made - {"preparation.json"} == {removed, removed.replace("image", "labels")}
    assert len(prepared) == len(patients)


def test_a_cache_of_another_preparation_is_refused(
    patients: list[PatientFiles], prepared: list[Cached], cache: Path
) -> None:
    other = REGION.model_copy(update={"spacing_mm": 5.0})
    with pytest.raises(InputError, match="found one for another preparation; give another folder"):
        build_cache(patients, cache, other, workers=1)


def test_a_patient_without_labels_is_background(
    patients: list[PatientFiles], tmp_path: Path
) -> None:
    unlabelled = PatientFiles(**{**vars(patients[0]), "labels": None})
    (found,) = build_cache([unlabelled], tmp_path, REGION, workers=1)
    assert not found.labels.any()
