"""TrivialAugment: one random transform per sample with a random strength, both drawn uniformly.

`draw` makes all random choices, and `Augmentation.apply` applies them. Geometric transforms change
images and labels together; intensity transforms do not change labels. The rotation and scale ranges
are from the paper; the others are our own.

The paper augments the whole volume and then crops it. Here only the part of the volume that the
crop depends on is augmented (`source_margin_vox`), which gives the same crop at a lower cost. A
crop is rotated about its own centre. Rotation about another point would only shift the crop, whose
position is random anyway. Padding appears only outside the volume.

References
----------
Müller & Hutter 2021, TrivialAugment, ICCV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.conventions import IntTriple

Crop: TypeAlias = tuple[slice, slice, slice]
Transform: TypeAlias = Literal["affine", "gamma", "noise", "blur"]
TRANSFORMS: Final[tuple[Transform, ...]] = ("affine", "gamma", "noise", "blur")

MAX_ROTATION_DEGREES: Final = 15.0
SCALE_RANGE: Final = (0.9, 1.2)
GAMMA_RANGE: Final = (0.7, 1.5)
"""Range of the exponent, as in nnU-Net."""
MAX_NOISE_STD: Final = 0.1
"""Largest standard deviation, for channels scaled to about [-1, 1]."""
MAX_BLUR_SIGMA_VOX: Final = 1.0
_BLUR_RADIUS_VOX: Final = math.ceil(3 * MAX_BLUR_SIGMA_VOX)


@dataclass(frozen=True)
class Augmentation:
    """One transform with its parameters.

    Attributes
    ----------
    transform : name of the transform.
    strength : exponent (gamma), standard deviation (noise) or sigma in voxels (blur).
    angles_degrees : rotation about z, y, x (affine only).
    scale : magnification of the anatomy (affine only).
    seed : seed of the noise (noise only).
    """

    transform: Transform
    strength: float = 0.0
    angles_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    seed: int = 0

    def source_margin_vox(self, size_zyx: Sequence[int]) -> IntTriple:
        """Return how many voxels (z, y, x) the augmentation needs on each side of a crop."""
        match self.transform:
            case "affine":
                half = torch.tensor([(size - 1) / 2 for size in size_zyx])
                source_half = _source_matrix(self).abs() @ half
                z, y, x = (max(0, math.ceil(n)) for n in (source_half - half + 1).tolist())
                return z, y, x
            case "blur":
                return _BLUR_RADIUS_VOX, _BLUR_RADIUS_VOX, _BLUR_RADIUS_VOX
            case "gamma" | "noise":
                return 0, 0, 0
            case _:
                raise _unknown(self.transform)

    def apply(
        self,
        image: Tensor,
        labels: Tensor,
        crop: Crop | None = None,
        ranges: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Augment a volume and crop it.

        Parameters
        ----------
        image : float32, shape (channels, z, y, x).
        labels : integer label map, shape (z, y, x).
        crop : the part to return, in voxels of `image`; the whole image by default. Rotation and
            blur also use voxels around the crop. Voxels outside `image` have its border values, and
            are background in the label map.
        ranges : minimum and maximum of each channel, shape (channels, 2); gamma does not change
            these two values. By default those of the image.

        Returns
        -------
        The augmented image and labels in the crop's shape, with unchanged types.

        Raises
        ------
        ValueError
            If the transform is unknown.
        """
        z, y, x = labels.shape
        box = crop or (slice(0, z), slice(0, y), slice(0, x))
        match self.transform:
            case "affine":
                return _affine(self, image, labels, box)
            case "blur":
                return _blur(self, image)[:, *box], labels[box]
            case "gamma":
                return _gamma(self, image[:, *box], ranges), labels[box]
            case "noise":
                return _noise(self, image[:, *box]), labels[box]
            case _:
                raise _unknown(self.transform)


