"""Times training steps, including the loader; the benchmarks `training` and `gpu` use it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold
from training.config import Configuration
from training.loop.hardware import Hardware, keep_freed_memory
from training.loop.memory import autocast
from training.tasks.base import FoldTraining, Task
from training.tasks.planning import learnable


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """The parts of a step, in seconds: means over all steps but the first.

    Attributes
    ----------
    waiting : time until the loader delivers a batch.
    backward : time of the backward pass and the optimiser's step.
    peak_gpu_gb : largest memory of tensors on the GPU; None on a CPU.
    """

    waiting: float
    forward: float
    backward: float
    peak_gpu_gb: float | None

    @property
    def total(self) -> float:
        """The whole step."""
        return self.waiting + self.forward + self.backward


def training_on(
    task: Task,
    configuration: Configuration,
    patients: Sequence[PreparedPatient],
    *,
    runs: Path,
    workers: int,
    steps: int,
    hardware: Hardware,
) -> FoldTraining:
    """Return the training of a fold whose epoch has at least this number of steps.

    Patients are repeated if there are too few. The first one is also the held-out patient.
    """
    views = learnable(task, patients)
    repeats = steps * task.settings(configuration).batch_size // len(views) + 1
    return FoldTraining(
        fold=Fold(name="0", training=(), held_out=()),
        configuration=configuration,
        patients=views * repeats,
        held_out=views[:1],
        features=task.features(configuration, views),
        runs=runs,
        workers=workers,
        hardware=hardware,
    )


def time_steps(task: Task, training: FoldTraining, steps: int) -> StepTimes:
    """Take one step that is not timed, then `steps` steps that are."""
    module, device = task.module(training), training.device
    precision = training.hardware.precision_of(module.schedule)
    module.to(device).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=module.schedule.learning_rate)
    batches, _ = task.loaders(training)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    waiting = forward = backward = 0.0
    last = time.perf_counter()
    for number, batch in zip(range(steps + 1), batches, strict=False):
        keep_freed_memory(batch)
        on_device = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        received = time.perf_counter()
        with autocast(device, precision):
            loss = module.loss(on_device)
        float(loss.detach())  # waits until the GPU has finished
        half = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number:  # in the first step, the loader starts and memory is allocated
            waiting += received - last
            forward += half - received
            backward += now - half
        last = now
    return StepTimes(
        waiting=waiting / steps,
        forward=forward / steps,
        backward=backward / steps,
        peak_gpu_gb=torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None,
    )
