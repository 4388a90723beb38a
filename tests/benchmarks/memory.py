"""Predicted and measured memory of a training step on the CPU: `python -m tests.benchmarks.memory`.

The prediction is that of `python -m training plan`. The measurement is made in a separate process:
the peak memory during two steps, minus the memory before the network exists. This process returns
freed memory to the system at once. A real training on a CPU with small windows keeps freed memory,
which then has gaps.

Only networks that are trained on windows are measured: the demo's Tasks 2 and 3 have none.
"""

from __future__ import annotations

import ctypes
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer

from shared.clinical import ClinicalRecord
from shared.resources import peak_memory_gb, reset_peak_memory
from shared.tasks import TaskName
from training.cohort.layout import Patient
from training.config import Configuration, Precision, load_configuration
from training.loop.hardware import Hardware
from training.loop.memory import autocast, step_bytes
from training.loop.module import TrainedModule
from training.samples.dataset import PatientSamples, Sample
from training.studies.plan import empty_region
from training.tasks.discovery import TASKS
from training.tasks.planning import learnable
from training.tasks.requirements import empty_training
from training.tasks.timing import batch_of

WARM_UP_SIDE: Final = 32
_M_MMAP_THRESHOLD: Final = -3
"""The value of M_MMAP_THRESHOLD in malloc.h of glibc."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a task, on a batch of cubes."""

    task: TaskName
    configuration: str
    side: int
    batch_size: int
    precision: Precision

    def module(self) -> TrainedModule[Any]:
        """Return the network with its loss."""
        training = empty_training(
            TASKS[self.task],
            load_configuration(self.configuration),
            runs=Path(),
            workers=0,
            hardware=Hardware(devices=1, accelerator="cpu"),
        )
        return TASKS[self.task].module(training)

    def batch(self, side: int, count: int) -> Sample:
        """Return a batch of noise in the type of the images of a training."""
        configuration = load_configuration(self.configuration)
        samples = _samples(self.task, configuration)
        hardware = Hardware(devices=1, accelerator="cpu", precision=self.precision)
        image_type = hardware.image_type(TASKS[self.task].settings(configuration))
        return batch_of(replace(samples, image_type=image_type), (side,) * 3, count)


def _samples(name: TaskName, configuration: Configuration) -> PatientSamples:
    """Return the samples of a task, for two patients with both outcomes."""
    task, hardware = TASKS[name], Hardware(devices=1, accelerator="cpu")
    patients = [
        Patient(
            patient_id=f"P-{number}",
            ct=Path("ct"),
            pet=Path("pet"),
            labels=Path("labels"),
            clinical=ClinicalRecord(),
            hpv=bool(number),
            relapse=bool(number),
            rfs_days=100.0 + number,
        )
        for number in range(2)
    ]
    training = empty_training(task, configuration, runs=Path(), workers=0, hardware=hardware)
    views = learnable(task, [empty_region(patient, configuration) for patient in patients])
    return task.samples(replace(training, patients=views))


def predict(step: Step) -> float:
    """Return the predicted GB of a step."""
    warnings.simplefilter("ignore")
    return (
        step_bytes(
            step.module(),
            lambda size_zyx: step.batch(size_zyx[0], 1),
            size_zyx=(step.side,) * 3,
            batch_size=step.batch_size,
            precision=step.precision,
        )
        / 1e9
    )


def measure(step: Step) -> float:
    """Return the GB by which this process grows in two steps."""
    warnings.simplefilter("ignore")
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**16)
    _steps(step, WARM_UP_SIDE, 2)  # loads the libraries
    reset_peak_memory()
    before = peak_memory_gb()
    _steps(step, step.side, step.batch_size)
    return peak_memory_gb() - before


def _steps(step: Step, side: int, batch_size: int) -> None:
    module, samples = step.module(), step.batch(side, batch_size)
    optimizer = torch.optim.Adam(module.network.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        with autocast("cpu", step.precision):
            loss = module.loss(samples)
        loss.backward()
        optimizer.step()


def has_windows(name: TaskName, configuration: Configuration) -> bool:
    """Return whether a task trains a network on windows, not only on features of a frozen one."""
    task = TASKS[name]
    return "network" in task.kinds(configuration) and task.kept_views(configuration) is None


@app.command()
def main(
    configuration: Annotated[str, typer.Option()] = "demo",
    precision: Annotated[Precision, typer.Option()] = "32-true",
    task: Annotated[
        TaskName | None, typer.Option(help="By default all that train on windows.")
    ] = None,
    side: Annotated[
        list[int] | None, typer.Option(help="Of the cubes in voxels; by default 64, 80, 96.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="By default the configuration's.")
    ] = None,
) -> None:
    """Predict, measure and print."""
    loaded = load_configuration(configuration)
    print(f"{configuration}, {precision}: predicted and measured GB of a step")
    names = [each for each in TASKS if has_windows(each, loaded)] if task is None else [task]
    for name in names:
        for size in side or (64, 80, 96):
            step = Step(
                task=name,
                configuration=configuration,
                side=size,
                batch_size=batch_size or TASKS[name].settings(loaded).batch_size,
                precision=precision,
            )
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                measured = pool.submit(measure, step).result()
            predicted = predict(step)
            print(
                f"{name:<13}{step.batch_size:>3} x {size}³   {predicted:6.2f}   {measured:6.2f}   "
                f"{predicted / measured - 1:+.0%}",
                flush=True,
            )


if __name__ == "__main__":
    app()
