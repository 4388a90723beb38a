"""The challenge's layout: its tables are read, and problems of a cohort are found."""

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
from training.cohort.checks import check_images
from training.cohort.findings import Finding, Problem
from training.cohort.layout import Cohort, Patient, index_cohort, read_cohort
from training.phantom import Kind, make_cohort

KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 3, seed=11, kind=KIND)
    return folder


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[Patient]:
    return index_cohort(cohort)


def table_of(cohort: Path, task: int) -> Path:
    return cohort / f"Task {task}" / f"HECKTOR_2025_Training_Task_{task}.csv"


def edited(cohort: Path, folder: Path, task: int, **columns: object) -> Path:
    """Return a copy of a cohort in which some columns of one table have other values."""
    copy = folder / "copy"
    shutil.copytree(cohort, copy)
    table = pd.read_csv(table_of(copy, task))
    for name, value in columns.items():
        table[name] = value
    table.to_csv(table_of(copy, task), index=False)
    return copy


def test_patients_have_the_files_and_values_of_the_tables(
    cohort: Path, patients: list[Patient]
) -> None:
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


def test_empty_cell_is_none(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 3, **{"HPV Status": np.nan})
    assert [p.hpv for p in index_cohort(copy)] == [None, None, None]


def test_patient_that_task_1_lacks_has_no_labels(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    shutil.rmtree(copy / "Task 1")
    patients = index_cohort(copy)
    assert len(patients) == 3
    assert all(p.labels is None and p.ct.is_file() for p in patients)


def test_tables_may_lie_next_to_the_task_folders(
    cohort: Path, patients: list[Patient], tmp_path: Path
) -> None:
    copy = edited(cohort, tmp_path, 1)
    for task in (1, 2, 3):
        table_of(copy, task).rename(copy / table_of(copy, task).name)
    assert [p.patient_id for p in index_cohort(copy)] == [p.patient_id for p in patients]


def test_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected HECKTOR_2025_Training_Task_N\.csv with"):
        index_cohort(tmp_path)


def test_ids_are_texts_and_contain_the_centre(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1, PatientID=["007", "CHUM-012", "MDA_3"])
    names = [finding.patient_id for finding in read_cohort(copy).findings]
    assert "007" in names
    record = ClinicalRecord(centre_id=5)
    for name, centre in (("CHUM-012", "CHUM"), ("MDA_3", "MDA"), ("007", "5"), ("AB", "5")):
        patient = Patient(
            patient_id=name, ct=copy, pet=copy, labels=None, clinical=record,
            hpv=None, relapse=None, rfs_days=None,
        )  # fmt: skip
        assert patient.centre == centre


def test_empty_cell_of_a_later_table_does_not_erase_a_value(
    cohort: Path, patients: list[Patient], tmp_path: Path
) -> None:
    copy = edited(cohort, tmp_path, 3, Age=np.nan, CenterID=np.nan)
    assert [p.clinical for p in index_cohort(copy)] == [p.clinical for p in patients]


def test_contradicting_values_give_a_remark_and_the_first_is_taken(
    cohort: Path, patients: list[Patient], tmp_path: Path
) -> None:
    copy = read_cohort(edited(cohort, tmp_path, 3, Age=[1.5, 1.5, 1.5]))
    assert [p.clinical.age for p in copy.patients] == [p.clinical.age for p in patients]
    assert sum("Age is" in line and " is used" in line for line in copy.remarks) == 3


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["0", "1", "unknown"], [False, True, None]),
        (["0.0", "1.0", ""], [False, True, None]),
        ([0, 1, np.nan], [False, True, None]),
        (["no", "Yes", "FALSE"], [False, True, False]),
    ],
)
def test_texts_in_a_column_are_read_by_their_meaning(
    cohort: Path, tmp_path: Path, column: list[object], expected: list[bool | None]
) -> None:
    copy = edited(cohort, tmp_path, 3, **{"HPV Status": column})
    names = list(pd.read_csv(table_of(copy, 3))["PatientID"])
    content = read_cohort(copy)
    statuses = {p.patient_id: p.hpv for p in content.patients}
    assert statuses == dict(zip(names, expected, strict=True))
    assert any("unknown" in remark for remark in content.remarks) == ("unknown" in column)


# Findings


def findings_of(folder: Path) -> dict[str, str]:
    cohort = read_cohort(folder)
    cohort = cohort.with_findings(check_images(cohort.patients, workers=1))
    return {finding.patient_id: finding.problem for finding in cohort.findings}


def test_valid_cohort_has_no_findings(cohort: Path) -> None:
    assert findings_of(cohort) == {}


