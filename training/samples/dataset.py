"""The training samples of a network: seeded random crops from the cache.

A sample depends only on seed, epoch and patient. The sampler draws the patients and a seed for each
of them, and this seed determines crop, augmentation and noise. The number of loading processes
therefore does not change the result.
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
    """Return a loader of single patients, which the processes of a training divide among them."""
    return DataLoader(
        windows,
        batch_size=1,
        sampler=Share(len(windows)),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


@dataclass(frozen=True)
class Variation:
    """Random swap of left and right, and random removal of clinical values.

    Attributes
    ----------
    mirror : whether a random half of the samples is mirrored along x, the last axis.
    clinical_dropout : probability that a clinical value is shown as missing.
    missing : for each clinical value, the code that marks it as missing.
    """

    mirror: bool
    clinical_dropout: float
    missing: tuple[float, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with its random changes."""
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
    """Return the variation that a configuration sets for Tasks 2 and 3."""
    missing = tuple(feature.missing for feature in features)
    return Variation(settings.mirror, settings.clinical_dropout, missing)


@dataclass(frozen=True, kw_only=True)
class Samples(Dataset[Sample]):
    """Augmented windows of cached patients.

    Attributes
    ----------
    channels : the network's input channels, in order.
    place : chooses a patient's window, given the labels and a random generator.
    targets : for each patient, the values that a sample has in addition to image and labels.
    variation : random changes of the whole sample, after the image has been augmented.
    """

    patients: Sequence[PreparedPatient]
    intensity: Intensity
    channels: Sequence[Channel]
    place: Callable[[LabelVolume, np.random.Generator], tuple[slice, slice, slice]]
    targets: Sequence[Mapping[str, Any]]
    variation: Variation | None = None

    def __len__(self) -> int:
        """Return the number of patients."""
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
            augmentation=augment.draw(rng),
        )
        sample = _sample(image, labels, channels=self.channels, targets=self.targets[index])
        return sample if self.variation is None else self.variation(sample, rng)


@dataclass(frozen=True, kw_only=True)
class Windows(Dataset[Sample]):
    """Patients' windows as the containers use them, for validation.

    Attributes
    ----------
    window_zyx : None for the whole region.
    centre_of : returns the voxel on which a window is centred, or None for the centre of the
        region.
    channels, targets : as in `Samples`.
    """

    patients: Sequence[PreparedPatient]
    intensity: Intensity
    channels: Sequence[Channel]
    window_zyx: IntTriple | None
    centre_of: Callable[[LabelVolume], IntTriple | None]
    targets: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        """Return the number of patients."""
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
    """Return a sample, given CT and PET as `window` returns them, augmented or not."""
    images = dict(zip(IMAGE_CHANNELS, image.numpy(), strict=True))
    shown = network_channels(images, channels, labels.numpy())
    tensors = {name: torch.as_tensor(value) for name, value in targets.items()}
    return {"image": torch.from_numpy(shown), "labels": labels[None], **tensors}


def augmented(
    patient: PreparedPatient,
    box: augment.Crop,
    *,
    intensity: Intensity,
    augmentation: augment.Augmentation,
) -> tuple[Tensor, Tensor]:
    """Return one window of the augmented region: CT and PET, and the label map."""
    margins = augment.source_margin_vox(augmentation, [side.stop - side.start for side in box])
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
    # A region contains air and bone, so CT spans its whole window; PET ends at its own maximum.
    highest = float(scale_pet(np.asarray(patient.max_suv, np.float32), intensity))
    ranges = torch.tensor([[-1.0, 1.0], [0.0, highest]])
    return augment.apply(augmentation, image, labels, (inner_z, inner_y, inner_x), ranges)


def window(
    patient: PreparedPatient, box: augment.Crop, intensity: Intensity
) -> tuple[Tensor, Tensor]:
    """Return CT and PET, scaled, (2, z, y, x), and the label map, (z, y, x), of one window."""
    ct_hu, pet_suv = np.asarray(patient.image[(slice(None), *box)], dtype=np.float32)
    image = network_channels(scale_images(ct_hu, pet_suv, intensity), IMAGE_CHANNELS)
    labels = np.asarray(patient.labels[box], dtype=np.int64)
    return torch.from_numpy(image), torch.from_numpy(labels)
