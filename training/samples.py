"""What a network is shown in training: seeded draws from the cache.

A sample is a pure function of (seed, epoch, patient): the sampler draws which patients come and
hands each a number, from which crop, augmentation and noise follow. So a run does not depend on
how many processes load its data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.conventions import IntTriple, Label, LabelVolume
from shared.preprocessing.intensity import Intensity, scale_ct, scale_pet
from shared.preprocessing.window import window_box
from training import augment
from training.data import Cached

Draw: TypeAlias = tuple[int, int]
"""Index of a patient, and the seed of its sample."""
Sample: TypeAlias = dict[str, Tensor]


def loader(
    dataset: Dataset[Sample], batches: Sampler[list[Draw]], workers: int
) -> DataLoader[Sample]:
    """Return a loader of batches that a sampler of draws composes."""
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0
    )


class _EpochBatches(Sampler[list[Draw]]):
    """Batches that differ from epoch to epoch."""

    epoch: int

    @property
    def sampler(self) -> Self:
        """Itself: Lightning tells the epoch to a loader's `batch_sampler.sampler` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls it before each epoch."""
        self.epoch = epoch


@dataclass
class ShuffledBatches(_EpochBatches):
    """Every patient once an epoch, in a new order; the last batch is left out if it is not full."""

    patients: int
    batch_size: int
    seed: int
    epoch: int = field(default=0, init=False)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.patients // self.batch_size

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.patients)
        seeds = rng.integers(2**31, size=self.patients)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            stop = start + self.batch_size
            yield [
                (int(i), int(s)) for i, s in zip(order[start:stop], seeds[start:stop], strict=True)
            ]


@dataclass
class BalancedBatches(_EpochBatches):
    """Half of each batch from each class; the smaller class is repeated as often as needed.

    The paper's batch of two HPV+ and two HPV-.
    """

    classes: Sequence[bool]
    batch_size: int
    seed: int
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Check that both classes are there and the batch can be halved."""
        if self.batch_size % 2 or len(set(self.classes)) != 2:
            raise ValueError("expected an even batch size and patients of both classes")

    def __len__(self) -> int:
        """Batches in an epoch: as many as the larger class fills."""
        larger = max(sum(self.classes), len(self.classes) - sum(self.classes))
        return max(1, larger // (self.batch_size // 2))

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        half = self.batch_size // 2
        values = np.asarray(self.classes)
        queues = [
            _repeated(np.flatnonzero(values == value), len(self) * half, rng)
            for value in (True, False)
        ]
        for start in range(0, len(self) * half, half):
            members = [i for queue in queues for i in queue[start : start + half]]
            yield [(int(i), int(rng.integers(2**31))) for i in members]


def _repeated(members: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]


@dataclass(frozen=True)
class Samples(Dataset[Sample]):
    """Augmented windows of cached patients.

    Attributes
    ----------
    place : chooses the window of a patient from its labels and a generator.
    targets : what a sample carries beside image and labels, by patient.
    lesion_channels : whether GTVp and GTVn join CT and PET as channels.
    """

    patients: Sequence[Cached]
    intensity: Intensity
    place: Callable[[LabelVolume, np.random.Generator], tuple[slice, slice, slice]]
    targets: Sequence[dict[str, Any]]
    lesion_channels: bool = False

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, drawn: Draw) -> Sample:
        """Return image (channels, z, y, x), labels (1, z, y, x) and the patient's targets."""
        index, seed = drawn
        rng = np.random.default_rng(seed)
        patient = self.patients[index]
        box = self.place(patient.labels, rng)
        image, labels = window(patient, box, self.intensity)
        image, labels = augment.apply(augment.draw(rng), image, labels)
        if self.lesion_channels:
            image = with_lesions(image, labels)
        targets = {name: torch.as_tensor(value) for name, value in self.targets[index].items()}
        return {"image": image, "labels": labels[None], **targets}


def window(
    patient: Cached, box: tuple[slice, slice, slice], intensity: Intensity
) -> tuple[Tensor, Tensor]:
    """Return CT and PET, scaled, (2, z, y, x), and the label map, (z, y, x), of one window."""
    ct_hu, pet_suv = np.asarray(patient.image[(slice(None), *box)], dtype=np.float32)
    image = np.stack([scale_ct(ct_hu, intensity), scale_pet(pet_suv, intensity)])
    labels = np.asarray(patient.labels[box], dtype=np.int64)
    return torch.from_numpy(image), torch.from_numpy(labels)


def with_lesions(image: Tensor, labels: Tensor) -> Tensor:
    """Append the channels GTVp and GTVn (0/1)."""
    lesions = torch.stack([labels == Label.GTVP, labels == Label.GTVN])
    return torch.cat([image, lesions.to(image.dtype)])


@dataclass(frozen=True)
class LesionCrops:
    """Crops around a voxel of a lesion, or now and then anywhere."""

    crop_zyx: IntTriple
    random_probability: float

    def __call__(self, labels: LabelVolume, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        """Return the crop's slices; GTVp and GTVn are equally likely where both are there."""
        present = [label for label in (Label.GTVP, Label.GTVN) if np.any(labels == label)]
        if not present or rng.random() < self.random_probability:
            center = tuple(int(rng.integers(size)) for size in labels.shape)
        else:
            voxels = np.flatnonzero(labels == present[rng.integers(len(present))])
            chosen = np.unravel_index(voxels[rng.integers(voxels.size)], labels.shape)
            # A lesion in the very middle of every crop would teach the network to look there.
            shift = [rng.integers(-size // 4, size // 4 + 1) for size in self.crop_zyx]
            center = tuple(int(c + s) for c, s in zip(chosen, shift, strict=True))
        return window_box(labels.shape, self.crop_zyx, center)


@dataclass(frozen=True)
class JitteredWindow:
    """The window that serving will take, moved a little at random.

    Attributes
    ----------
    center_of : where serving centres the window; None is the middle of the region.
    """

    window_zyx: IntTriple
    center_of: Callable[[LabelVolume], IntTriple | None]
    max_shift_vox: int = 8

    def __call__(self, labels: LabelVolume, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        """Return the window's slices."""
        center = self.center_of(np.asarray(labels)) or tuple(size // 2 for size in labels.shape)
        z, y, x = (
            int(c + rng.integers(-self.max_shift_vox, self.max_shift_vox + 1)) for c in center
        )
        return window_box(labels.shape, self.window_zyx, (z, y, x))
