"""The plan of a training: steps, hours and what is printed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.synthetic import configuration, make_patient
from training.cohort.folds import HoldOut
from training.loop.hardware import Hardware
from training.studies.plan import Plan, plan
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

PATIENTS = [make_patient(n, hpv=n % 2 == 0, relapse=True, days=9.0 + n).patient for n in range(20)]


def planned(task: Task, tmp_path: Path, gpus: int = 1, is_timed: bool = False) -> Plan:
    return plan(
        task,
        configuration(averaging=2, validate_every_epochs=2),
        PATIENTS,
        runs=tmp_path,
        hold_out=HoldOut(folds=5),
        workers=2,
        hardware=Hardware(devices=gpus, accelerator="cpu"),
        is_timed=is_timed,
    )


@pytest.mark.parametrize(
    ("task", "steps"),
    [(Segmentation(), 8), (Hpv(), 8), (Survival(), 8)],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)
def test_steps_of_an_epoch(task: Task, steps: int, tmp_path: Path) -> None:
    """16 of 20 patients in batches of two; two processes share the steps."""
    one = planned(task, tmp_path)
    assert (one.steps, one.held_out, one.folds) == (steps, 4, 5)
    assert planned(task, tmp_path, gpus=2).steps == steps // 2


def test_hours_by_hand(tmp_path: Path) -> None:
    """Each of 5 folds has 2 + 2 epochs of 8 steps, and 1 + 1 validations of 4 patients."""
    untimed = planned(Segmentation(), tmp_path)
    assert untimed.hours is None
    assert "not measured" in untimed.lines()[-1]
    timed = dataclasses.replace(untimed, step_seconds=9.0, validation_seconds=36.0)
    assert timed.hours == pytest.approx(5 * (4 * 8 * 9 + 2 * 4 * 36) / 3600)
    two = dataclasses.replace(timed, hardware=Hardware(devices=2, accelerator="cpu"))
    assert two.hours == pytest.approx(5 * (4 * 8 * 9 + 2 * 2 * 36) / 3600)


def test_nobody_held_out_costs_no_validation(tmp_path: Path) -> None:
    everybody = plan(
        Segmentation(),
        configuration(averaging=2),
        PATIENTS,
        runs=tmp_path,
        hold_out=HoldOut(count=0),
        workers=0,
        hardware=Hardware(devices=1, accelerator="cpu"),
        is_timed=True,
    )
    assert (everybody.held_out, everybody.folds, everybody.steps) == (0, 1, 10)
    timed = dataclasses.replace(everybody, step_seconds=9.0)
    assert timed.hours == pytest.approx(4 * 10 * 9 / 3600)
    assert "validated" not in timed.lines()[-1]


def test_hours_of_kept_features(tmp_path: Path) -> None:
    """Each of 5 folds has 3 views of 16 patients, and 4 held-out patients; steps do not count."""
    timed = dataclasses.replace(
        planned(Hpv(), tmp_path), kept_windows=3 * 16 + 4, step_seconds=9.0, validation_seconds=2.0
    )
    assert timed.hours == pytest.approx(5 * 52 * 2 / 3600)
    assert "for the features of 52 windows a fold at 2.00 s each" in timed.lines()[-1]


def test_plan_of_every_task_is_printed(tmp_path: Path) -> None:
    for task in (Segmentation(), Hpv(), Survival()):
        each = planned(task, tmp_path, is_timed=True)
        assert each.hours is not None
        assert each.hours > 0
        first, *others = each.lines()
        assert first.startswith(f"{task.name}: ")
        words = ["memory per GPU", "shared memory", "disk", "steps per epoch", "time"]
        assert [line[2:].split("  ")[0] for line in others] == words
        assert "on this machine's CPU" in others[-1]
    assert not list(tmp_path.iterdir())
