"""The samples of a network: seeded random crops from the cache.

A sample depends only on seed, epoch and patient. The sampler draws the patients and a seed for each
patient. This seed determines crop, augmentation and noise, so the number of loading processes does
not change the result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shared.clinical import ClinicalFeature
from shared.conventions import Axis, IntTriple, LabelVolume, Volume, array_axes
from shared.preprocessing.intensity import (
    IMAGE_CHANNELS,
    Channel,
    Intensity,
    has_lesion_channels,
    network_channels,
    scale_images,
    scale_pet,
)
from shared.preprocessing.window import window_box
from training.cohort.cache import PreparedPatient
from training.config import PrognosisSettings, Strength
from training.samples import augmentation as augment
from training.samples import strong_augmentation
from training.samples.batches import Draw
from training.samples.channels import image_channels

Sample: TypeAlias = dict[str, Tensor]
AnyAugmentation: TypeAlias = augment.Augmentation | strong_augmentation.StrongAugmentation

DRAWS: Final[Mapping[Strength, Callable[[np.random.Generator], AnyAugmentation]]] = {
    "trivial": augment.draw,
    "strong": strong_augmentation.draw,
}
"""For each strength, the function that draws the augmentation of a sample."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Random mirroring, and random removal of clinical values.

    Attributes
    ----------
    mirror : the axes along which samples are mirrored, each in a random half of the samples.
    clinical_dropout : probability that a clinical value is replaced by the code for missing.
    missing : for each clinical value, the code that marks it as missing; empty for samples without
        clinical values.
    """

    mirror: tuple[Axis, ...] = ()
    clinical_dropout: float = 0.0
    missing: tuple[float, ...] = ()

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with its random changes."""
        axes = array_axes(axis for axis in self.mirror if rng.random() < 0.5)
        volumes = {"image", "labels"} & set(sample) if axes else ()
        changed = {key: sample[key].flip(axes) for key in volumes}
        if self.missing:
            is_missing = torch.from_numpy(rng.random(len(self.missing)) < self.clinical_dropout)
            codes = torch.tensor(self.missing, dtype=sample["clinical"].dtype)
            changed["clinical"] = torch.where(is_missing, codes, sample["clinical"])
        return {**sample, **changed}


def variation(settings: PrognosisSettings, features: Sequence[ClinicalFeature]) -> Variation:
    """Return the variation of Tasks 2 and 3 that a configuration sets."""
    return Variation(
        mirror=settings.mirror,
        clinical_dropout=settings.clinical_dropout,
        missing=tuple(feature.missing for feature in features),
    )


class Place(Protocol):
    """Chooses the window of a sample."""

    @property
    def size_zyx(self) -> IntTriple:
        """The size of the window."""

    def __call__(
        self, labels: LabelVolume, ct_hu: Volume, rng: np.random.Generator
    ) -> augment.Crop:
        """Return a window of a patient, given labels, CT and a random generator."""


@dataclass(frozen=True, kw_only=True)
class PatientSamples(Dataset[Sample], ABC):
    """The patients of a data set and the content of their samples, in training and validation.

    Attributes
    ----------
    channels : the network's input channels, in order.
    targets : for each patient, the values that a sample has in addition to image and labels.
    needs_labels : whether the loss or the scores need the label map. If the network has lesion
        channels, a sample has the label map anyway.
    image_type : type of the image. A type of 16 bits halves the size of a sample, for steps that
        round the image to this type anyway.
    """

    patients: Sequence[PreparedPatient]
    intensity: Intensity
    channels: Sequence[Channel]
    targets: Sequence[Mapping[str, Any]]
    needs_labels: bool = True
    image_type: torch.dtype = torch.float32

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.patients)

    @property
    @abstractmethod
    def size_zyx(self) -> IntTriple:
        """The size of a sample."""

    @property
    def has_labels(self) -> bool:
        """Whether a sample has the label map."""
        return self.needs_labels or has_lesion_channels(self.channels)

    @property
    def sample_bytes(self) -> int:
        """The bytes of a sample's image and labels."""
        image = len(image_channels(self.channels)) * self.image_type.itemsize
        return math.prod(self.size_zyx) * (image + self.has_labels)

    def sample(self, image: Tensor, labels: Tensor, index: int) -> Sample:
        """Return a patient's sample, given image and labels as `window` returns them.

        They may be augmented. In the sample, `image` has shape (image channels, z, y, x) and
        `labels` has shape (1, z, y, x).
        """
        images = dict(zip(IMAGE_CHANNELS, image.numpy(), strict=True))
        shown = torch.from_numpy(network_channels(images, image_channels(self.channels)))
        targets = {name: torch.as_tensor(value) for name, value in self.targets[index].items()}
        with_labels = {"labels": labels[None]} if self.has_labels else {}
        return {"image": shown.to(self.image_type), **with_labels, **targets}


