"""An augmentation of nnU-Net's strength: several transforms per sample, each with a probability.

Rotation and scale change images and labels together, with the code of TrivialAugment. MONAI changes
the intensities of each channel independently, so CT and PET get different random changes.
Probabilities and ranges are those of nnU-Net v2 (`get_training_transforms` of `nnUNetTrainer`),
except for the noise: its standard deviation is smaller, because here the channels are not scaled to
a standard deviation of 1.

References
----------
Isensee et al. 2021, nnU-Net, Nature Methods 18, supplementary note 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
)
from monai.transforms.spatial.array import RandSimulateLowResolution
from monai.utils.type_conversion import convert_to_tensor
from torch import Tensor

from shared.conventions import IntTriple
from training.samples.augmentation import Augmentation, Crop

ROTATION_PROBABILITY: Final = 0.2
MAX_ROTATION_DEGREES: Final = 30.0
SCALE_PROBABILITY: Final = 0.2
SCALE_RANGE: Final = (0.7, 1.4)
MAX_NOISE_STD: Final = 0.15
"""About half of nnU-Net's, for channels with a standard deviation of about 0.5."""
BLUR_SIGMA_RANGE_VOX: Final = (0.5, 1.0)
INTENSITY_CHANGE_RANGE: Final = (-0.25, 0.25)
"""Range of the factor minus 1, for brightness and contrast."""
ZOOM_RANGE: Final = (0.5, 1.0)
GAMMA_RANGE: Final = (0.7, 1.5)


@dataclass(frozen=True)
class StrongAugmentation:
    """The transforms of one sample.

    Attributes
    ----------
    affine : rotation and scale, or None.
    seed : seed of all changes of intensities.
    """

    affine: Augmentation | None
    seed: int

    def source_margin_vox(self, size_zyx: Sequence[int]) -> IntTriple:
        """Return how many voxels (z, y, x) rotation and scale need on each side of a crop."""
        return (0, 0, 0) if self.affine is None else self.affine.source_margin_vox(size_zyx)

    def apply(
        self, image: Tensor, labels: Tensor, crop: Crop, ranges: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augment a volume and crop it; see `Augmentation.apply`. `ranges` has no effect."""
        del ranges
        if self.affine is None:
            image, labels = image[:, *crop], labels[crop]
        else:
            image, labels = self.affine.apply(image, labels, crop)
        change = _intensities().set_random_state(self.seed)
        changed = [convert_to_tensor(change(channel[None]), track_meta=False) for channel in image]
        return torch.cat(changed), labels


def draw(rng: np.random.Generator) -> StrongAugmentation:
    """Draw the transforms of a sample."""
    angles, scale = (0.0, 0.0, 0.0), 1.0
    if rng.random() < ROTATION_PROBABILITY:
        z, y, x = rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES, size=3)
        angles = (float(z), float(y), float(x))
    if rng.random() < SCALE_PROBABILITY:
        scale = float(rng.uniform(*SCALE_RANGE))
    is_moved = any(angles) or scale != 1
    affine = Augmentation("affine", angles_degrees=angles, scale=scale) if is_moved else None
    return StrongAugmentation(affine, seed=int(rng.integers(2**31)))


def _intensities() -> Compose:
    """Return the random intensity changes of one channel, shape (1, z, y, x)."""
    sigma = BLUR_SIGMA_RANGE_VOX
    return Compose(
        [
            RandGaussianNoise(prob=0.1, std=MAX_NOISE_STD),
            RandGaussianSmooth(sigma, sigma, sigma, prob=0.2 * 0.5),
            RandScaleIntensity(INTENSITY_CHANGE_RANGE, prob=0.15),
            RandScaleIntensityFixedMean(
                prob=0.15, factors=INTENSITY_CHANGE_RANGE, preserve_range=True
            ),
            RandSimulateLowResolution(prob=0.25 * 0.5, zoom_range=ZOOM_RANGE),
            RandAdjustContrast(prob=0.1, gamma=GAMMA_RANGE, invert_image=True, retain_stats=True),
            RandAdjustContrast(prob=0.3, gamma=GAMMA_RANGE, retain_stats=True),
        ]
    )
