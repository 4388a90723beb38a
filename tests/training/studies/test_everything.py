"""The whole method in one command; the run from end to end is slow: `./run_tests.sh -m slow`."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import HecktorError
from shared.models.card import load_card
from tests.training.synthetic import TINY
from training.studies import everything
from training.studies.everything import Command, Everything, run_everything
from training.tasks.discovery import TASKS

ROOT = Path(__file__).resolve().parents[3]


def wanted(folder: Path, models: Path | None = None) -> Everything:
    return Everything(
        cohort=folder / "cohort",
        runs=folder / "runs",
        configuration="paper",
        hold_out=("--folds", "5"),
        training=("--devices", "2"),
        models=models,
    )


def test_tasks_are_trained_in_order_and_share_the_folds_of_the_first(tmp_path: Path) -> None:
    steps = wanted(tmp_path).commands()
    names = [step[:2] for step in steps]
    assert names == [
        ("training", "segmentation"), ("training", "hpv"), ("training", "survival"),
        ("training", "cases"), ("training", "jobs"),
        ("evaluation", "score"), ("evaluation", "report"), ("training", "scores"),
    ]  # fmt: skip
    assert ["--folds" in step for step in steps] == [True] + 7 * [False]
    assert ["--devices" in step for step in steps] == 3 * [True] + 5 * [False]


def test_nobody_held_out_leaves_the_trainings_alone(tmp_path: Path) -> None:
    everybody = dataclasses.replace(wanted(tmp_path), hold_out=("--held-out", "0"))
    steps = [step[1] for step in everybody.commands()]
    assert steps == ["segmentation", "hpv", "survival"]


def test_nobody_held_out_is_refused_before_the_first_training_if_a_later_one_needs_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything.subprocess, "run", None)
    everybody = dataclasses.replace(
        wanted(tmp_path), hold_out=("--held-out", "0"), configuration="demo"
    )
    with pytest.raises(
        HecktorError,
        match=r'hpv: expected held-out patients in the training of segmentation, because masks = "'
        r'predicted" in \[hpv\] of .*, found that nobody is held out; set masks = "true", or train',
    ):
        run_everything(everybody)


def test_failing_step_ends_the_command_and_the_same_command_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Command] = []
    statuses = iter([0, 1, *8 * [0]])

    def run(words: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        started.append(tuple(words[2:4]))
        return subprocess.CompletedProcess(words, next(statuses))

    monkeypatch.setattr(everything.subprocess, "run", run)
    with pytest.raises(HecktorError, match=r"`python -m training hpv` to complete, found the ex"):
        run_everything(wanted(tmp_path))
    assert started == [("training", "segmentation"), ("training", "hpv")]
    run_everything(wanted(tmp_path))
    assert started[2:] == [step[:2] for step in wanted(tmp_path).commands()]
    ends = capsys.readouterr().out.splitlines()[-3:]
    assert [line.strip() for line in ends] == [
        "task1_segmentation/do_save.sh", "task2_survival/do_save.sh", "task3_hpv/do_save.sh",
    ]  # fmt: skip


@pytest.mark.slow
def test_one_command_leads_from_a_cohort_to_models_scores_and_report(tmp_path: Path) -> None:
    """Two folds of 16 phantoms; a second start trains nothing."""

    def start(*words: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout

    cohort, runs, models = (tmp_path / name for name in ("cohort", "runs", "models"))
    start(
        "training.phantom", cohort, "--patients", 16, "--seed", 5, "--small", "--prevalence", 0.6
    )  # fmt: skip
    command = (
        "training", "all", cohort, runs, "--configuration", TINY, "--folds", 2, "--models", models,
        "--accelerator", "cpu", "--notice", "For tests.",
    )  # fmt: skip
    text = start(*command)
    for name, task in TASKS.items():
        card = load_card(models / name, task.model_type.card_type)
        assert len(card.members) == 2
        assert card.notice == "For tests."
    assert (runs / "report" / "report.html").is_file()
    for score in ("gtvp_dice: ", "c_index: ", "balanced_accuracy: "):
        assert score in text
    assert "| folds of mixed centres | segmentation | gtvp_dice |" in text
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.pt")}
    start(*command)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.pt")} == before