@dataclass(frozen=True, kw_only=True)
class Samples(PatientSamples):
    """Augmented windows of cached patients.

    Attributes
    ----------
    place : chooses a patient's window.
    augmentation : strength of the augmentation.
    variation : random changes of the whole sample, after the image has been augmented.
    """

    place: Place
    augmentation: Strength = "trivial"
    variation: Variation = Variation()

    @property
    def size_zyx(self) -> IntTriple:
        """The size of a window."""
        return self.place.size_zyx

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the sample of an augmented window, see `sample`."""
        index, seed = draw
        rng = np.random.default_rng(seed)
        patient = self.patients[index]
        image, labels = augmented(
            patient,
            self.place(patient.labels, patient.image[0], rng),
            intensity=self.intensity,
            augmentation=DRAWS[self.augmentation](rng),
        )
        return self.variation(self.sample(image, labels, index), rng)


@dataclass(frozen=True, kw_only=True)
class Windows(PatientSamples):
    """Patients' windows as the containers use them, for validation.

    Attributes
    ----------
    centre_of : returns the voxel on which a window is centred, or None for the centre of the
        region.
    """

    window_zyx: IntTriple
    centre_of: Callable[[LabelVolume], IntTriple | None]

    @property
    def size_zyx(self) -> IntTriple:
        """The size of a window."""
        return self.window_zyx

    def __getitem__(self, index: int) -> Sample:
        """Return the sample of a patient's window, see `sample`."""
        patient = self.patients[index]
        box = window_box(patient.labels.shape, self.size_zyx, self.centre_of(patient.labels))
        image, labels = window(patient, box, self.intensity)
        return self.sample(image, labels, index)


def augmented(
    patient: PreparedPatient,
    box: augment.Crop,
    *,
    intensity: Intensity,
    augmentation: AnyAugmentation,
) -> tuple[Tensor, Tensor]:
    """Return one window of the augmented region: CT and PET, and the label map."""
    margins = augmentation.source_margin_vox([side.stop - side.start for side in box])
    z, y, x = (
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, margin, size in zip(box, margins, patient.labels.shape, strict=True)
    )
    source = (z, y, x)
    inner_z, inner_y, inner_x = (
        slice(side.start - start.start, side.stop - start.start)
        for side, start in zip(box, source, strict=True)
    )
    image, labels = window(patient, source, intensity)
    # A region contains air and bone, so the CT spans its whole intensity window. The PET's upper
    # limit is the highest SUV in the region.
    highest = float(scale_pet(np.asarray(patient.max_suv, np.float32), intensity))
    ranges = torch.tensor([[-1.0, 1.0], [0.0, highest]])
    return augmentation.apply(image, labels, (inner_z, inner_y, inner_x), ranges)


def window(
    patient: PreparedPatient, box: augment.Crop, intensity: Intensity
) -> tuple[Tensor, Tensor]:
    """Return CT and PET, scaled, (2, z, y, x), and the label map, uint8, (z, y, x), of a window."""
    ct_hu, pet_suv = np.asarray(patient.image[(slice(None), *box)], dtype=np.float32)
    image = network_channels(scale_images(ct_hu, pet_suv, intensity), IMAGE_CHANNELS)
    labels = np.array(patient.labels[box], dtype=np.uint8)  # a copy, since the cache is read-only
    return torch.from_numpy(image), torch.from_numpy(labels)
