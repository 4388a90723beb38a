"""Cohorts as the platform's cases, out-of-fold predictions as jobs; scored by the evaluation."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from evaluation.running.case_folders import find_cases
from evaluation.running.ground_truth import GROUND_TRUTH
from evaluation.running.score_command import score_results
from shared.conventions import Label
from shared.errors import InputError
from shared.grand_challenge.inputs import read_case
from shared.preprocessing.pipeline import Prepared
from shared.tasks import CURRENT
from tests.training.synthetic import GRID, configuration, patient
from training.cohort.cache import Cached
from training.studies import platform as module
from training.studies.platform import write_cases, write_jobs
from training.tasks import out_of_fold


@pytest.fixture
def patients(tmp_path: Path) -> list[Cached]:
    """Four patients with images on disk; the last has no outcome of Tasks 2 and 3."""
    known = [(True, False, 900.0), (False, True, 100.0), (True, True, 300.0), (None, None, None)]
    found = []
    for number, (hpv, relapse, days) in enumerate(known):
        made = patient(number, folder=tmp_path, hpv=hpv, relapse=relapse, days=days)
        ct, pet = (tmp_path / f"{made.files.patient_id}__{name}.nii.gz" for name in ("CT", "PT"))
        for path, image in zip((ct, pet), made.image, strict=True):
            sitk.WriteImage(GRID.image(image.astype(np.float32)), str(path))
        found.append(
            dataclasses.replace(made, files=dataclasses.replace(made.files, ct=ct, pet=pet))
        )
    return found


def test_cases_are_read_as_the_patients_that_they_are(
    patients: list[Cached], tmp_path: Path
) -> None:
    cases = tmp_path / "cases"
    files = [p.files for p in patients]
    write_cases(files[:2], cases)
    before = (cases / "MDA-000/truth.json").stat().st_mtime_ns
    write_cases(files, cases)
    assert (cases / "MDA-000/truth.json").stat().st_mtime_ns == before
    assert sorted(path.name for path in cases.iterdir()) == [f.patient_id for f in files]
    for each in patients:
        folder = cases / each.files.patient_id
        case = read_case(folder / "input", CURRENT)
        assert case.clinical == each.files.clinical
        for image, expected in zip((case.ct_hu, case.pet), each.image, strict=True):
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "truth.nii.gz")))
        np.testing.assert_array_equal(truth, each.labels)
    assert json.loads((cases / "MDA-001/truth.json").read_text()) == {
        "hpv": False, "relapse": True, "rfs_days": 100.0,
    }  # fmt: skip


def test_a_record_that_changed_is_written_again_and_images_are_not(
    patients: list[Cached], tmp_path: Path
) -> None:
    """M-stage and CenterID come back as they were, as does what is not known."""
    files, cases = patients[0].files, tmp_path / "cases"
    write_cases([files], cases)
    before = {path: path.stat().st_mtime_ns for path in cases.rglob("*.*") if path.is_file()}
    record = dataclasses.replace(files.clinical, m_stage=1.0, centre_id=5.0, treatment=None)
    changed = dataclasses.replace(files, clinical=record, hpv=None)
    write_cases([changed], cases)
    folder = cases / files.patient_id
    case = read_case(folder / "input", CURRENT)
    assert case.clinical == record
    assert json.loads((folder / "truth.json").read_text())["hpv"] is None
    after = {path: path.stat().st_mtime_ns for path in cases.rglob("*.*") if path.is_file()}
    assert set(after) == set(before)
    rewritten = {path.name for path in after if after[path] != before[path]}
    assert rewritten == {"ehr.json", "truth.json"}


def test_a_case_that_is_not_finished_is_none(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, cases = [p.files for p in patients[:2]], tmp_path / "cases"
    write_cases(files[:1], cases)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_texts", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception, match="stopped"):
            write_cases(files[1:], cases)
    assert (cases / module.DRAFTS / "MDA-001/input").is_dir()
    assert [case.name for case in find_cases(cases)] == ["MDA-000"]
    write_cases(files, cases)
    assert sorted(path.name for path in cases.iterdir()) == ["MDA-000", "MDA-001"]


def predict(patients: list[Cached], runs: Path) -> None:
    """Write predictions by hand: all of Task 1 but one node, one of three wrong in Task 3."""

    def perfect(prepared: object) -> np.ndarray:
        (mine,) = [p for p in patients if p.undo is prepared.undo]  # type: ignore[attr-defined]
        labels = np.where((mine is patients[0]) & (mine.labels == Label.GTVN), 0, mine.labels)
        return np.stack([labels == value for value in range(3)]).astype(np.float32)

    settings = configuration().segmentation
    out_of_fold.write(runs / "segmentation" / out_of_fold.FOLDER, "0", patients, perfect, settings)
    known = patients[:3]
    logits = {"network": np.array([1.0, 2.0, 0.5]), "linear": np.array([1.0, 0.0, 0.5])}
    folder = runs / "hpv" / out_of_fold.FOLDER
    out_of_fold.write_logits(folder, "0", known, logits)
    risks = {"network": np.array([-1.0, 2.0, 1.5])}
    out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", known, risks)


def test_the_evaluation_scores_what_was_predicted_out_of_fold(
    patients: list[Cached], tmp_path: Path
) -> None:
    patients = [dataclasses.replace(p, undo=dataclasses.replace(p.undo)) for p in patients]
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.files for p in patients[1:]], cases)
    with pytest.raises(InputError, match="expected out_of_fold of a task in"):
        write_jobs(patients, runs, cases, run)
    predict(patients, runs)
    with pytest.raises(InputError, match="found none for MDA-000; make them"):
        write_jobs(patients, runs, cases, run)
    write_cases([p.files for p in patients], cases)
    tasks = ["task1_segmentation", "task2_survival", "task3_hpv"]
    assert write_jobs(patients, runs, cases, run) == tasks
    assert write_jobs(patients, runs, cases, run) == tasks  # goes on where it was: nothing to do
    (cases / "ABC-001/input").mkdir(parents=True)
    (cases / "ABC-001/truth.json").write_text('{"hpv": true, "relapse": true, "rfs_days": 9}')
    write_jobs(patients, runs, cases, run)  # of another cohort, and so not scored

    metrics = score_results(run, run / GROUND_TRUTH, workers=1)
    task1 = metrics["task1_segmentation"].aggregates
    assert task1["gtvp_dice"].value == 1
    assert task1["gtvn_aggregated_f1"].value == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert metrics["task2_survival"].aggregates["c_index"].value == 1
    hpv = metrics["task3_hpv"].aggregates
    assert hpv["balanced_accuracy"].value == 0.5  # both positive ones right, the negative one wrong
    assert hpv["auc"].value == pytest.approx(0.25)  # logits 1, 0.5 against 1
    assert metrics["task3_hpv"].cases == 3


def test_jobs_of_other_predictions_are_not_mixed(patients: list[Cached], tmp_path: Path) -> None:
    """A fold that was trained again gives other predictions in the same folder."""
    patients = [dataclasses.replace(p, undo=dataclasses.replace(p.undo)) for p in patients]
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.files for p in patients], cases)
    predict(patients, runs)
    write_jobs(patients, runs, cases, run)
    truth = (run / GROUND_TRUTH / "patients.csv").stat().st_mtime_ns
    risks = {"network": np.array([3.0, 2.0, 1.5])}
    out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", patients[:3], risks)
    with pytest.raises(InputError, match=r"jobs of the same origin in .*task2_survival"):
        write_jobs(patients, runs, cases, run)
    assert (run / GROUND_TRUTH / "patients.csv").stat().st_mtime_ns == truth
    write_jobs(patients, runs, cases, tmp_path / "new")


@pytest.mark.parametrize("task", [1, 2])
def test_a_fold_that_is_not_trained_is_told_of_before_a_job_is_written(
    patients: list[Cached], tmp_path: Path, task: int
) -> None:
    patients = [dataclasses.replace(p, undo=dataclasses.replace(p.undo)) for p in patients]
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.files for p in patients], cases)
    predict(patients, runs)
    if task == 1:
        (runs / "segmentation" / out_of_fold.FOLDER / "MDA-002.npz").unlink()
    else:
        risks = {"network": np.zeros(2)}
        out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", patients[:2], risks)
    with pytest.raises(InputError, match=f"MDA-002.* train all folds of Task {task}"):
        write_jobs(patients, runs, cases, run)
    assert not run.exists()


def write_folds(folder: Path, folds: range) -> None:
    """Write scores, logits and risks of folds of two patients each."""

    def background(prepared: Prepared) -> np.ndarray:
        return np.stack([np.full(prepared.ct_hu.shape, value, np.float32) for value in (1, 0, 0)])

    for fold in folds:
        both = [patient(number, folder=folder) for number in (2 * fold, 2 * fold + 1)]
        said = {"network": np.zeros(2)}
        out_of_fold.write(folder, str(fold), both, background, configuration().segmentation)
        out_of_fold.write_logits(folder, str(fold), both, said)
        out_of_fold.write_risks(folder, str(fold), both, said)


def test_folds_side_by_side_lose_no_rows(tmp_path: Path) -> None:
    """Threads stand for jobs: a lock is of the open file, not of the process."""
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(write_folds, tmp_path, range(n, n + 4)) for n in range(0, 16, 4)]
    for job in jobs:
        job.result()
    for name in (out_of_fold.SCORES, out_of_fold.LOGITS, out_of_fold.RISKS):
        table = pd.read_csv(tmp_path / name)
        assert sorted(table["PatientID"]) == [f"MDA-{number:03d}" for number in range(32)]


def test_a_fold_that_is_written_again_replaces_itself(
    patients: list[Cached], tmp_path: Path
) -> None:
    for fold, risk in (("0", 1.0), ("1", 2.0), ("0", 3.0)):
        known = patients[:1] if fold == "0" else patients[1:2]
        out_of_fold.write_risks(tmp_path, fold, known, {"linear": np.array([risk])})
    table = pd.read_csv(tmp_path / out_of_fold.RISKS)
    assert table["risk"].tolist() == [3.0, 2.0]
    assert out_of_fold.read_risks(tmp_path, ["MDA-001", "MDA-000"]) == [2.0, 3.0]
    with pytest.raises(InputError, match=r"out-of-fold risk of MDA-002 .* all folds of Task 2"):
        out_of_fold.read_risks(tmp_path, ["MDA-002"])
