"""Loaders whose batches fit the shared memory of a machine.

The processes of a loader pass their batches on through the shared memory /dev/shm, of which Docker
grants 64 MB. The number of batches that wait there depends on how much is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch.utils.data import DataLoader, Sampler

from shared.resources import available_memory_bytes, free_shared_memory_bytes
from training.samples.batches import Draw, Share
from training.samples.dataset import PatientSamples, Sample

BATCHES_IN_USE: Final = 2
"""One that the network sees, and one that Lightning has already fetched."""
MOST_WAITING: Final = 2
"""Batches that each loading process prepares in advance; PyTorch's default."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How one process gets its batches.

    Attributes
    ----------
    workers : number of loading processes; with 0, the training process loads the batches itself
        and needs no shared memory.
    pin_memory : whether batches are copied to a GPU, for which their memory is pinned.
    processes : number of training processes on this machine, which share its memory.
    """

    workers: int = 0
    pin_memory: bool = False
    processes: int = 1

    def shared_memory_bytes(self, batch_bytes: int, waiting: int = 1) -> int:
        """Return the bytes of the batches of all processes, with `waiting` batches per worker."""
        batches = self.workers * waiting + BATCHES_IN_USE if self.workers else 0
        return self.processes * batches * batch_bytes

    def prefetch_factor(self, batch_bytes: int) -> int | None:
        """Return how many batches each worker prepares in advance, given what is free now.

        None without workers, as PyTorch expects. At least 1; `training.tasks.requirements` reports
        when even this does not fit.
        """
        if not self.workers:
            return None
        free = free_shared_memory()
        fits = self.shared_memory_bytes(batch_bytes, MOST_WAITING) <= free
        return MOST_WAITING if fits else 1


def free_shared_memory() -> int:
    """Return how many bytes of shared memory can be filled; they take up memory too."""
    return min(free_shared_memory_bytes(), available_memory_bytes())


def training_loader(
    samples: PatientSamples, batches: Sampler[list[Draw]], batch_size: int, loading: Loading
) -> DataLoader[Sample]:
    """Return a loader of the batches that a sampler draws."""
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=loading.workers,
        prefetch_factor=loading.prefetch_factor(batch_size * samples.sample_bytes),
        persistent_workers=loading.workers > 0,
        pin_memory=loading.pin_memory,
    )


def validation_loader(windows: PatientSamples, loading: Loading) -> DataLoader[Sample]:
    """Return a loader of single patients, which are divided among the training processes."""
    return DataLoader(
        windows,
        batch_size=1,
        sampler=Share(len(windows)),
        num_workers=loading.workers,
        prefetch_factor=loading.prefetch_factor(windows.sample_bytes),
        persistent_workers=loading.workers > 0,
        pin_memory=loading.pin_memory,
    )
