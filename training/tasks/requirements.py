"""Compares what a training needs with what the machine has, before anything starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from shared.resources import available_memory_bytes, free_shared_memory_bytes
from training.cohort.cache import patient_bytes
from training.cohort.cache_files import is_prepared
from training.cohort.folds import FOLDS, Fold, HoldOut, read_folds
from training.cohort.layout import Patient
from training.config import Configuration
from training.loop.hardware import Hardware, TrainingError
from training.samples.loaders import BATCHES_IN_USE
from training.tasks.base import FoldTraining, Task

WORKER_BYTES_PER_VOXEL: Final = 160
"""Bytes that a loading process allocates while it augments a sample, per voxel of the sample.

Measured at 96³: 153 for blur and 104 for an affine transform; the other transforms need less.
"""
STORED_PER_WEIGHT: Final = 4
"""Bytes of a weight in float32. Adam keeps two more numbers for each weight."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one training needs on this machine, in bytes.

    Attributes
    ----------
    batch : size of a training batch or of a patient in validation, whichever is larger.
    shared_memory : shared memory of all processes, if each worker prepares one batch in advance.
    memory : memory of the loading processes, including the shared memory.
    cache, checkpoints : space on the disk for what is not there yet. Out-of-fold predictions, which
        are compressed, are not counted.
    """

    batch: int
    shared_memory: int
    memory: int
    cache: int
    checkpoints: int


def empty_training(
    task: Task, configuration: Configuration, *, runs: Path, workers: int, hardware: Hardware
) -> FoldTraining:
    """Return the training of a fold without patients, from which sizes can be computed."""
    return FoldTraining(
        fold=Fold(name="none", training=(), held_out=()),
        configuration=configuration,
        patients=(),
        held_out=(),
        features=task.features(configuration, ()),
        runs=runs,
        workers=workers,
        hardware=hardware,
    )


def count_weights(task: Task, configuration: Configuration) -> int:
    """Return the number of weights of a task's network."""
    with torch.device("meta"):
        network = task.network(configuration, task.features(configuration, ()))
    return sum(weight.numel() for weight in network.parameters())


def needs(
    task: Task,
    configuration: Configuration,
    *,
    patients: Sequence[Patient],
    runs: Path,
    folds: int,
    workers: int,
    hardware: Hardware,
) -> Needs:
    """Return what a training needs.

    Parameters
    ----------
    patients : the patients of the cohort.
    folds : number of folds to train.
    """
    training = empty_training(task, configuration, runs=runs, workers=workers, hardware=hardware)
    settings, loading = task.settings(configuration), training.loading
    image_type = hardware.image_type(settings)
    samples = replace(task.samples(training), image_type=image_type)
    windows = replace(task.windows((), training), image_type=image_type)
    batch = max(settings.batch_size * samples.sample_bytes, windows.sample_bytes)
    shared_memory = loading.shared_memory_bytes(batch)
    voxels = int(torch.tensor(samples.size_zyx).prod())
    working = voxels * WORKER_BYTES_PER_VOXEL + settings.batch_size * samples.sample_bytes
    new = sum(not is_prepared(runs / "cache", patient) for patient in patients)
    stored = sum(f.stat().st_size for f in (runs / task.name).rglob("*") if f.is_file())
    return Needs(
        batch=batch,
        shared_memory=shared_memory,
        memory=shared_memory + loading.processes * workers * working,
        cache=new * patient_bytes(configuration.preparation),
        checkpoints=max(0, checkpoint_bytes(task, configuration, folds) - stored),
    )


def checkpoint_bytes(task: Task, configuration: Configuration, folds: int) -> int:
    """Return the bytes of a run's weights and checkpoints, and of one checkpoint being written.

    A fold keeps the weights to serve, the late weights, and its last and its best checkpoint. A
    checkpoint holds the weights, both moments of Adam and the mean of the last epochs. Averaging
    keeps two more checkpoints, which hold the averaged weights in addition to the current ones.
    """
    settings = task.settings(configuration)
    if "network" not in task.kinds(configuration):
        return 0
    checkpoints = 2 if settings.averaging is None else 4
    numbers = folds * (4 * checkpoints + 2) + 4
    return numbers * count_weights(task, configuration) * STORED_PER_WEIGHT


def count_folds(
    task: Task, patients: Sequence[Patient], *, hold_out: HoldOut, only_fold: str | None, runs: Path
) -> int:
    """Return how many folds a command will train."""
    shared = runs / "segmentation"
    if only_fold is not None or hold_out.count is not None:
        return 1
    if hold_out.folds is not None:
        return hold_out.folds
    if hold_out.by_centre:
        return len({patient.centre for patient in patients if task.has_truth(patient)})
    if hold_out.splits is not None:
        content = json.loads(hold_out.splits.read_text(encoding="utf-8"))
        return len(content["folds"] if isinstance(content, dict) else content)
    if task.name != "segmentation" and (shared / FOLDS).is_file():
        return len(read_folds(shared).folds)
    return 1


def require_machine(needed: Needs, *, runs: Path, workers: int, hardware: Hardware) -> None:
    """Print what a training needs and what is free.

    Raises
    ------
    TrainingError
        If there is not enough shared memory, memory or room on the disk.
    """
    shared_memory, memory = free_shared_memory_bytes(), available_memory_bytes()
    disk = shutil.disk_usage(_existing(runs)).free
    on_disk = needed.cache + needed.checkpoints
    print(
        f"needed and free: shared memory {_gb(needed.shared_memory)} of {_gb(shared_memory)}, "
        f"memory of {workers} workers {_gb(needed.memory)} of {_gb(memory)}, disk {_gb(on_disk)} "
        f"of {_gb(disk)}"
    )
    if needed.shared_memory > shared_memory:
        most = shared_memory // (hardware.local_processes * needed.batch) - BATCHES_IN_USE
        larger = -(-needed.shared_memory * 5 // 4 // 10**9)
        raise TrainingError(
            f"expected {_gb(needed.shared_memory)} of shared memory for {workers} workers of each "
            f"of {hardware.local_processes} processes, found {_gb(shared_memory)} free in "
            f"/dev/shm; start the container with --shm-size={larger}g, or use --workers "
            f"{max(0, most)}"
        )
    if needed.memory > memory:
        raise TrainingError(
            f"expected {_gb(needed.memory)} of memory for {workers} workers of each of "
            f"{hardware.local_processes} processes, found {_gb(memory)} available; use fewer "
            "--workers, or grant more memory"
        )
    if on_disk > disk:
        raise TrainingError(
            f"expected {_gb(on_disk)} free in {runs}, {_gb(needed.cache)} for the cache and "
            f"{_gb(needed.checkpoints)} for checkpoints, found {_gb(disk)}; free some space, or "
            "give a folder of runs on another disk"
        )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
