"""A budget in hours sets the schedule: by hand, by property, and in a resumed run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import HecktorError, InputError
from tests.training.synthetic import configuration, fold_training, make_patient
from training import train as train_module
from training.cohort.folds import HoldOut
from training.config import Configuration
from training.export.record import read_run
from training.loop.hardware import Device, Hardware, TrainingError
from training.tasks import hours as hours_module
from training.tasks.base import FoldTraining
from training.tasks.hours import check_hours, fit_schedule, fit_to_hours, with_schedule_of
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.tasks.timing import Pace, step_with_loading
from training.train import Options, train_patients

CPU = Hardware(devices=1, accelerator="cpu")
PATIENTS = [make_patient(number) for number in range(6)]
ORIGINAL = configuration(epochs=100, averaging=10, validate_every_epochs=5).segmentation
PACE = Pace(steps=10, step_seconds=2.0, held_out=5, validation_seconds=4.0)


def test_seconds_by_hand() -> None:
    """110 epochs of 10 steps of 2 s, and 20 + 1 validations of 5 patients, each for 4 s."""
    assert PACE.seconds(ORIGINAL) == 110 * 10 * 2 + 21 * 5 * 4


def test_schedule_keeps_its_proportions() -> None:
    """40 + 4 epochs of 10 steps of 2 s; a validation every 2 epochs gives 20 + 1 validations."""
    needed = 44 * 10 * 2 + 21 * 5 * 4
    fitted = fit_schedule(ORIGINAL, [PACE], needed)
    assert fitted is not None
    assert fitted.averaging is not None
    assert (fitted.epochs, fitted.averaging.epochs, fitted.validate_every_epochs) == (40, 4, 2)
    assert fitted.model_copy(
        update={"epochs": 100, "averaging": ORIGINAL.averaging, "validate_every_epochs": 5}
    ) == ORIGINAL  # fmt: skip
    assert fit_schedule(ORIGINAL, [PACE], PACE.seconds(ORIGINAL)) == ORIGINAL
    assert fit_schedule(ORIGINAL, 2 * [PACE], 2 * PACE.seconds(ORIGINAL)) == ORIGINAL


def test_budget_of_less_than_an_epoch_gives_no_schedule() -> None:
    """The shortest schedule: one epoch, one epoch of averaging, and a validation after each."""
    shortest = 2 * 10 * 2 + 2 * 5 * 4
    fitted = fit_schedule(ORIGINAL, [PACE], shortest)
    assert fitted is not None
    assert fitted.epochs == 1
    assert fit_schedule(ORIGINAL, [PACE], shortest - 1) is None


@given(
    seconds=st.floats(1, 1e3),
    paces=st.lists(
        st.builds(
            Pace,
            steps=st.integers(1, 50),
            step_seconds=st.floats(0.1, 10),
            held_out=st.integers(0, 50),
            validation_seconds=st.floats(0.1, 10),
        ),
        min_size=1,
        max_size=5,
    ),
    averaging=st.none() | st.integers(1, 50),
    every=st.integers(1, 20),
)
def test_schedule_fits_and_a_larger_budget_gives_no_fewer_epochs(
    seconds: float, paces: list[Pace], averaging: int | None, every: int
) -> None:
    mean = ORIGINAL.averaging
    if mean is not None:
        mean = None if averaging is None else mean.model_copy(update={"epochs": averaging})
    original = ORIGINAL.model_copy(update={"averaging": mean, "validate_every_epochs": every})
    fitted = fit_schedule(original, paces, seconds)
    more = fit_schedule(original, paces, 2 * seconds)
    if fitted is None:
        return
    assert more is not None
    assert more.epochs >= fitted.epochs
    assert sum(pace.seconds(fitted) for pace in paces) <= seconds
    assert abs(fitted.validate_every_epochs - every * fitted.epochs / 100) <= 1
    assert (fitted.averaging is None) == (averaging is None)


def test_loading_slows_a_step_if_it_does_not_keep_up() -> None:
    """A batch takes 8 s to load on one core, a step 2 s."""

    def step(workers: int, cpus: float, device: Device) -> float:
        return step_with_loading(2.0, 8.0, workers=workers, cpus=cpus, device=device)

    assert step(0, 16, "cuda") == step(0, 16, "cpu") == 10
    assert step(2, 16, "cuda") == 4
    assert step(8, 16, "cuda") == 2
    assert step(8, 2, "cuda") == 4  # only two of the eight work at a time
    assert step(1, 2, "cpu") == 8
    assert step(2, 2, "cpu") == 6  # the loading takes both cores for 4 s


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """Give each fold a fixed pace; return a list that gets the pace each time it is measured."""
    measured: list[Pace] = []

    def measure(*_: object) -> Pace:
        measured.append(dataclasses.replace(PACE, held_out=3))
        return measured[-1]

    monkeypatch.setattr(hours_module, "_measure", measure)
    return measured


def test_each_fold_counts_with_its_own_steps_and_held_out_patients(
    pace: list[Pace], capsys: pytest.CaptureFixture[str]
) -> None:
    """With batches of two, the first fold has 2 steps and 2 held-out patients, the other 1 and 4.

    Two epochs of both folds take (2 + 1) x 2 x 2 s of steps, and 2 x (2 + 4) x 4 s of validation.
    """
    settings = configuration(epochs=4, averaging=None)
    trainings = [
        fold_training(settings, PATIENTS[:4], PATIENTS[4:]),
        fold_training(settings, PATIENTS[:2], PATIENTS[2:]),
    ]
    needed = (2 + 1) * 2 * 2 + 2 * (2 + 4) * 4
    budget = needed / 3600 / (1 - hours_module.UNUSED)
    fitted = fit_to_hours(Segmentation(), settings, trainings, budget * 1.001)
    assert fitted.segmentation.epochs == 2
    assert "hours allow 2 epochs in each of 2 folds, validated every 1, at 2 s" in (
        capsys.readouterr().out
    )
    message = r"segmentation: expected at least .* hours, in which each of 2 folds is .*, found 0.0"
    with pytest.raises(InputError, match=message):
        fit_to_hours(Segmentation(), settings, trainings, budget / 3)
    assert len(pace) == 2


def test_pace_is_measured_on_the_device_at_hand() -> None:
    settings = configuration(epochs=4, averaging=2)
    training: FoldTraining = fold_training(settings, PATIENTS[:4], PATIENTS[4:])
    measured = hours_module._measure(Segmentation(), training)
    assert (measured.steps, measured.held_out) == (2, 2)
    assert measured.step_seconds > 0
    assert measured.validation_seconds > 0


def changed(task: str, **changes: object) -> Configuration:
    content = configuration().model_dump()
    content[task] |= changes
    return Configuration.model_validate(content)


def test_budget_that_sets_nothing_is_refused() -> None:
    check_hours(Survival(), changed("survival", models="both"), 3.0)
    check_hours(Survival(), changed("survival", models="linear"), None)
    with pytest.raises(InputError, match="survival: expected a network to train in 3 hours, found"):
        check_hours(Survival(), changed("survival", models="linear"), 3.0)
    with pytest.raises(InputError, match="expected a positive number of hours, found -1"):
        check_hours(Segmentation(), configuration(), -1.0)
    frozen = {
        "head": "lesions", "encoder": "frozen", "strides": (2, 4), "clinical_width": 8,
        "dropout": 0.2, "views": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match="hpv: expected a network whose epochs take time, found a"):
        check_hours(Hpv(), changed("hpv", network=frozen), 3.0)


def test_schedule_of_a_record_is_taken_over_and_nothing_else() -> None:
    ours = configuration(epochs=100, averaging=10, validate_every_epochs=5, learning_rate=1e-2)
    theirs = configuration(epochs=7, averaging=2, validate_every_epochs=3, learning_rate=1e-4)
    taken = with_schedule_of(Segmentation(), ours, theirs)
    assert taken == configuration(
        epochs=7, averaging=2, validate_every_epochs=3, learning_rate=1e-2
    )
    assert with_schedule_of(Segmentation(), ours, configuration(averaging=None)) == ours


def begin(runs: Path, fold: str, hours: float | None) -> Configuration:
    """Begin a run of two folds of three patients, and return the configuration of the training."""
    options = Options(
        hold_out=HoldOut(folds=2), only_fold=fold, workers=0, hardware=CPU, hours=hours
    )
    settings = configuration(epochs=300, averaging=100, validate_every_epochs=300)
    (training,) = train_module._begin(Segmentation(), PATIENTS, settings, runs, options).trainings
    return training.configuration


def test_resumed_run_keeps_its_schedule_without_a_timed_step(
    pace: list[Pace], tmp_path: Path
) -> None:
    """The second fold keeps it too; another budget, or none, is refused.

    A fold of three has one step of 2 s and validates three patients, each for 4 s.
    """
    hours = ((3 + 1) * 2 + 2 * 3 * 4) / 3600 / (1 - hours_module.UNUSED) * 1.001
    first = begin(tmp_path, "0", hours)
    schedule = first.segmentation
    assert schedule.averaging is not None
    assert (schedule.epochs, schedule.averaging.epochs, schedule.validate_every_epochs) == (3, 1, 3)
    record = read_run(tmp_path / "segmentation")
    assert (record.configuration, record.hours) == (first, hours)
    assert begin(tmp_path, "0", hours) == begin(tmp_path, "1", hours) == first
    assert read_run(tmp_path / "segmentation") == record
    assert len(pace) == 1
    with pytest.raises(HecktorError, match="found other values of hours; give"):
        begin(tmp_path, "0", 2 * hours)
    with pytest.raises(HecktorError, match="found other values of configuration and hours; give"):
        begin(tmp_path, "0", None)


def test_record_of_an_earlier_version_has_no_hours(tmp_path: Path) -> None:
    begin(tmp_path, "0", None)
    path = tmp_path / "segmentation/run.json"
    content = json.loads(path.read_text())
    assert content.pop("hours") is None
    path.write_text(json.dumps(content))
    begin(tmp_path, "0", None)


def test_other_processes_wait_for_the_record_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "is_first_process", lambda: False)
    monkeypatch.setattr(train_module, "LONGEST_WAIT_SECONDS", 0.0)
    options = Options(hold_out=HoldOut(folds=2), workers=0, hardware=CPU, hours=1.0)
    with pytest.raises(TrainingError, match=r"expected .*run\.json from the first process within"):
        train_patients(Segmentation(), PATIENTS, configuration(), runs=tmp_path, options=options)
