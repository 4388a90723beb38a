"""Predicted and measured memory of a Task 1 step on the CPU: `python -m tests.benchmarks.memory`.

The prediction is that of `python -m training plan`. The measurement is made in a separate process:
the peak memory during two steps, minus the memory before the network exists. This process returns
freed memory to the system at once. A real training on a CPU keeps freed memory, which then has
gaps.
"""

from __future__ import annotations

import ctypes
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Final

import torch
import typer

from shared.conventions import IntTriple
from shared.resources import peak_memory_gb, reset_peak_memory
from training.config import Precision, load_configuration
from training.loop.memory import autocast, step_bytes
from training.samples.dataset import Sample
from training.tasks.segmentation import SegmentationModule

SIZES: Final[tuple[tuple[IntTriple, int], ...]] = (
    ((64, 64, 64), 2),
    ((80, 80, 80), 2),
    ((96, 96, 96), 2),
)

_M_MMAP_THRESHOLD: Final = -3
"""The value of M_MMAP_THRESHOLD in malloc.h of glibc."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def batch(size_zyx: IntTriple, count: int, precision: Precision) -> Sample:
    image_type = torch.float32 if precision == "32-true" else torch.float16
    return {
        "image": torch.zeros(count, 2, *size_zyx, dtype=image_type),
        "labels": torch.zeros(count, 1, *size_zyx, dtype=torch.uint8),
    }


def module(configuration: str) -> SegmentationModule:
    settings = load_configuration(configuration).segmentation
    return SegmentationModule(settings.network.build(2), settings, seed=0, spacing_mm=1.0)


def predict(configuration: str, size_zyx: IntTriple, count: int, precision: Precision) -> float:
    """Return the predicted GB of a step."""
    warnings.simplefilter("ignore")
    return (
        step_bytes(
            module(configuration),
            lambda size: batch(size, 1, precision),
            size_zyx=size_zyx,
            batch_size=count,
            precision=precision,
        )
        / 1e9
    )


def measure(configuration: str, size_zyx: IntTriple, count: int, precision: Precision) -> float:
    """Return the GB by which this process grows in two steps."""
    warnings.simplefilter("ignore")
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**16)
    _steps(configuration, (32, 32, 32), 1, precision)  # loads the libraries
    reset_peak_memory()
    before = peak_memory_gb()
    _steps(configuration, size_zyx, count, precision)
    return peak_memory_gb() - before


def _steps(configuration: str, size_zyx: IntTriple, count: int, precision: Precision) -> None:
    trained, samples = module(configuration), batch(size_zyx, count, precision)
    optimizer = torch.optim.Adam(trained.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        with autocast("cpu", precision):
            loss = trained.loss(samples)
        loss.backward()
        optimizer.step()


@app.command()
def main(
    configuration: Annotated[str, typer.Option()] = "demo",
    precision: Annotated[Precision, typer.Option()] = "32-true",
) -> None:
    """Predict, measure and print."""
    print(f"{configuration}, {precision}: predicted and measured GB of a step")
    for size, count in SIZES:
        arguments = (configuration, size, count, precision)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            measured = pool.submit(measure, *arguments).result()
        predicted = predict(*arguments)
        print(
            f"{count} x {size[0]}³   {predicted:6.2f}   {measured:6.2f}   "
            f"{predicted / measured - 1:+.0%}",
            flush=True,
        )


if __name__ == "__main__":
    app()
