"""Which patients form a batch: samplers whose order follows from seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from training.processes import processes

Draw: TypeAlias = tuple[int, int]
"""Index of a patient, and the seed of its sample."""


class EpochBatches(Sampler[list[Draw]]):
    """Batches that differ from epoch to epoch, dealt out among the processes of a training.

    The processes draw the same order, and each takes its part of every batch: two with a batch of
    two see in each step what one with a batch of four sees.

    Attributes
    ----------
    first_epoch : number of the first epoch, if the training follows another on the same data.
    """

    batch_size: int
    seed: int
    epoch: int
    first_epoch: int

    @property
    def sampler(self) -> Self:
        """Itself: Lightning passes the epoch only to a loader's `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls it before each epoch, and counts them from 0."""
        self.epoch = self.first_epoch + epoch


@dataclass
class ShuffledBatches(EpochBatches):
    """Every patient once an epoch, in a new order; the last batch is left out if it is not full."""

    patients: int
    batch_size: int
    seed: int
    epoch: int = field(default=0, init=False)
    first_epoch: int = field(default=0, init=False)

    def __len__(self) -> int:
        """Batches in an epoch, of each process."""
        return self.patients // (self.batch_size * processes()[1])

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this process's part of the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.patients).tolist()
        seeds = rng.integers(2**31, size=self.patients).tolist()
        draws = list(zip(order, seeds, strict=True))
        rank, count = processes()
        for step in range(len(self)):
            start = (step * count + rank) * self.batch_size
            yield draws[start : start + self.batch_size]


@dataclass
class BalancedBatches(EpochBatches):
    """Half of each batch from each class; the smaller class is repeated as often as needed.

    The paper's batch of two HPV+ and two HPV-.
    """

    classes: Sequence[bool]
    batch_size: int
    seed: int
    epoch: int = field(default=0, init=False)
    first_epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Check that both classes are present and the batch can be halved."""
        if self.batch_size % 2 or len(set(self.classes)) != 2:
            raise ValueError("expected an even batch size and patients of both classes")

    def __len__(self) -> int:
        """Batches in an epoch, of each process: as many as the larger class fills."""
        larger = max(sum(self.classes), len(self.classes) - sum(self.classes))
        return max(1, larger // (self.batch_size // 2 * processes()[1]))

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this process's part of the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        rank, count = processes()
        half = self.batch_size // 2
        values = np.asarray(self.classes)
        queues = [
            _repeated(np.flatnonzero(values == value), len(self) * half * count, rng).tolist()
            for value in (True, False)
        ]
        seeds = rng.integers(2**31, size=(len(self) * count, 2 * half)).tolist()
        for step in range(len(self)):
            batch = step * count + rank
            members = [i for queue in queues for i in queue[batch * half : (batch + 1) * half]]
            yield list(zip(members, seeds[batch], strict=True))


@dataclass
class Share(Sampler[int]):
    """Every patient exactly once, dealt out among the processes of a training."""

    patients: int

    def __len__(self) -> int:
        """How many patients this process has."""
        return len(range(processes()[0], self.patients, processes()[1]))

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of this process's patients."""
        rank, count = processes()
        yield from range(rank, self.patients, count)


def _repeated(members: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]
