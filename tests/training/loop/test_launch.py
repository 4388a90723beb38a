"""The command line on two processes, killed and resumed; slow: `./run_tests.sh -m slow`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from shared.models.card import load_card
from shared.models.segmentation import SegmentationCard
from tests.training.synthetic import TINY
from training.cohort.folds import read_folds
from training.loop.fit import RESULT, FitResult
from training.records import read_record
from training.tasks import out_of_fold
from training.tasks.discovery import TASKS

TWO_PROCESSES = ("--workers", 0, "--devices", 2, "--accelerator", "cpu")
ROOT = Path(__file__).resolve().parents[3]


def start(log: Path, *words: object) -> subprocess.Popen[bytes]:
    """Start a command in a new session, so that its processes can be killed together."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[bytes], log: Path) -> str:
    try:
        code = process.wait(timeout=3600)
    finally:
        kill(process)
    text = log.read_text(errors="replace")
    assert code == 0, text[-3000:]
    return text


def make_phantoms(cohort: Path, patients: int, log: Path, *words: object) -> None:
    finish(
        start(log, "-m", "training.phantom", cohort, "--patients", patients, "--seed", 5, "--small",
              *words),
        log,
    )  # fmt: skip


def kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # every process has ended
        return
    process.wait()


@pytest.mark.slow
def test_two_processes_are_killed_and_resumed_and_export_one_model(tmp_path: Path) -> None:
    """The run is killed after the first of three epochs; two epochs of averaging follow."""
    cohort, runs, model, log = (tmp_path / name for name in ("cohort", "runs", "model", "log"))
    make_phantoms(cohort, 8, log, "--tasks", 1)
    settings = tmp_path / "tiny.toml"
    settings.write_text(TINY.read_text().replace("\nepochs = 2", "\nepochs = 3", 1))
    command = (
        "-m", "training", "segmentation", cohort, runs, "--configuration", settings,
        "--held-out", 3, *TWO_PROCESSES, "--model", model,
    )  # fmt: skip
    fold = runs / "segmentation/fold0"

    first = start(log, *command)
    while first.poll() is None and not (fold / "last.ckpt").exists():
        time.sleep(0.1)
    assert first.poll() is None, log.read_text(errors="replace")[-3000:]
    kill(first)
    assert not (fold / RESULT).exists()

    text = finish(start(log, *command), log)
    assert "MEMBER: 2/2" in text
    assert text.count("exported 1 model(s)") == 1
    result = read_record(FitResult, fold / RESULT)
    assert result.kept == "mean of weights"
    assert result.averaged is not None
    assert set(result.averaged) == set(result.best)
    assert [m.file for m in load_card(model, SegmentationCard).members] == ["segmentation.onnx"]
    (only,) = read_folds(runs / "segmentation").folds
    folder = runs / "segmentation" / out_of_fold.FOLDER
    assert sorted(path.stem for path in folder.glob("*.npz")) == list(only.held_out)
    table = pd.read_csv(folder / out_of_fold.SCORES)
    assert table["PatientID"].tolist() == list(only.held_out)

    again = finish(start(log, *command), log)  # no fold is left to train
    assert "Epoch" not in again


@pytest.mark.slow
def test_two_processes_train_on_everybody(tmp_path: Path) -> None:
    cohort, runs, model, log = (tmp_path / name for name in ("cohort", "runs", "model", "log"))
    make_phantoms(cohort, 6, log, "--tasks", 1)
    command = (
        "-m", "training", "segmentation", cohort, runs, "--configuration", TINY, "--held-out", 0,
        *TWO_PROCESSES, "--model", model,
    )  # fmt: skip
    text = finish(start(log, *command), log)
    assert "MEMBER: 2/2" in text
    assert len(load_card(model, SegmentationCard).members) == 1
    run = runs / "segmentation"
    assert [fold.held_out for fold in read_folds(run).folds] == [()]
    assert not list((run / out_of_fold.FOLDER).glob("*.npz"))


@pytest.mark.slow
def test_two_processes_train_all_tasks_in_two_folds(tmp_path: Path) -> None:
    """Each task holds out each patient of its cohort once, in the folds of Task 1."""
    cohort, runs, models, log = (tmp_path / name for name in ("cohort", "runs", "models", "log"))
    make_phantoms(cohort, 16, log, "--prevalence", 0.6)
    command = (
        "-m", "training", "all", cohort, runs, "--configuration", TINY, "--folds", 2,
        *TWO_PROCESSES, "--models", models,
    )  # fmt: skip
    text = finish(start(log, *command), log)
    assert text.count("MEMBER: 2/2") >= 3
    folds = {name: read_folds(runs / name).folds for name in TASKS}
    held_out = {fold.name: set(fold.held_out) for fold in folds["segmentation"]}
    assert sum(map(len, held_out.values())) == 16
    for name, of_task in folds.items():
        assert [fold.name for fold in of_task] == ["0", "1"]
        assert all(set(fold.held_out) <= held_out[fold.name] for fold in of_task)
        results = [read_record(FitResult, runs / name / f"fold{k}" / RESULT) for k in (0, 1)]
        assert all(result.late for result in results)
        assert len(list((models / name).glob("*.onnx"))) == 2
    masks = runs / "segmentation" / out_of_fold.FOLDER
    assert len(list(masks.glob("*.npz"))) == 16
    for name, file in (("hpv", out_of_fold.LOGITS), ("survival", out_of_fold.RISKS)):
        table = pd.read_csv(runs / name / out_of_fold.FOLDER / file)
        for fold in folds[name]:
            rows = table[table["fold"].astype(str) == fold.name]["PatientID"]
            assert set(fold.held_out) <= set(rows)
