"""Times a step and a patient in validation on the device at hand, and adds up a schedule's time.

The timed step gets noise as its input. Nothing is extrapolated to a device that is not there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import default_collate

from shared.conventions import IntTriple
from training.config import Schedule
from training.loop.hardware import Device, Hardware, keep_freed_memory
from training.loop.memory import autocast
from training.loop.module import TrainedModule
from training.samples.channels import image_channels
from training.samples.dataset import PatientSamples, Sample
from training.tasks.base import FoldTraining, Task


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a fold is trained.

    Attributes
    ----------
    steps : number of steps in an epoch; all processes take each step together.
    held_out : number of patients that each process validates.
    """

    steps: int
    step_seconds: float
    held_out: int
    validation_seconds: float

    def seconds(self, settings: Schedule) -> float:
        """Return the seconds of a schedule, without the final validation of the late weights."""
        validations = -(-settings.epochs // settings.validate_every_epochs)
        epochs = settings.epochs
        if settings.averaging is not None:
            epochs, validations = epochs + settings.averaging.epochs, validations + 1
        steps_seconds = epochs * self.steps * self.step_seconds
        return steps_seconds + validations * self.held_out * self.validation_seconds


def step_with_loading(
    step_seconds: float, loading_seconds: float, *, workers: int, cpus: float, device: Device
) -> float:
    """Return the seconds of a step, including the time that the loading of its batches adds.

    Parameters
    ----------
    step_seconds : time of the step itself.
    loading_seconds : time to load the batches of the step on one core.
    workers, cpus : numbers of loading processes and cores of each training process. On a CPU,
        loading takes cores from the step.
    """
    if workers == 0:
        return step_seconds + loading_seconds
    if device == "cuda":
        return max(step_seconds, loading_seconds / min(workers, max(1.0, cpus)))
    return max(loading_seconds / workers, step_seconds + loading_seconds / cpus)


def batch_of(samples: PatientSamples, size_zyx: IntTriple, count: int) -> Sample:
    """Return a batch of `count` samples of a given size: noise without lesions."""
    channels = len(image_channels(samples.channels))
    batch: Sample = default_collate([samples.targets[i % len(samples)] for i in range(count)])
    batch["image"] = torch.rand(count, channels, *size_zyx).to(samples.image_type)
    if samples.has_labels:
        batch["labels"] = torch.zeros(count, 1, *size_zyx, dtype=torch.uint8)
    return batch


def steps_of_epoch(task: Task, training: FoldTraining) -> int:
    """Return the number of steps in an epoch; all processes take each step together."""
    settings, hardware = task.settings(training.configuration), training.hardware
    whole = settings.model_copy(update={"batch_size": settings.batch_size * hardware.processes})
    configuration = training.configuration.model_copy(update={task.name: whole})
    batches = task.batches(replace(training, configuration=configuration))
    return len(batches) // hardware.accumulation_of(settings)


def time_sample(samples: PatientSamples) -> float:
    """Return the seconds to load a sample, on one core."""
    return _seconds(lambda: [samples[0, seed] for seed in range(4)]) / 4


def time_step(module: TrainedModule[Any], batch: Sample, hardware: Hardware) -> float:
    """Return the seconds of a step that accumulates such batches, as configured."""
    device = hardware.device
    module.to(device).train()
    optimizer = torch.optim.Adam(module.network.parameters(), lr=0.0)
    on_device = {name: value.to(device) for name, value in batch.items()}

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, hardware.precision_of(module.schedule)):
            loss = module.loss(on_device)
        loss.backward()
        optimizer.step()

    keep_freed_memory(on_device)
    step()  # memory is allocated, and the libraries choose their algorithms
    return hardware.accumulation_of(module.schedule) * _seconds(step)


def time_validation(task: Task, module: TrainedModule[Any], training: FoldTraining) -> float:
    """Return the seconds of one patient in validation, held out or not."""
    hardware = training.hardware
    sample = task.windows(training.patients, training)[0]
    batch = {name: value[None].to(hardware.device) for name, value in sample.items()}

    @torch.inference_mode()
    def validate() -> None:
        with autocast(hardware.device, hardware.precision_of(module.schedule)):
            module.eval().validate(batch)

    return _seconds(validate)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
