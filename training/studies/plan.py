"""Estimates the memory, disk and time of each task's training, before anything is trained.

The memory is computed from two steps on small crops, see `training.loop.memory`. The time is
computed from one whole step and one patient in validation on the device at hand; nothing is
extrapolated to a device that is not there. The patients are empty regions, and the input of the
step is noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from shared.geometry import Grid
from shared.preprocessing.pipeline import Undo
from shared.resources import available_memory_bytes
from training.cohort.cache import PreparedPatient
from training.cohort.folds import HoldOut
from training.cohort.layout import Patient
from training.config import Configuration, Schedule
from training.loop.hardware import Hardware
from training.loop.memory import step_bytes
from training.tasks import requirements
from training.tasks.base import Task
from training.tasks.planning import check_accumulation, learnable
from training.tasks.timing import (
    Pace,
    batch_of,
    steps_of_epoch,
    time_sample,
    time_step,
    time_validation,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The memory, disk and time that the training of a task needs.

    Attributes
    ----------
    gpu_bytes : estimated size of the tensors of a step, in each process.
    measured_gpu_bytes : measured size of the tensors in the timed step, and the same with the
        memory that PyTorch keeps for reuse; None without a timed step on a GPU.
    steps : number of steps in an epoch.
    held_out : number of patients in each validation, over all processes; 0 without validation.
    kept_windows : number of windows in a fold whose features are computed once and kept, so that
        the time of the steps themselves is negligible; None if every step sees new windows.
    sample_seconds : time to load one sample on one core.
    step_seconds, validation_seconds : time of a step, and of one patient in validation; None if a
        step does not fit this machine or was not timed.
    """

    task: Task
    settings: Schedule
    weights: int
    needs: requirements.Needs
    gpu_bytes: int
    measured_gpu_bytes: tuple[int, int] | None = None
    folds: int
    steps: int
    held_out: int
    kept_windows: int | None = None
    hardware: Hardware
    sample_seconds: float
    step_seconds: float | None
    validation_seconds: float | None

    @property
    def hours(self) -> float | None:
        """The time of all folds, if the loaders keep up; None without a timed step."""
        if self.step_seconds is None or self.validation_seconds is None:
            return None
        if self.kept_windows is not None:
            return self.folds * self.kept_windows * self.validation_seconds / 3600
        pace = Pace(
            steps=self.steps,
            step_seconds=self.step_seconds,
            held_out=-(-self.held_out // self.hardware.processes),
            validation_seconds=self.validation_seconds,
        )
        return self.folds * pace.seconds(self.settings) / 3600

    def lines(self) -> list[str]:
        """Return the plan in words."""
        settings, needs, hardware = self.settings, self.needs, self.hardware
        batches, precision = hardware.accumulation_of(settings), hardware.precision_of(settings)
        size = f"{batches} x {settings.batch_size}" if batches > 1 else str(settings.batch_size)
        averaging = 0 if settings.averaging is None else settings.averaging.epochs
        return [
            f"{self.task.name}: {self.weights / 1e6:.1f} M weights, batch {size} in each of "
            f"{hardware.processes} processes, {precision}",
            f"  memory per GPU       {self.gpu_bytes / 1e9:.1f} GB of tensors{self._measured()}",
            f"  shared memory        {needs.shared_memory / 1e9:.1f} GB, with the loaders' own "
            f"{needs.memory / 1e9:.1f} GB of memory",
            f"  disk                 {needs.cache / 1e9:.1f} GB for the cache, "
            f"{needs.checkpoints / 1e9:.1f} GB for checkpoints",
            f"  steps per epoch      {self.steps}, {settings.epochs + averaging} epochs, "
            f"{self.folds} folds",
            f"  time                 {self._time()}",
        ]

    def _measured(self) -> str:
        if self.measured_gpu_bytes is None:
            return ""
        tensors, kept = (size / 1e9 for size in self.measured_gpu_bytes)
        return f"; measured {tensors:.1f} GB, and {kept:.1f} GB with what PyTorch keeps for reuse"

    def _time(self) -> str:
        loading = f"a sample takes {self.sample_seconds:.2f} s to load"
        if self.step_seconds is None or self.validation_seconds is None or self.hours is None:
            return (
                f"not measured: a step does not fit this machine, or was not asked for; {loading}"
            )
        if self.kept_windows is not None:
            return (
                f"{self.hours:.1f} h for the features of {self.kept_windows} windows a fold at "
                f"{self.validation_seconds:.2f} s each on {_device(self.hardware)}"
            )
        batch = self.settings.batch_size * self.hardware.accumulation_of(self.settings)
        workers = math.ceil(batch * self.sample_seconds / self.step_seconds)
        validated = f" and {self.validation_seconds:.2f} s per validated patient"
        return (
            f"{self.hours:.1f} h at {self.step_seconds:.2f} s per step"
            f"{validated if self.held_out else ''} on {_device(self.hardware)}; "
            f"{loading}, so {workers} workers per process keep up"
        )


def plan(
    task: Task,
    configuration: Configuration,
    patients: Sequence[Patient],
    *,
    runs: Path,
    hold_out: HoldOut,
    workers: int,
    hardware: Hardware,
    is_timed: bool,
) -> Plan:
    """Return the memory, disk and time that the training of a task needs.

    Parameters
    ----------
    patients : the patients of the cohort.
    is_timed : whether to run a step and time it.

    Raises
    ------
    HecktorError
        If no patient has the task's outcome, or the batches of a step cannot be accumulated.
    """
    check_accumulation(task, configuration, hardware)
    settings = task.settings(configuration)
    folds = requirements.count_folds(task, patients, hold_out=hold_out, only_fold=None, runs=runs)
    views = learnable(task, [empty_region(patient, configuration) for patient in patients])
    count = hold_out.count
    if count is None:
        count = task.default_held_out if folds == 1 else -(-len(views) // folds)
    # Patients at regular intervals, which keeps the shares of the outcomes.
    held_out = views[:: max(2, len(views) // max(1, count))][:count]
    names = {patient.patient_id for patient in held_out}
    training = replace(
        requirements.empty_training(
            task, configuration, runs=runs, workers=workers, hardware=hardware
        ),
        patients=[view for view in views if view.patient_id not in names],
        held_out=held_out,
    )
    samples = replace(task.samples(training), image_type=hardware.image_type(settings))
    module = task.module(training)
    gpu_bytes = step_bytes(
        module,
        lambda size_zyx: batch_of(samples, size_zyx, 1),
        size_zyx=samples.size_zyx,
        batch_size=settings.batch_size,
        precision=hardware.precision_of(settings),
        processes=hardware.processes,
    )
    needed = requirements.needs(
        task,
        configuration,
        patients=patients,
        runs=runs,
        folds=folds,
        workers=workers,
        hardware=hardware,
    )
    step_seconds = validation_seconds = measured_gpu_bytes = None
    if is_timed and gpu_bytes < _memory_bytes(hardware):
        batch = batch_of(samples, samples.size_zyx, settings.batch_size)
        if hardware.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        step_seconds = time_step(module, batch, hardware)
        if hardware.device == "cuda":
            measured_gpu_bytes = (
                torch.cuda.max_memory_allocated(),
                torch.cuda.max_memory_reserved(),
            )
        validation_seconds = time_validation(task, module, training)
    kept_views = task.kept_views(configuration)
    return Plan(
        task=task,
        settings=settings,
        weights=requirements.count_weights(task, configuration),
        needs=needed,
        gpu_bytes=gpu_bytes,
        measured_gpu_bytes=measured_gpu_bytes,
        folds=folds,
        steps=steps_of_epoch(task, training),
        held_out=len(held_out),
        kept_windows=None
        if kept_views is None
        else kept_views * len(training.patients) + len(held_out),
        hardware=hardware,
        sample_seconds=time_sample(samples),
        step_seconds=step_seconds,
        validation_seconds=validation_seconds,
    )


def empty_region(patient: Patient, configuration: Configuration) -> PreparedPatient:
    """Return a patient with an empty region, which takes no memory for its voxels."""
    x, y, z = size = configuration.preparation.size_xyz
    grid = Grid(size, (configuration.preparation.spacing_mm,) * 3, (0.0, 0.0, 0.0))
    return PreparedPatient(
        patient=patient,
        image=np.broadcast_to(np.float16(0), (2, z, y, x)),
        labels=np.broadcast_to(np.uint8(0), (z, y, x)),
        undo=Undo(grid, grid),
        max_suv=1.0,
    )


def _memory_bytes(hardware: Hardware) -> int:
    if hardware.device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return available_memory_bytes()


def _device(hardware: Hardware) -> str:
    if hardware.device == "cuda":
        return torch.cuda.get_device_name(0)
    return f"this machine's CPU, {torch.get_num_threads()} threads in each process"
