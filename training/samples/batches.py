"""Samplers that choose the patients of each batch. The order depends only on seed and epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from shared.errors import InputError
from training.processes import processes

Draw: TypeAlias = tuple[int, int]
"""The index of a patient, and the seed of the patient's sample."""


class EpochBatches(Sampler[list[Draw]]):
    """Batches that differ between epochs and are divided among the processes of a training run.

    All processes draw the same order, and each takes its part of every step. A step therefore has
    the same samples, whether they form one batch, form several batches, or are divided among
    processes.

    Attributes
    ----------
    batches_per_step : number of batches whose gradients are accumulated in a step. A step that is
        not full is left out.
    first_epoch : number of the first epoch; above 0 if this training continues the count of another
        one.
    """

    batch_size: int
    seed: int
    batches_per_step: int
    epoch: int
    first_epoch: int

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches in an epoch, for each process."""

    @property
    def sampler(self) -> Self:
        """The object itself: Lightning passes the epoch only to `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before each epoch and counts epochs from 0."""
        self.epoch = self.first_epoch + epoch


@dataclass
class ShuffledBatches(EpochBatches):
    """Batches with every patient once an epoch, in a new order, without the last partial step."""

    patients: int
    batch_size: int
    seed: int
    batches_per_step: int = 1
    epoch: int = field(default=0, init=False)
    first_epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Raise InputError unless there are enough patients for one step."""
        if self.patients < self._step:
            raise InputError(
                f"expected at least {self._step} training patients for a step, which takes "
                f"{self.batches_per_step} batches of {self.batch_size} in each of "
                f"{processes()[1]} processes, found {self.patients}; hold out fewer, reduce "
                "batch_size, or use a larger cohort"
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch, for each process."""
        return self.patients // self._step * self.batches_per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this process's part of the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.patients).tolist()
        seeds = rng.integers(2**31, size=self.patients).tolist()
        draws = list(zip(order, seeds, strict=True))
        rank, count = processes()
        for batch in range(len(self)):
            start = (batch * count + rank) * self.batch_size
            yield draws[start : start + self.batch_size]

    @property
    def _step(self) -> int:
        """The number of patients in a step, over all processes."""
        return self.batch_size * self.batches_per_step * processes()[1]


@dataclass
class BalancedBatches(EpochBatches):
    """Batches with the same number of patients of each class, such as two HPV+ and two HPV-.

    The paper uses such batches. Patients of the smaller class are repeated as often as needed.
    """

    classes: Sequence[bool]
    batch_size: int
    seed: int
    batches_per_step: int = 1
    epoch: int = field(default=0, init=False)
    first_epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Raise InputError unless both classes are present and the batch size is even."""
        if self.batch_size % 2 or len(set(self.classes)) != 2:
            positive = sum(self.classes)
            raise InputError(
                "expected an even batch size and training patients of both classes, found batches "
                f"of {self.batch_size}, and {positive} positive and {len(self.classes) - positive} "
                "negative patients; hold out fewer, or use a larger cohort"
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch, for each process."""
        return self._steps * self.batches_per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this process's part of the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        rank, count = processes()
        values = np.asarray(self.classes)
        size = self._steps * self._half_step
        classes = (np.flatnonzero(values == value) for value in (True, False))
        members = np.stack([_repeated(each, size, rng) for each in classes])
        # The seeds of a step are in one row, so they do not depend on how the step is divided.
        rows = rng.integers(2**31, size=(self._steps, 2, self._half_step))
        seeds = rows.swapaxes(0, 1).reshape(2, size)
        half = self.batch_size // 2
        for batch in range(len(self)):
            start = (batch * count + rank) * half
            part = (slice(None), slice(start, start + half))
            yield list(
                zip(members[part].ravel().tolist(), seeds[part].ravel().tolist(), strict=True)
            )

    @property
    def _half_step(self) -> int:
        """The number of patients of each class in a step, over all processes."""
        return self.batch_size // 2 * self.batches_per_step * processes()[1]

    @property
    def _steps(self) -> int:
        """The number of steps in an epoch: as many as the larger class fills, but at least one."""
        larger = max(sum(self.classes), len(self.classes) - sum(self.classes))
        return max(1, larger // self._half_step)


@dataclass
class Share(Sampler[int]):
    """A sampler that gives each process its part of the patients, each patient exactly once."""

    patients: int

    def __len__(self) -> int:
        """Return the number of patients of this process."""
        return len(range(processes()[0], self.patients, processes()[1]))

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process's patients."""
        rank, count = processes()
        yield from range(rank, self.patients, count)


def _repeated(members: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]
