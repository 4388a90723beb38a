"""Cohorts on disk: layout, resuming, foreign folders, independence of the number of processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import SimpleITK as sitk

from training.phantom import Kind, make_cohort
from training.phantom.cohort import read_records
from training.phantom.oracle import oracle_scores

KIND = Kind(
    small=True, whole_body=False, brain_in_fov=False, spacing_mm=(3.0, 3.0, 6.0), planned=True
)


@pytest.fixture(scope="module")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("challenge")
    make_cohort(folder, 2, seed=1, kind=KIND, workers=1)
    return folder


def read_table(folder: Path, task: int) -> list[dict[str, str]]:
    with (folder / f"Task {task}" / f"HECKTOR_2025_Training_Task_{task}.csv").open() as file:
        return list(csv.DictReader(file))


def test_layout_of_the_challenge(challenge: Path) -> None:
    names = [row["PatientID"] for row in read_table(challenge, 1)]
    assert len(names) == 2
    for task in (1, 2, 3):
        for name in names:
            files = {path.name for path in (challenge / f"Task {task}" / name).iterdir()}
            suffixes = {
                1: ["__CT", "__PT", ""], 2: ["__CT", "__PT", "__CTPlanning", "__RTDOSE"],
                3: ["__CT", "__PT"],
            }  # fmt: skip
            assert files == {f"{name}{suffix}.nii.gz" for suffix in suffixes[task]}
    assert {"Relapse", "RFS"} <= set(read_table(challenge, 2)[0])
    assert read_table(challenge, 3)[0]["HPV Status"] in ("0", "1", "")
    assert not (challenge / ".partial").exists()


def test_cohort_json_has_the_recipe_and_the_best_score(challenge: Path) -> None:
    recipe = json.loads((challenge / "cohort.json").read_text())
    assert recipe["seed"] == 1
    assert recipe["kind"]["small"] is True
    assert recipe["oracle"] == oracle_scores(read_records(challenge)[: recipe["patients"]])


def test_resuming_keeps_finished_patients_and_makes_missing_ones(challenge: Path) -> None:
    images = sorted(challenge.glob("Task 1/*/*__CT.nii.gz"))
    before = [path.stat().st_mtime_ns for path in images]
    make_cohort(challenge, 3, seed=1, kind=KIND, workers=1)
    assert [path.stat().st_mtime_ns for path in images] == before
    assert len(read_table(challenge, 2)) == 3


def test_patients_do_not_depend_on_processes_or_layout(challenge: Path, tmp_path: Path) -> None:
    records = make_cohort(tmp_path / "cases", 2, seed=1, kind=KIND, workers=2, as_cases=True)
    for record in records:
        name = record["PatientID"]
        case = tmp_path / "cases" / name
        for path, challenge_name in (
            (case / f"input/images/ct/{name}.mha", f"{name}__CT.nii.gz"),
            (case / f"input/images/pet/{name}.mha", f"{name}__PT.nii.gz"),
            (case / "truth.nii.gz", f"{name}.nii.gz"),
            (tmp_path / f"cases/ground_truth/masks/{name}.nii.gz", f"{name}.nii.gz"),
        ):
            twin = sitk.ReadImage(str(challenge / "Task 1" / name / challenge_name))
            assert sitk.Hash(sitk.ReadImage(str(path))) == sitk.Hash(twin)
        truth = json.loads((case / "truth.json").read_text())
        assert {"hpv", "relapse", "rfs_days"} <= set(truth)
        assert "Age" in json.loads((case / "input/ehr.json").read_text())
        for modality in ("ct-planning", "rt-dose"):
            assert (case / f"input/images/{modality}/{name}.mha").is_file()
    with (tmp_path / "cases/ground_truth/patients.csv").open() as file:
        table = {row["PatientID"]: row for row in csv.DictReader(file)}
    assert list(table) == [record["PatientID"] for record in records]
    for record in records:
        row = table[record["PatientID"]]
        assert float(row["RFS"]) == record["rfs_days"]
        assert row["Relapse"] == str(record["relapse"])
        assert row["FieldOfView"] == "head_neck"


def test_folder_with_other_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and has no cohort"):
        make_cohort(tmp_path, 1, kind=KIND)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_folder_of_another_cohort_is_rejected(challenge: Path) -> None:
    with pytest.raises(ValueError, match="differs in seed"):
        make_cohort(challenge, 1, seed=2, kind=KIND)


def test_unknown_task_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected tasks among 1, 2, 3"):
        make_cohort(tmp_path / "new", 1, kind=KIND, tasks=(4,))
    assert not (tmp_path / "new").exists()
