"""TrivialAugment: exactly one transform a sample, drawn uniformly, its strength drawn uniformly.

Randomness is drawn in one place (`draw`) and applied in another (`apply`). Geometric transforms
move images and labels together; intensity transforms leave labels alone. Ranges of rotation and
scale are the paper's, the others are stated here.

The paper augments a volume and crops then. Here the crop is computed from as much of the volume as
it depends on (`reach`), which gives the same crop at the cost of the crop: it is turned about its
own centre, but a rotation about any other point differs by a shift, and where crops lie is drawn.
So a crop holds no padding but where it leaves the volume.

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
"""As nnU-Net's."""
MAX_NOISE_STD: Final = 0.1
"""Of channels scaled to about [-1, 1]."""
MAX_BLUR_SIGMA_VOX: Final = 1.0
_BLUR_RADIUS_VOX: Final = math.ceil(3 * MAX_BLUR_SIGMA_VOX)


@dataclass(frozen=True)
class Drawn:
    """One transform with its strength.

    Attributes
    ----------
    transform : which.
    strength : in the unit of the transform: gamma, noise std or blur sigma in voxels.
    angles_degrees : rotation about z, y, x (affine only).
    scale : enlargement of the anatomy (affine only).
    seed : of the noise (noise only).
    """

    transform: Transform
    strength: float = 0.0
    angles_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    seed: int = 0


def draw(rng: np.random.Generator) -> Drawn:
    """Draw one transform uniformly, and its strength uniformly."""
    transform = TRANSFORMS[rng.integers(len(TRANSFORMS))]
    if transform == "affine":
        z, y, x = rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES, size=3)
        scale = rng.uniform(*SCALE_RANGE)
        return Drawn(transform, angles_degrees=(float(z), float(y), float(x)), scale=float(scale))
    if transform == "gamma":
        return Drawn(transform, strength=float(rng.uniform(*GAMMA_RANGE)))
    if transform == "noise":
        strength = float(rng.uniform(0, MAX_NOISE_STD))
        return Drawn(transform, strength=strength, seed=int(rng.integers(2**31)))
    return Drawn(transform, strength=float(rng.uniform(0, MAX_BLUR_SIGMA_VOX)))


def reach(drawn: Drawn, size_zyx: Sequence[int]) -> IntTriple:
    """Return by how many voxels (z, y, x) a crop's source extends beyond it on each side."""
    if drawn.transform == "affine":
        half = torch.tensor([(size - 1) / 2 for size in size_zyx])
        needed = _source_matrix(drawn).abs() @ half
        z, y, x = (max(0, math.ceil(n)) for n in (needed - half + 1).tolist())
        return z, y, x
    margin = _BLUR_RADIUS_VOX if drawn.transform == "blur" else 0
    return margin, margin, margin


def apply(
    drawn: Drawn,
    image: Tensor,
    labels: Tensor,
    crop: Crop | None = None,
    ranges: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply a drawn transform and crop.

    Parameters
    ----------
    image : float32, shape (channels, z, y, x).
    labels : integer label map, shape (z, y, x).
    crop : the part to return, in voxels of `image`; where it is rotated or blurred, what lies
        around it is taken from `image` as far as that goes, then border values (labels:
        background). Without it all of the image.
    ranges : lowest and highest value of each channel, shape (channels, 2), between which gamma
        bends; those of the image if not given.

    Returns
    -------
    The transformed image and labels of the crop's shape, types as they were.
    """
    z, y, x = labels.shape
    inside = crop or (slice(0, z), slice(0, y), slice(0, x))
    if drawn.transform == "affine":
        return _affine(drawn, image, labels, inside)
    if drawn.transform == "blur":
        return _blur(drawn, image)[:, *inside], labels[inside]
    image, labels = image[:, *inside], labels[inside]
    if drawn.transform == "gamma":
        return _gamma(drawn, image, ranges), labels
    return _noise(drawn, image), labels


def _affine(drawn: Drawn, image: Tensor, labels: Tensor, inside: Crop) -> tuple[Tensor, Tensor]:
    sides = torch.tensor(labels.shape, dtype=torch.float32)
    centre = torch.tensor([(s.start + s.stop - 1) / 2 for s in inside])
    axes = [torch.arange(s.start, s.stop) - c for s, c in zip(inside, centre.tolist(), strict=True)]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    source = offsets @ _source_matrix(drawn).T + centre
    # grid_sample counts from -1 to 1 between the outer faces of the first and last voxel, x first.
    grid = ((2 * source + 1) / sides - 1).flip(-1)[None]
    moved = functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    moved_labels = functional.grid_sample(
        labels[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return moved[0], moved_labels[0, 0].to(labels.dtype)


def _source_matrix(drawn: Drawn) -> Tensor:
    """Return the 3x3 matrix from offsets (z, y, x) in the result to offsets in the source."""
    # `_rotation` is in the order x, y, z.
    return _rotation(drawn.angles_degrees).flip(0, 1) / drawn.scale


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


def _gamma(drawn: Drawn, image: Tensor, ranges: Tensor | None) -> Tensor:
    if ranges is None:
        ranges = torch.stack([image.amin(dim=(1, 2, 3)), image.amax(dim=(1, 2, 3))], dim=1)
    low, high = ranges.to(image)[:, :, None, None, None].unbind(dim=1)
    span = (high - low).clamp(min=1e-6)
    # The cache's rounding may leave a value a little outside the stated range.
    return ((image - low) / span).clamp(0, 1) ** drawn.strength * span + low


def _noise(drawn: Drawn, image: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(drawn.seed)
    return image + drawn.strength * torch.randn(image.shape, generator=generator)


def _blur(drawn: Drawn, image: Tensor) -> Tensor:
    radius = _BLUR_RADIUS_VOX
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / max(drawn.strength, 1e-3)) ** 2)
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
