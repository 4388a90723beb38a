"""Plans a training run: the folds, the scale of the inputs, and the starting weights.

Tasks share folds: if Task 1 has a training run, the other tasks use its folds by default. A network
never starts from weights that were trained on a patient whom its fold holds out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from shared.clinical import ClinicalFeature
from shared.errors import InputError
from shared.tasks import TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.folds import FOLDS, Fold, Folds, HoldOut, read_folds, share_folds
from training.config import Configuration
from training.loop.fit import LATE
from training.loop.hardware import Hardware, TrainingError
from training.tasks.base import FoldTraining, StartingWeights, Task

ENCODER: Final = "encoder.pt"
"""The weights of the encoder of an adopted Task 1 model."""

_STARTS: Final[dict[str, Literal["network", "encoder"]]] = {LATE: "network", ENCODER: "encoder"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a training command.

    Attributes
    ----------
    folds : all folds of the training run.
    features : the clinical inputs, with their scale.
    trainings : one `FoldTraining` for each fold to train now.
    """

    folds: Folds
    features: tuple[ClinicalFeature, ...]
    trainings: tuple[FoldTraining, ...]


def plan_training(
    task: Task,
    patients: Sequence[PreparedPatient],
    configuration: Configuration,
    *,
    runs: Path,
    hold_out: HoldOut,
    only_fold: str | None,
    seed: int,
    workers: int,
    hardware: Hardware,
) -> Plan:
    """Plan the training of a task on a prepared cohort; nothing is written.

    Parameters
    ----------
    only_fold : the fold to train now; None means all folds.

    Raises
    ------
    HecktorError
        If the task cannot learn from the patients, the folds do not suit them, the configuration
        needs held-out patients but there are none, or the batches of a step cannot be accumulated.
    """
    check_accumulation(task, configuration, hardware)
    check_out_of_fold(task, configuration, hold_out=hold_out, runs=runs)
    viewed = learnable(task, patients)
    by_id = {p.patient_id: p for p in task.with_inputs(viewed, runs, configuration)}
    without_outcome = [p for p in patients if p.patient_id not in by_id]
    folds = make_folds(
        task,
        list(by_id.values()),
        without_outcome,
        hold_out=hold_out,
        shared=runs / "segmentation",
        seed=seed,
    )
    # One scale for all networks of an ensemble, because the model card states only one.
    trained_on = sorted({name for fold in folds.folds for name in fold.training})
    features = task.features(configuration, [by_id[name] for name in trained_on])
    needs_weights = task.starts_from_segmentation and "network" in task.kinds(configuration)
    trainings = tuple(
        FoldTraining(
            fold=fold,
            configuration=configuration,
            patients=[by_id[name] for name in fold.training],
            held_out=[by_id[name] for name in fold.held_out],
            without_outcome=without_outcome,
            features=features,
            start=starting_weights(runs, fold) if needs_weights else None,
            runs=runs,
            seed=fold_seed(seed, folds, fold),
            workers=workers,
            hardware=hardware,
        )
        for fold in folds.choose(only_fold)
    )
    for training in trainings:
        _check(task, training, hardware)
    return Plan(folds=folds, features=features, trainings=trainings)


def fold_seed(seed: int, folds: Folds, fold: Fold) -> int:
    """Return the seed of a fold: the run's own for the first fold, another one for each other.

    With one seed for all, the networks of an ensemble would begin with the same weights and see
    their samples with the same augmentations.
    """
    number = [each.name for each in folds.folds].index(fold.name)
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] // 2)


def check_accumulation(task: Task, configuration: Configuration, hardware: Hardware) -> None:
    """Raise TrainingError if accumulated batches would have another gradient than one large batch.

    In Task 2, for example, all 16 patients of a step must be in one batch.
    """
    batches = hardware.accumulation_of(task.settings(configuration))
    reason = task.not_additive(configuration)
    if batches > 1 and reason is not None and "network" in task.kinds(configuration):
        raise TrainingError(
            f"{task.name}: expected one batch per step, because {reason}, found {batches} batches "
            "to accumulate; set accumulate_batches = 1 and a batch_size that fits the memory"
        )


def check_out_of_fold(
    task: Task, configuration: Configuration, *, hold_out: HoldOut, runs: Path
) -> None:
    """Raise InputError if out-of-fold predictions are needed that will not exist.

    A task that is trained on everybody, be it this one or an earlier one, has none.
    """
    with_everybody: set[TaskName] = {
        name
        for name in task.follows
        if (runs / name / FOLDS).is_file() and not read_folds(runs / name).holds_out
    }
    shares_folds = not hold_out.is_chosen and "segmentation" in with_everybody
    if hold_out.count == 0 or shares_folds:
        with_everybody.add(task.name)
    check_without_held_out(task, configuration, with_everybody)


