"""A budget in hours that sets the schedule of a training run.

The time of a step, of loading a sample and of validating a patient is measured on the device at
hand. The schedule gets as many epochs as the budget allows; the epochs of averaging and those
between validations change in proportion. A decay of the learning rate ends with the last epoch. The
run's record keeps the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, TypeVar

from shared.errors import InputError
from shared.resources import granted_cpus
from training.config import Configuration, Schedule
from training.tasks.base import FoldTraining, Task
from training.tasks.timing import (
    Pace,
    batch_of,
    step_with_loading,
    steps_of_epoch,
    time_sample,
    time_step,
    time_validation,
)

UNUSED: Final = 0.1
"""Part of the budget that stays unused: the first steps are slower, and after the training, the
late weights are validated, the held-out patients are predicted and the models are exported."""

AnySchedule = TypeVar("AnySchedule", bound=Schedule)


def check_hours(task: Task, configuration: Configuration, hours: float | None) -> None:
    """Raise InputError if a budget cannot set the schedule.

    Parameters
    ----------
    hours : the budget; None means that there is none, and nothing is checked.
    """
    if hours is None:
        return
    if hours <= 0:
        raise InputError(f"expected a positive number of hours, found {hours:g}")
    if "network" not in task.kinds(configuration):
        raise InputError(
            f"{task.name}: expected a network to train in {hours:g} hours, found linear models "
            "alone, which take seconds; leave out --hours"
        )
    if task.kept_views(configuration) is not None:
        raise InputError(
            f"{task.name}: expected a network whose epochs take time, found a frozen encoder, "
            "whose features are computed once; leave out --hours"
        )


def with_schedule_of(
    task: Task, configuration: Configuration, other: Configuration
) -> Configuration:
    """Return a configuration with the schedule that another one has for a task."""
    theirs, own = task.settings(other), task.settings(configuration)
    if (own.averaging is None) != (theirs.averaging is None):
        return configuration  # they differ in more than the schedule
    averaging = own.averaging
    if averaging is not None and theirs.averaging is not None:
        averaging = averaging.model_copy(update={"epochs": theirs.averaging.epochs})
    settings = own.model_copy(
        update={
            "epochs": theirs.epochs,
            "validate_every_epochs": theirs.validate_every_epochs,
            "averaging": averaging,
        }
    )
    return configuration.model_copy(update={task.name: settings})


def fit_to_hours(
    task: Task, configuration: Configuration, trainings: Sequence[FoldTraining], hours: float
) -> Configuration:
    """Return a configuration whose schedule trains some folds within a budget, and print it.

    Raises
    ------
    InputError
        If not even one epoch of each fold fits into the budget.
    """
    pace = _measure(task, trainings[0])
    processes = trainings[0].hardware.processes
    paces = [
        replace(
            pace,
            steps=steps_of_epoch(task, training),
            held_out=-(-len(training.held_out) // processes),
        )
        for training in trainings
    ]
    settings = fit_schedule(task.settings(configuration), paces, 3600 * (1 - UNUSED) * hours)
    if settings is None:
        shortest = _scaled(task.settings(configuration), 1)
        needed = _total(shortest, paces) / 3600 / (1 - UNUSED)
        raise InputError(
            f"{task.name}: expected at least {needed:.2g} hours, in which each of "
            f"{len(trainings)} folds is trained for an epoch, found {hours:g}; allow more hours, "
            "or train fewer folds"
        )
    mean = settings.averaging
    print(
        f"{task.name}: {hours:g} hours allow {settings.epochs} epochs"
        f"{'' if mean is None else f' and {mean.epochs} of averaging'} in each of "
        f"{len(trainings)} folds, validated every {settings.validate_every_epochs}, at "
        f"{pace.step_seconds:.2g} s per step and {pace.validation_seconds:.2g} s per validated "
        "patient"
    )
    return configuration.model_copy(update={task.name: settings})


def fit_schedule(
    settings: AnySchedule, paces: Sequence[Pace], seconds: float
) -> AnySchedule | None:
    """Return the schedule with the most epochs that trains all folds in time; None if none does.

    Parameters
    ----------
    paces : the pace of each fold.
    seconds : the time for all folds together.
    """
    an_epoch = sum(pace.steps * pace.step_seconds for pace in paces)
    candidates = (_scaled(settings, epochs) for epochs in range(int(seconds / an_epoch), 0, -1))
    return next((each for each in candidates if _total(each, paces) <= seconds), None)


def _scaled(settings: AnySchedule, epochs: int) -> AnySchedule:
    """Return a schedule of `epochs` epochs, with its other numbers in proportion, at least 1."""

    def scale(count: int) -> int:
        return max(1, round(count * epochs / settings.epochs))

    averaging = settings.averaging
    if averaging is not None:
        averaging = averaging.model_copy(update={"epochs": scale(averaging.epochs)})
    return settings.model_copy(
        update={
            "epochs": epochs,
            "averaging": averaging,
            "validate_every_epochs": scale(settings.validate_every_epochs),
        }
    )


def _total(settings: Schedule, paces: Sequence[Pace]) -> float:
    return sum(pace.seconds(settings) for pace in paces)


def _measure(task: Task, training: FoldTraining) -> Pace:
    """Return the pace of a fold; see `step_with_loading` for how loading counts."""
    hardware, settings = training.hardware, task.settings(training.configuration)
    samples = replace(task.samples(training), image_type=hardware.image_type(settings))
    module = task.module(training)
    step_seconds = time_step(
        module, batch_of(samples, samples.size_zyx, settings.batch_size), hardware
    )
    batches = hardware.accumulation_of(settings)
    return Pace(
        steps=steps_of_epoch(task, training),
        step_seconds=step_with_loading(
            step_seconds,
            batches * settings.batch_size * time_sample(samples),
            workers=training.workers,
            cpus=granted_cpus() / hardware.local_processes,
            device=hardware.device,
        ),
        held_out=-(-len(training.held_out) // hardware.processes),
        validation_seconds=time_validation(task, module, training),
    )