def test_duplicate_ids_and_missing_files_are_found_together(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    table = pd.read_csv(table_of(copy, 1))
    first, second, third = table["PatientID"]
    pd.concat([table, table[:1]]).to_csv(table_of(copy, 1), index=False)
    (copy / "Task 1" / second / f"{second}__PT.nii.gz").unlink()
    (copy / "Task 1" / third / f"{third}.nii.gz").unlink()
    expected = {first: "duplicate ID", second: "missing file", third: "missing file"}
    assert findings_of(copy) == expected
    with pytest.raises(
        InputError, match=r"3 of the patients cannot be used.*skip bad patients"
    ) as caught:
        index_cohort(copy)
    assert "\n" not in str(caught.value)


def edited_labels(cohort: Path, folder: Path, change: Callable[[sitk.Image], sitk.Image]) -> str:
    """Change the label map of the first patient of a copy; return the problem found, or "none"."""
    copy = edited(cohort, folder, 1)
    path = index_cohort(copy)[0].labels
    assert path is not None
    changed = change(sitk.ReadImage(str(path)))
    path.unlink()
    sitk.WriteImage(changed, str(path))
    return findings_of(copy).get(index_cohort(copy)[0].patient_id, "none")


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
        (lambda image: shifted(image, 1e-4), "none"),
        (lambda image: shifted(image, 1.0), "other grid"),
        (lambda image: image[:-1], "other grid"),
        (relabelled, "unknown label"),
    ],
    ids=["rounding", "shift", "size", "label"],
)
def test_grid_and_labels_of_a_mask_are_checked_with_a_tolerance_for_rounding(
    cohort: Path,
    tmp_path: Path,
    change: Callable[[sitk.Image], sitk.Image],
    expected: str,
) -> None:
    assert edited_labels(cohort, tmp_path, change) == expected


def test_file_that_is_not_an_image_is_a_finding(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    patient = index_cohort(copy)[0]
    patient.ct.unlink()
    patient.ct.write_bytes(b"this is not an image")
    assert findings_of(copy) == {patient.patient_id: "unreadable"}


def test_skipped_patients_are_left_out_and_printed(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = edited(cohort, tmp_path, 1)
    bad = index_cohort(copy)[1]
    bad.pet.unlink()
    usable = index_cohort(copy, skip_bad=True)
    assert bad.patient_id not in [p.patient_id for p in usable]
    assert len(usable) == 2
    (line,) = [text for text in capsys.readouterr().out.splitlines() if bad.patient_id in text]
    assert "missing file" in line


def test_table_without_ids_is_refused(cohort: Path, tmp_path: Path) -> None:
    copy = edited(cohort, tmp_path, 1)
    table_of(copy, 1).write_text("Name,Age\nA,60\n")
    with pytest.raises(InputError, match="expected a column PatientID"):
        index_cohort(copy)


# Findings about the patients of a cohort, by hand


def patient(name: str) -> Patient:
    path = Path(name)
    return Patient(
        patient_id=name, ct=path, pet=path, labels=None, clinical=ClinicalRecord(),
        hpv=None, relapse=None, rfs_days=None,
    )  # fmt: skip


def finding(name: str, problem: Problem = "unreadable") -> Finding:
    return Finding(patient_id=name, problem=problem, detail="a detail")


A, B, C = (patient(name) for name in ("A-1", "B-2", "C-3"))


def test_findings_remove_their_patients_and_are_kept() -> None:
    cohort = Cohort(patients=(A, B), findings=(finding("X-9", "missing file"),), remarks=("odd",))
    checked = cohort.with_findings([finding("B-2")])
    assert checked.patients == (A,)
    assert [f.patient_id for f in checked.findings] == ["X-9", "B-2"]
    assert checked.remarks == ("odd",)
    assert cohort.patients == (A, B)
    assert checked.with_findings([]) == checked


def test_cohort_without_findings_is_usable_and_prints_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert Cohort(patients=(A, B)).usable(skip_bad=False) == [A, B]
    assert Cohort(patients=(A, B)).usable(skip_bad=True) == [A, B]
    assert capsys.readouterr().out == ""


def test_cohort_with_findings_is_usable_only_without_the_bad_patients(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cohort = Cohort(patients=(A, B, C)).with_findings([finding("B-2"), finding("B-2", "unusable")])
    assert cohort.usable(skip_bad=True) == [A, C]
    assert capsys.readouterr().out.splitlines() == [
        "patient  problem     detail",
        "B-2      unreadable  a detail",
        "B-2      unusable    a detail",
    ]
    message = "1 of the patients cannot be used .table above; first: B-2: unreadable, a detail"
    with pytest.raises(InputError, match=message):
        cohort.usable(skip_bad=False)


def test_cohort_without_usable_patients_is_refused() -> None:
    cohort = Cohort(patients=(A,)).with_findings([finding("A-1")])
    with pytest.raises(InputError, match="expected usable patients, found none; 1 have findings"):
        cohort.usable(skip_bad=True)
    with pytest.raises(InputError, match="expected usable patients, found none; 0 have findings"):
        Cohort(patients=()).usable(skip_bad=False)