def draw(rng: np.random.Generator) -> Augmentation:
    """Draw a transform and its strength, both uniformly."""
    transform = TRANSFORMS[rng.integers(len(TRANSFORMS))]
    match transform:
        case "affine":
            z, y, x = rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES, size=3)
            angles_degrees = (float(z), float(y), float(x))
            scale = float(rng.uniform(*SCALE_RANGE))
            return Augmentation(transform, angles_degrees=angles_degrees, scale=scale)
        case "gamma":
            return Augmentation(transform, strength=float(rng.uniform(*GAMMA_RANGE)))
        case "noise":
            strength = float(rng.uniform(0, MAX_NOISE_STD))
            return Augmentation(transform, strength=strength, seed=int(rng.integers(2**31)))
        case "blur":
            return Augmentation(transform, strength=float(rng.uniform(0, MAX_BLUR_SIGMA_VOX)))
        case _:
            raise _unknown(transform)


def _unknown(transform: str) -> ValueError:
    """Return the error for a transform that this module does not implement."""
    return ValueError(f"expected a transform that is implemented here, found {transform}; add it")


def _affine(
    augmentation: Augmentation, image: Tensor, labels: Tensor, box: Crop
) -> tuple[Tensor, Tensor]:
    sides = torch.tensor(labels.shape, dtype=torch.float32)
    centre = torch.tensor([(s.start + s.stop - 1) / 2 for s in box])
    axes = [torch.arange(s.start, s.stop) - c for s, c in zip(box, centre.tolist(), strict=True)]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    source = offsets @ _source_matrix(augmentation).T + centre
    # For grid_sample, -1 and 1 are the outer faces of the first and last voxel, and x comes first.
    grid = ((2 * source + 1) / sides - 1).flip(-1)[None]
    warped = functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    warped_labels = functional.grid_sample(
        labels[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return warped[0], warped_labels[0, 0].to(labels.dtype)


def _source_matrix(augmentation: Augmentation) -> Tensor:
    """Return the 3x3 matrix from offsets (z, y, x) in the result to offsets in the source."""
    # The axes of `_rotation` are in the order x, y, z.
    return _rotation(augmentation.angles_degrees).flip(0, 1) / augmentation.scale


def _rotation(angles_degrees: tuple[float, float, float]) -> Tensor:
    z, y, x = (math.radians(angle) for angle in angles_degrees)
    about_z = torch.tensor(
        [[math.cos(z), -math.sin(z), 0], [math.sin(z), math.cos(z), 0], [0, 0, 1]]
    )
    about_y = torch.tensor(
        [[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]]
    )
    about_x = torch.tensor(
        [[1, 0, 0], [0, math.cos(x), -math.sin(x)], [0, math.sin(x), math.cos(x)]]
    )
    return about_z @ about_y @ about_x


def _gamma(augmentation: Augmentation, image: Tensor, ranges: Tensor | None) -> Tensor:
    if ranges is None:
        ranges = torch.stack([image.amin(dim=(1, 2, 3)), image.amax(dim=(1, 2, 3))], dim=1)
    low, high = ranges.to(image)[:, :, None, None, None].unbind(dim=1)
    span = (high - low).clamp(min=1e-6)
    # Because the cache rounds, a value may lie slightly outside the range.
    return ((image - low) / span).clamp(0, 1) ** augmentation.strength * span + low


def _noise(augmentation: Augmentation, image: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(augmentation.seed)
    return image + augmentation.strength * torch.randn(image.shape, generator=generator)


def _blur(augmentation: Augmentation, image: Tensor) -> Tensor:
    radius = _BLUR_RADIUS_VOX
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(augmentation.strength, 1e-3)) ** 2)
    kernel = kernel / kernel.sum()
    blurred = image[:, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = -1
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        padded = functional.pad(blurred, padding, mode="replicate")
        blurred = functional.conv3d(padded, kernel.reshape(shape))
    return blurred[:, 0]
