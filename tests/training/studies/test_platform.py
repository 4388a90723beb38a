"""A cohort as the platform's cases, out-of-fold predictions as its jobs, and their scores."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from evaluation.running.case_folders import find_cases
from evaluation.running.ground_truth import GROUND_TRUTH
from evaluation.running.score_command import score_results
from evaluation.schema import TaskMetrics
from shared.conventions import Label, Volume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.grand_challenge.inputs import read_case
from shared.models.card import MemberKind
from shared.postprocessing.rules import Rules
from shared.preprocessing.pipeline import Prepared
from tests.training.synthetic import GRID, configuration, make_patient, with_facts
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold, Folds, keep
from training.studies import platform as module
from training.studies.platform import write_cases, write_jobs
from training.tasks import out_of_fold


@pytest.fixture
def patients(tmp_path: Path) -> list[PreparedPatient]:
    """Return four patients with images on disk; the last has no outcome of Tasks 2 and 3."""
    outcomes = [(True, False, 900.0), (False, True, 100.0), (True, True, 300.0), (None, None, None)]
    patients = []
    for number, (hpv, relapse, days) in enumerate(outcomes):
        patient = make_patient(number, folder=tmp_path, hpv=hpv, relapse=relapse, days=days)
        ct, pet = (tmp_path / f"{patient.patient_id}__{name}.nii.gz" for name in ("CT", "PT"))
        for path, image in zip((ct, pet), patient.image, strict=True):
            sitk.WriteImage(GRID.image(image.astype(np.float32)), str(path))
        # Each patient has its own copy of the undo, by which `predict` recognises the patient.
        undo = dataclasses.replace(patient.undo)
        patients.append(dataclasses.replace(with_facts(patient, ct=ct, pet=pet), undo=undo))
    return patients


def test_cases_hold_what_the_patients_hold(patients: list[PreparedPatient], tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cohort = [p.patient for p in patients]
    write_cases(cohort[:2], cases)
    before = (cases / "MDA-000/truth.json").stat().st_mtime_ns
    write_cases(cohort, cases)
    assert (cases / "MDA-000/truth.json").stat().st_mtime_ns == before
    assert sorted(path.name for path in cases.iterdir()) == [p.patient_id for p in cohort]
    for each in patients:
        folder = cases / each.patient_id
        case = read_case(folder / "input", CURRENT)
        assert case.clinical == each.patient.clinical
        for image, expected in zip((case.ct_hu, case.pet), each.image, strict=True):
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "truth.nii.gz")))
        np.testing.assert_array_equal(truth, each.labels)
    assert json.loads((cases / "MDA-001/truth.json").read_text()) == {
        "hpv": False, "relapse": True, "rfs_days": 100.0,
    }  # fmt: skip


def test_changed_record_is_written_again_but_images_are_not(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """M-stage, CenterID and missing values come back as they were."""
    first, cases = patients[0].patient, tmp_path / "cases"
    write_cases([first], cases)
    before = {path: path.stat().st_mtime_ns for path in cases.rglob("*.*") if path.is_file()}
    record = dataclasses.replace(first.clinical, m_stage=1.0, centre_id=5.0, treatment=None)
    changed = dataclasses.replace(first, clinical=record, hpv=None)
    write_cases([changed], cases)
    folder = cases / first.patient_id
    case = read_case(folder / "input", CURRENT)
    assert case.clinical == record
    assert json.loads((folder / "truth.json").read_text())["hpv"] is None
    after = {path: path.stat().st_mtime_ns for path in cases.rglob("*.*") if path.is_file()}
    assert set(after) == set(before)
    rewritten = {path.name for path in after if after[path] != before[path]}
    assert rewritten == {"ehr.json", "truth.json"}


def test_incomplete_case_is_not_a_case(
    patients: list[PreparedPatient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, cases = [p.patient for p in patients[:2]], tmp_path / "cases"
    write_cases(cohort[:1], cases)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_json", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception, match="stopped"):
            write_cases(cohort[1:], cases)
    assert (cases / module.DRAFTS / "MDA-001/input").is_dir()
    assert [case.name for case in find_cases(cases)] == ["MDA-000"]
    write_cases(cohort, cases)
    assert sorted(path.name for path in cases.iterdir()) == ["MDA-000", "MDA-001"]


def predict(patients: list[PreparedPatient], runs: Path) -> None:
    """Write predictions by hand: Task 1 misses one node, Task 3 is wrong for one of three."""

    def nearly_perfect(prepared: Prepared) -> Volume:
        (patient,) = [p for p in patients if p.undo is prepared.undo]
        is_missed = (patient is patients[0]) & (patient.labels == Label.GTVN)
        labels = np.where(is_missed, 0, patient.labels)
        return np.stack([labels == value for value in range(3)]).astype(np.float32)

    out_of_fold.write(
        runs / "segmentation" / out_of_fold.FOLDER,
        "0",
        patients,
        predict=nearly_perfect,
        min_component_mm3=configuration().segmentation.min_component_mm3,
        rules=Rules(),
    )
    with_outcome = patients[:3]
    logits = {"network": np.array([1.0, 2.0, 0.5]), "linear": np.array([1.0, 0.0, 0.5])}
    folder = runs / "hpv" / out_of_fold.FOLDER
    out_of_fold.write_logits(folder, "0", with_outcome, logits)
    risks = {"network": np.array([-1.0, 2.0, 1.5])}
    out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", with_outcome, risks)


def test_evaluation_scores_the_out_of_fold_predictions(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.patient for p in patients[1:]], cases)
    with pytest.raises(InputError, match="expected TASK/out_of_fold of all tasks"):
        write_jobs(patients, runs, cases=cases, folder=run)
    predict(patients, runs)
    with pytest.raises(InputError, match="found none for MDA-000; make the cases"):
        write_jobs(patients, runs, cases=cases, folder=run)
    write_cases([p.patient for p in patients], cases)
    tasks = ["task1_segmentation", "task2_survival", "task3_hpv"]
    assert write_jobs(patients, runs, cases=cases, folder=run) == tasks
    # A second call resumes, with nothing to do.
    assert write_jobs(patients, runs, cases=cases, folder=run) == tasks
    # A case of another cohort is not scored.
    (cases / "ABC-001/input").mkdir(parents=True)
    (cases / "ABC-001/truth.json").write_text('{"hpv": true, "relapse": true, "rfs_days": 9}')
    write_jobs(patients, runs, cases=cases, folder=run)

    metrics = score_results(run, run / GROUND_TRUTH, workers=1)
    task1 = metrics["task1_segmentation"].aggregates
    assert task1["gtvp_dice"].value == 1
    assert task1["gtvn_aggregated_f1"].value == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert metrics["task2_survival"].aggregates["c_index"].value == 1
    hpv = metrics["task3_hpv"].aggregates
    # Both positive patients are predicted correctly, the negative one wrongly.
    assert hpv["balanced_accuracy"].value == 0.5
    assert hpv["auc"].value == pytest.approx(0.25)  # logits 1 and 0.5 against 1
    assert metrics["task3_hpv"].cases == 3


def test_with_one_fold_only_the_held_out_patients_are_scored(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.patient for p in patients], cases)
    predict(patients, runs)
    names = [p.patient_id for p in patients]
    fold = Fold(name="0", training=tuple(names[2:]), held_out=tuple(names[:2]))
    for task in ("segmentation", "survival", "hpv"):
        keep(Folds(how="one", strata={}, folds=(fold,)), runs / task)
    for name in names[2:]:
        (runs / "segmentation" / out_of_fold.FOLDER / f"{name}.npz").unlink()
    write_jobs(patients, runs, cases=cases, folder=run)

    metrics = score_results(run, run / GROUND_TRUTH, workers=1)
    for each in metrics.values():
        assert isinstance(each, TaskMetrics)
        assert [result.case_id for result in each.results] == names[:2]
        assert each.failed == 0


def test_jobs_of_other_predictions_are_refused(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """Training a fold again puts other predictions into the same folder."""
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.patient for p in patients], cases)
    predict(patients, runs)
    write_jobs(patients, runs, cases=cases, folder=run)
    truth = (run / GROUND_TRUTH / "patients.csv").stat().st_mtime_ns
    risks = {"network": np.array([3.0, 2.0, 1.5])}
    out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", patients[:3], risks)
    with pytest.raises(InputError, match=r"jobs of the same origin in .*task2_survival"):
        write_jobs(patients, runs, cases=cases, folder=run)
    assert (run / GROUND_TRUTH / "patients.csv").stat().st_mtime_ns == truth
    write_jobs(patients, runs, cases=cases, folder=tmp_path / "new")


@pytest.mark.parametrize("task", [1, 2])
def test_untrained_fold_is_reported_before_any_job_is_written(
    patients: list[PreparedPatient], tmp_path: Path, task: int
) -> None:
    runs, cases, run = tmp_path / "runs", tmp_path / "cases", tmp_path / "run"
    write_cases([p.patient for p in patients], cases)
    predict(patients, runs)
    if task == 1:
        (runs / "segmentation" / out_of_fold.FOLDER / "MDA-002.npz").unlink()
    else:
        risks = {"network": np.zeros(2)}
        out_of_fold.write_risks(runs / "survival" / out_of_fold.FOLDER, "0", patients[:2], risks)
    with pytest.raises(InputError, match=f"MDA-002.* train all folds of Task {task}"):
        write_jobs(patients, runs, cases=cases, folder=run)
    assert not run.exists()


def write_folds(folder: Path, folds: range) -> None:
    """Write scores, logits and risks of folds of two patients each."""

    def background(prepared: Prepared) -> Volume:
        return np.stack([np.full(prepared.ct_hu.shape, value, np.float32) for value in (1, 0, 0)])

    for fold in folds:
        held_out = [make_patient(n, folder=folder) for n in (2 * fold, 2 * fold + 1)]
        outputs: dict[MemberKind, NDArray[np.float64]] = {"network": np.zeros(2)}
        out_of_fold.write(
            folder,
            str(fold),
            held_out,
            predict=background,
            min_component_mm3={},
            rules=Rules(),
        )
        out_of_fold.write_logits(folder, str(fold), held_out, outputs)
        out_of_fold.write_risks(folder, str(fold), held_out, outputs)


def test_folds_trained_at_the_same_time_lose_no_rows(tmp_path: Path) -> None:
    """Threads stand in for processes, which is possible because a lock belongs to the open file."""
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(write_folds, tmp_path, range(n, n + 4)) for n in range(0, 16, 4)]
    for future in futures:
        future.result()
    for name in (out_of_fold.SCORES, out_of_fold.LOGITS, out_of_fold.RISKS):
        table = pd.read_csv(tmp_path / name)
        assert sorted(table["PatientID"]) == [f"MDA-{number:03d}" for number in range(32)]


def test_fold_written_again_replaces_its_rows(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    for fold, risk in (("0", 1.0), ("1", 2.0), ("0", 3.0)):
        held_out = patients[:1] if fold == "0" else patients[1:2]
        out_of_fold.write_risks(tmp_path, fold, held_out, {"linear": np.array([risk])})
    table = pd.read_csv(tmp_path / out_of_fold.RISKS)
    assert table["risk"].tolist() == [3.0, 2.0]
    assert out_of_fold.read_risks(tmp_path, ["MDA-001", "MDA-000"]) == [2.0, 3.0]
    with pytest.raises(InputError, match=r"out-of-fold risk of MDA-002 .* all folds of Task 2"):
        out_of_fold.read_risks(tmp_path, ["MDA-002"])
