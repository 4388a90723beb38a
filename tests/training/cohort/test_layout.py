"""The challenge's layout: what its tables say, and what is found wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from shared.clinical import ClinicalRecord
from shared.errors import InputError
from training.cohort.layout import PatientFiles, check_images, index_cohort, read_cohort
from training.phantom import Kind, make_cohort

KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3, seed=11, kind=KIND)
    return folder


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[PatientFiles]:
    return index_cohort(cohort)


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
        assert patient.clinical.centre_id == row["CenterID"]
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
    with pytest.raises(InputError, match=r"expected HECKTOR_2025_Training_Task_N\.csv with"):
        index_cohort(tmp_path)


def test_ids_are_texts_and_name_their_centre(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1, PatientID=["007", "CHUM-012", "MDA_3"])
    names = [finding.patient_id for finding in read_cohort(copy).findings]
    assert "007" in names
    record = ClinicalRecord(centre_id=5)
    for name, centre in (("CHUM-012", "CHUM"), ("MDA_3", "MDA"), ("007", "5"), ("AB", "5")):
        files = PatientFiles(name, copy, copy, None, record, None, None, None)
        assert files.centre == centre


def test_what_a_later_table_leaves_empty_does_not_erase_what_is_known(
    cohort: Path, patients: list[PatientFiles], tmp_path: Path
) -> None:
    copy = edited(cohort, tmp_path, 3, Age=np.nan, CenterID=np.nan)
    assert [p.clinical for p in index_cohort(copy)] == [p.clinical for p in patients]


def test_values_that_contradict_are_remarked_and_the_first_is_taken(
    cohort: Path, patients: list[PatientFiles], tmp_path: Path
) -> None:
    found = read_cohort(edited(cohort, tmp_path, 3, Age=[1.5, 1.5, 1.5]))
    assert [p.clinical.age for p in found.patients] == [p.clinical.age for p in patients]
    assert (
        sum("Age is" in remark and "the first is taken" in remark for remark in found.remarks) == 3
    )


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["0", "1", "unknown"], [False, True, None]),
        (["0.0", "1.0", ""], [False, True, None]),
        ([0, 1, np.nan], [False, True, None]),
        (["no", "Yes", "FALSE"], [False, True, False]),
    ],
)
def test_a_column_with_texts_is_read_as_what_it_says(
    cohort: Path, tmp_path: Path, column: list[object], expected: list[bool | None]
) -> None:
    copy = edited(cohort, tmp_path, 3, **{"HPV Status": column})
    names = list(pd.read_csv(table_of(copy, 3))["PatientID"])
    found = read_cohort(copy)
    assert {p.patient_id: p.hpv for p in found.patients} == dict(zip(names, expected, strict=True))
    assert any("unknown" in remark for remark in found.remarks) == ("unknown" in column)


# Findings


def findings_of(folder: Path) -> dict[str, str]:
    cohort = read_cohort(folder)
    found = [*cohort.findings, *check_images(cohort.patients, workers=1)]
    return {finding.patient_id: finding.problem for finding in found}


def test_a_good_cohort_has_no_findings(cohort: Path) -> None:
    assert findings_of(cohort) == {}


def test_duplicate_and_missing_are_found_together(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    table = pd.read_csv(table_of(copy, 1))
    first, second, third = table["PatientID"]
    pd.concat([table, table[:1]]).to_csv(table_of(copy, 1), index=False)
    (copy / "Task 1" / second / f"{second}__PT.nii.gz").unlink()
    (copy / "Task 1" / third / f"{third}.nii.gz").unlink()
    expected = {first: "duplicate ID", second: "missing file", third: "missing file"}
    assert findings_of(copy) == expected
    with pytest.raises(InputError, match=r"3 of the patients cannot be used.*--skip-bad") as caught:
        index_cohort(copy)
    assert "\n" not in str(caught.value)


def edited_labels(cohort: Path, folder: Path, change: Callable[[sitk.Image], sitk.Image]) -> str:
    """Rewrite the label map of the first patient of a copy; return what is found in it."""
    copy = edited(cohort, folder, 1)
    path = index_cohort(copy)[0].labels
    assert path is not None
    changed = change(sitk.ReadImage(str(path)))
    path.unlink()
    sitk.WriteImage(changed, str(path))
    return findings_of(copy).get(index_cohort(copy)[0].patient_id, "nothing")


def shifted(image: sitk.Image, by_mm: float) -> sitk.Image:
    moved = sitk.Image(image)
    moved.SetOrigin([value + by_mm for value in image.GetOrigin()])
    return moved


def relabelled(image: sitk.Image) -> sitk.Image:
    array = sitk.GetArrayFromImage(image)
    array[0, 0, 0] = 7
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    return changed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: shifted(image, 1e-4), "nothing"),
        (lambda image: shifted(image, 1.0), "other grid"),
        (lambda image: image[:-1], "other grid"),
        (relabelled, "unknown label"),
    ],
    ids=["rounding", "shift", "size", "label"],
)
def test_masks_are_checked_and_rounding_is_none_of_their_faults(
    cohort: Path,
    tmp_path: Path,
    change: Callable[[sitk.Image], sitk.Image],
    expected: str,
) -> None:
    assert edited_labels(cohort, tmp_path, change) == expected


def test_what_is_no_image_is_found(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    patient = index_cohort(copy)[0]
    patient.ct.unlink()
    patient.ct.write_bytes(b"this is no image")
    assert findings_of(copy) == {patient.patient_id: "unreadable"}


def test_skipping_leaves_the_bad_ones_out_and_says_so(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = edited(cohort, tmp_path, 1)
    bad = index_cohort(copy)[1]
    bad.pet.unlink()
    left = index_cohort(copy, skip_bad=True)
    assert bad.patient_id not in [p.patient_id for p in left]
    assert len(left) == 2
    (line,) = [text for text in capsys.readouterr().out.splitlines() if bad.patient_id in text]
    assert "missing file" in line


def test_a_table_without_ids_is_refused(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    table_of(copy, 1).write_text("Name,Age\nA,60\n")
    with pytest.raises(InputError, match="expected a column PatientID"):
        index_cohort(copy)