def check_without_held_out(
    task: Task, configuration: Configuration, with_everybody: Collection[TaskName]
) -> None:
    """Raise InputError if out-of-fold predictions of some tasks are needed.

    Parameters
    ----------
    with_everybody : the tasks that are trained on everybody.
    """
    for name, settings in task.out_of_fold_needs(configuration).items():
        if name in with_everybody:
            raise InputError(
                f"{task.name}: expected held-out patients in the training of {name}, because "
                f"{' and '.join(settings)} in [{task.name}] of the configuration needs their "
                f"predictions, found that nobody is held out; set {' and '.join(settings.values())}"
                f", or train {name} with --folds"
            )


def learnable(task: Task, patients: Sequence[PreparedPatient]) -> list[PreparedPatient]:
    """Return the training views of the patients that a task can learn from.

    Raises
    ------
    InputError
        If there are no such patients.
    """
    views = [view for view in map(task.training_view, patients) if view is not None]
    if not views:
        raise InputError(
            f"expected patients that {task.name} can learn from, found none among "
            f"{len(patients)}; this task's table may be missing"
        )
    return views


def strata_of(task: Task, patients: Sequence[PreparedPatient]) -> dict[str, str]:
    """Return the centre and the task's stratum of each patient, by ID."""
    return {p.patient_id: f"{p.patient.centre}: {task.stratum(p)}" for p in patients}


def make_folds(
    task: Task,
    patients: Sequence[PreparedPatient],
    without_outcome: Sequence[PreparedPatient],
    *,
    hold_out: HoldOut,
    shared: Path,
    seed: int,
) -> Folds:
    """Return the folds of a task.

    Parameters
    ----------
    patients : the patients that the task can learn from.
    without_outcome : the cohort's other patients.
    shared : run folder of Task 1, whose folds the other tasks use unless `hold_out` chooses a way.

    Raises
    ------
    InputError
        If `hold_out` chooses several ways, or the patients do not allow the chosen way.
    """
    strata = strata_of(task, patients)
    others = {p.patient_id for p in without_outcome}
    if not hold_out.is_chosen and task.name != "segmentation" and (shared / FOLDS).is_file():
        return share_folds(read_folds(shared), strata, others, seed)
    return hold_out.make(
        strata,
        {p.patient_id: p.patient.centre for p in patients},
        others,
        default_count=task.default_held_out,
        seed=seed,
    )


def starting_weights(runs: Path, fold: Fold) -> StartingWeights:
    """Return weights of a Task 1 network that was trained on none of a fold's held-out patients.

    If there are several such networks, that of the fold with the same name is preferred. The
    weights are the late ones, because Task 1's held-out patients may have chosen those to serve.

    Raises
    ------
    InputError
        If there is no such network.
    """
    folder = runs / "segmentation"
    if not (folder / FOLDS).is_file():
        raise InputError(f"expected a Task 1 network in {folder}, found none; train Task 1 first")
    held_out = set(fold.held_out)
    candidates = sorted(read_folds(folder).folds, key=lambda other: other.name != fold.name)
    disjoint = [other for other in candidates if not held_out & set(other.training)]
    if not disjoint:
        least = min(candidates, key=lambda other: len(held_out & set(other.training)))
        raise InputError(
            f"fold {fold.name}: expected a Task 1 network that was trained on none of the "
            f"{len(held_out)} held-out patients, found none in {folder}: even the network of fold "
            f"{least.name} was trained on {len(held_out & set(least.training))} of them, so the "
            "score would be too good; use Task 1's folds, which is the default, or train Task 1 in "
            "these folds"
        )
    for other in disjoint:
        for file, part in _STARTS.items():
            path = folder / f"fold{other.name}" / file
            if path.is_file():
                return StartingWeights(part=part, weights=torch.load(path, weights_only=True))
    raise InputError(
        f"expected a Task 1 network in {folder / f'fold{disjoint[0].name}' / LATE}, found none; "
        "train this fold of Task 1 first"
    )


def _check(task: Task, training: FoldTraining, hardware: Hardware) -> None:
    """Raise InputError if a fold is too small, or the task cannot be trained or scored on it."""
    name, processes = training.fold.name, hardware.processes
    if "network" in task.kinds(training.configuration):
        batch = task.settings(training.configuration).batch_size * processes
        if len(training.patients) < batch:
            raise InputError(
                f"fold {name}: expected at least the {batch} patients of a batch to train on, "
                f"found {len(training.patients)}; use a larger cohort or a smaller batch"
            )
        if training.held_out and len(training.held_out) < processes:
            raise InputError(
                f"fold {name}: expected at least one held-out patient for each of the {processes} "
                f"processes, found {len(training.held_out)}; hold out more, or use fewer devices"
            )
    task.check(training)
