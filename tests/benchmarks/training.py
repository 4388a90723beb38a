"""Measure the stages of a training step: `python -m tests.benchmarks.training COHORT RUNS`.

The command prints how many milliseconds it takes to read a crop from the cache, to apply each
augmentation, to compute the forward pass and the loss, and to compute the backward pass and the
optimiser's step. The last two are measured in steps whose batches come from the loader. The command
also prints the share of the time of these steps that the network spends waiting for data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tests.benchmarks.steps import time_steps, training_on
from training.cohort.cache import prepare_cohort
from training.config import Precision, load_configuration
from training.loop.hardware import Hardware
from training.samples import augmentation as augment
from training.samples.crops import LesionCrops
from training.samples.dataset import augmented, window
from training.tasks.discovery import TASKS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def per_call_ms(call: Callable[[], object], repeats: int) -> float:
    """Return how many milliseconds a call takes: the median over the repeats."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


@app.command()
def main(
    cohort: Annotated[Path, typer.Argument(help="Patients in the challenge's layout.")],
    runs: Annotated[Path, typer.Argument(help="Folder for the cache.")],
    configuration: Annotated[str, typer.Option()] = "demo",
    precision: Annotated[
        Precision | None, typer.Option(help="By default the precision of the configuration.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0)] = 1,
    steps: Annotated[int, typer.Option(min=2)] = 20,
) -> None:
    """Measure the stages of a training step and print their times."""
    settings = load_configuration(configuration)
    task1, intensity = settings.segmentation, settings.intensity
    patients = prepare_cohort(cohort, runs / "cache", settings.preparation, workers=workers)
    rng = np.random.default_rng(0)
    place = LesionCrops(task1.crop_zyx, task1.random_crop_probability, task1.random_crops)
    task = TASKS["segmentation"]
    training = training_on(
        task,
        settings,
        patients,
        runs=runs,
        workers=workers,
        steps=steps + 1,
        hardware=Hardware(devices=1, precision=precision),
    )

    def pick() -> tuple[int, augment.Crop]:
        index = int(rng.integers(len(patients)))
        return index, place(patients[index].labels, patients[index].image[0], rng)

    def read() -> None:
        index, box = pick()
        window(patients[index], box, intensity)

    chosen = precision or task1.precision
    print(
        f"{configuration}: crops of {task1.crop_zyx}, batch {task1.batch_size}, {chosen}, "
        f"{workers} workers"
    )
    reading = per_call_ms(read, 10)
    print(f"{'place and read a crop':32} {reading:8.1f} ms")
    for name in augment.TRANSFORMS:
        augmentation = next(d for d in iter(lambda: augment.draw(rng), None) if d.transform == name)

        def transform(augmentation: augment.Augmentation = augmentation) -> None:
            index, box = pick()
            augmented(patients[index], box, intensity=intensity, augmentation=augmentation)

        extra = per_call_ms(transform, 6) - reading
        print(f"{'  augment: ' + name:32} {extra:8.1f} ms more")

    times = time_steps(task, training, steps)
    for stage, seconds in (
        ("forward and loss", times.forward),
        ("backward and step", times.backward),
    ):
        print(f"{stage:32} {1000 * seconds:8.1f} ms")
    print(f"{'a step, with the loader':32} {1000 * times.total:8.1f} ms")
    print(f"the network waits for data {times.waiting / times.total:.1%} of the time")


if __name__ == "__main__":
    app()
