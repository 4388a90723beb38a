"""The hardware of a training run: devices, machines, precision, and the CPU's memory allocator."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor

from shared.errors import HecktorError
from training.config import Precision, Schedule

# glibc, malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_REUSE: Final = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
_DEFAULTS: Final = {_M_MMAP_MAX: 65536, _M_TRIM_THRESHOLD: 128 * 2**10, _M_TOP_PAD: 128 * 2**10}

Accelerator: TypeAlias = Literal["auto", "gpu", "cpu"]
Device: TypeAlias = Literal["cuda", "cpu"]

MOST_KEPT_VALUES: Final = 10_000_000
"""See `keep_freed_memory`. A batch of Task 1 with two crops of 128³ and two channels has 8 million
values."""

_IMAGE_TYPES: Final[dict[Precision, torch.dtype]] = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


class TrainingError(HecktorError):
    """Training failed for a reason that the user can fix."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The hardware of a training run.

    Attributes
    ----------
    devices : number of GPUs per machine, or of processes on the CPU; None uses all GPUs or one
        process.
    nodes : number of machines.
    accelerator : "auto" uses GPUs if torch sees any.
    precision, accumulate_batches : values that replace those of the configuration, unless None.
    """

    devices: int | None = None
    nodes: int = 1
    accelerator: Accelerator = "auto"
    precision: Precision | None = None
    accumulate_batches: int | None = None

    @property
    def device(self) -> Device:
        """The device that one process works on."""
        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"

    @property
    def processes(self) -> int:
        """The number of processes that train together, on all machines."""
        all_gpus = torch.cuda.device_count() if self.device == "cuda" else 1
        return (self.devices or all_gpus) * self.nodes

    @property
    def local_processes(self) -> int:
        """The number of processes of the training on this machine."""
        return self.processes // self.nodes

    def precision_of(self, schedule: Schedule) -> Precision:
        """Return the precision of a step."""
        return self.precision or schedule.precision

    def accumulation_of(self, schedule: Schedule) -> int:
        """Return how many batches a process accumulates for a step."""
        return self.accumulate_batches or schedule.accumulate_batches

    def image_type(self, schedule: Schedule) -> torch.dtype:
        """Return the type of the images in a sample, to which a step rounds them anyway."""
        return _IMAGE_TYPES[self.precision_of(schedule)]

    def check(self) -> None:
        """Raise TrainingError if this machine lacks the chosen devices."""
        if self.accelerator == "gpu" and self.device != "cuda":
            raise TrainingError(
                "expected a GPU that torch sees, found none; install a CUDA build of torch, or "
                "choose another accelerator"
            )
        if self.device == "cuda" and (self.devices or 0) > torch.cuda.device_count():
            raise TrainingError(
                f"expected {self.devices} GPUs, found {torch.cuda.device_count()}; use fewer "
                "devices"
            )


def keep_freed_memory(batch: Mapping[str, Tensor]) -> None:
    """Tell glibc to reuse the large blocks that each CPU training step frees and allocates again.

    By default, glibc returns the blocks to the kernel, which must clear them again. A step of the
    demo network takes 1.5 s by default and 1.05 s with this function (measured). It has an effect
    only on Linux.

    Reuse leaves gaps between blocks. With large windows, the gaps take as much memory as the step
    itself: one step of Task 3 of `paper` takes 109 s and 24 GB with reuse, and 180 s and 13 GB
    without it (measured). So glibc gets its defaults back if the image of the batch has more than
    `MOST_KEPT_VALUES` values.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return
    is_large = "image" in batch and batch["image"].numel() > MOST_KEPT_VALUES
    for option, value in (_DEFAULTS if is_large else _REUSE).items():
        libc.mallopt(option, value)
    if is_large:
        libc.malloc_trim(0)
