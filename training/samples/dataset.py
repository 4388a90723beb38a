"""What a network is shown in training: seeded draws from the cache.

A sample is a pure function of (seed, epoch, patient): the sampler draws the patients and a seed for
each, which decides crop, augmentation and noise. So a run does not depend on how many processes
load its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from shared.clinical import ClinicalFeature
from shared.conventions import IntTriple, LabelVolume
from shared.preprocessing.intensity import (
    IMAGE_CHANNELS,
    Channel,
    Intensity,
    network_channels,
    scale_images,
    scale_pet,
)
from shared.preprocessing.window import window_box
from training.cohort.cache import PreparedPatient
from training.config import PrognosisSettings
from training.samples import augmentation as augment
from training.samples.batches import Draw, Share

Sample: TypeAlias = dict[str, Tensor]


def loader(
    dataset: Dataset[Sample], batches: Sampler[list[Draw]], workers: int
) -> DataLoader[Sample]:
    """Return a loader of the batches that a sampler draws."""
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, persistent_workers=workers > 0
    )


def validation_loader(windows: Windows, workers: int) -> DataLoader[Sample]:
    """Return a loader of one patient at a time, each for one of the processes of a training."""
    return DataLoader(
        windows,
        batch_size=1,
        sampler=Share(len(windows)),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


@dataclass(frozen=True)
class Variation:
    """Random exchange of left and right, and random removal of clinical values.

    Attributes
    ----------
    mirror : whether half of the samples are mirrored; x is the last axis of a region.
    clinical_dropout : how often each clinical value is shown as missing.
    missing : the code for missing of each clinical value, in their order.
    """

    mirror: bool
    clinical_dropout: float
    missing: tuple[float, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample varied."""
        is_mirrored = self.mirror and rng.random() < 0.5
        is_missing = torch.from_numpy(rng.random(len(self.missing)) < self.clinical_dropout)
        mirrored = {key: sample[key].flip(-1) for key in ("image", "labels") if is_mirrored}
        missing = torch.tensor(self.missing, dtype=sample["clinical"].dtype)
        return {
            **sample,
            **mirrored,
            "clinical": torch.where(is_missing, missing, sample["clinical"]),
        }


def variation(settings: PrognosisSettings, features: Sequence[ClinicalFeature]) -> Variation:
    """Return what a configuration varies in the samples of Tasks 2 and 3."""
    missing = tuple(feature.missing for feature in features)
    return Variation(settings.mirror, settings.clinical_dropout, missing)


@dataclass(frozen=True, kw_only=True)
class Samples(Dataset[Sample]):
    """Augmented windows of cached patients.

    Attributes
    ----------
    channels : what the network sees, in order.
    place : chooses the window of a patient from its labels and a generator.
    targets : what a sample carries in addition to image and labels, by patient.
    variation : random changes of the whole sample, after the augmentation of the image.
    """

    patients: Sequence[PreparedPatient]
    intensity: Intensity
    channels: Sequence[Channel]
    place: Callable[[LabelVolume, np.random.Generator], tuple[slice, slice, slice]]
    targets: Sequence[Mapping[str, Any]]
    variation: Variation | None = None

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return image (channels, z, y, x), labels (1, z, y, x) and the patient's targets."""
        index, seed = draw
        rng = np.random.default_rng(seed)
        patient = self.patients[index]
        image, labels = augmented(
            patient,
            self.place(patient.labels, rng),
            intensity=self.intensity,
            drawn=augment.draw(rng),
        )
        sample = _sample(image, labels, channels=self.channels, targets=self.targets[index])
        return sample if self.variation is None else self.variation(sample, rng)


@dataclass(frozen=True, kw_only=True)
class Windows(Dataset[Sample]):
    """Patients' windows as serving takes them, for validation.

    Attributes
    ----------
    window_zyx : None is the whole region.
    centre_of : where a window is centred; None is the middle of the region.
    channels, targets : as those of `Samples`.
    """

    patients: Sequence[PreparedPatient]
    intensity: Intensity
    channels: Sequence[Channel]
    window_zyx: IntTriple | None
    centre_of: Callable[[LabelVolume], IntTriple | None]
    targets: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, index: int) -> Sample:
        """Return image (channels, z, y, x), labels (1, z, y, x) and the patient's targets."""
        patient = self.patients[index]
        size = self.window_zyx or patient.labels.shape
        box = window_box(patient.labels.shape, size, self.centre_of(patient.labels))
        image, labels = window(patient, box, self.intensity)
        return _sample(image, labels, channels=self.channels, targets=self.targets[index])


def _sample(
    image: Tensor, labels: Tensor, *, channels: Sequence[Channel], targets: Mapping[str, Any]
) -> Sample:
    """Return a sample from CT and PET as `window` gives them, augmented or not."""
    images = dict(zip(IMAGE_CHANNELS, image.numpy(), strict=True))
    shown = network_channels(images, channels, labels.numpy())
    tensors = {name: torch.as_tensor(value) for name, value in targets.items()}
    return {"image": torch.from_numpy(shown), "labels": labels[None], **tensors}


def augmented(
    patient: PreparedPatient, box: augment.Crop, *, intensity: Intensity, drawn: augment.Drawn
) -> tuple[Tensor, Tensor]:
    """Return one window of the augmented region: CT and PET, and the label map."""
    reach = augment.reach(drawn, [side.stop - side.start for side in box])
    z, y, x = (
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, more, size in zip(box, reach, patient.labels.shape, strict=True)
    )
    source = (z, y, x)
    inner_z, inner_y, inner_x = (
        slice(side.start - start.start, side.stop - start.start)
        for side, start in zip(box, source, strict=True)
    )
    image, labels = window(patient, source, intensity)
    # A region shows air and bone, so CT spans its window; PET goes up to its own maximum.
    highest = float(scale_pet(np.asarray(patient.max_suv, np.float32), intensity))
    ranges = torch.tensor([[-1.0, 1.0], [0.0, highest]])
    return augment.apply(drawn, image, labels, (inner_z, inner_y, inner_x), ranges)


def window(
    patient: PreparedPatient, box: augment.Crop, intensity: Intensity
) -> tuple[Tensor, Tensor]:
    """Return CT and PET, scaled, (2, z, y, x), and the label map, (z, y, x), of one window."""
    ct_hu, pet_suv = np.asarray(patient.image[(slice(None), *box)], dtype=np.float32)
    image = network_channels(scale_images(ct_hu, pet_suv, intensity), IMAGE_CHANNELS)
    labels = np.asarray(patient.labels[box], dtype=np.int64)
    return torch.from_numpy(image), torch.from_numpy(labels)
