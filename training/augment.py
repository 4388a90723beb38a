"""TrivialAugment: exactly one transform a sample, drawn uniformly, its strength drawn uniformly.

Randomness is drawn in one place (`draw`) and applied in another (`apply`). Geometric transforms
move images and labels together; intensity transforms leave labels alone. Ranges of rotation and
scale are the paper's, the others are stated here.

References
----------
Müller & Hutter 2021, TrivialAugment, ICCV.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Transform: TypeAlias = Literal["affine", "gamma", "noise", "blur"]
TRANSFORMS: Final[tuple[Transform, ...]] = ("affine", "gamma", "noise", "blur")

MAX_ROTATION_DEGREES: Final = 15.0
SCALE_RANGE: Final = (0.9, 1.2)
GAMMA_RANGE: Final = (0.7, 1.5)
"""As nnU-Net's."""
MAX_NOISE_STD: Final = 0.1
"""Of channels scaled to about [-1, 1]."""
MAX_BLUR_SIGMA_VOX: Final = 1.0


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


def apply(drawn: Drawn, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a drawn transform.

    Parameters
    ----------
    image : float32, shape (channels, z, y, x).
    labels : integer label map, shape (z, y, x).

    Returns
    -------
    The transformed image and labels, same shapes and types.
    """
    if drawn.transform == "affine":
        return _affine(drawn, image, labels)
    intensity: dict[Transform, Callable[[Drawn, Tensor], Tensor]] = {
        "gamma": _gamma,
        "noise": _noise,
        "blur": _blur,
    }
    return intensity[drawn.transform](drawn, image), labels


def _affine(drawn: Drawn, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    matrix = torch.zeros(1, 3, 4)
    matrix[0, :, :3] = _rotation(drawn.angles_degrees) / drawn.scale
    grid = functional.affine_grid(matrix, [1, 1, *labels.shape], align_corners=False)
    # grid_sample's coordinates are fractions of each side; equal sides keep the rotation rigid.
    moved = functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    moved_labels = functional.grid_sample(
        labels[None, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return moved[0], moved_labels[0, 0].to(labels.dtype)


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


def _gamma(drawn: Drawn, image: Tensor) -> Tensor:
    low = image.amin(dim=(1, 2, 3), keepdim=True)
    span = (image.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=1e-6)
    return ((image - low) / span) ** drawn.strength * span + low


def _noise(drawn: Drawn, image: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(drawn.seed)
    return image + drawn.strength * torch.randn(image.shape, generator=generator)


def _blur(drawn: Drawn, image: Tensor) -> Tensor:
    radius = math.ceil(3 * MAX_BLUR_SIGMA_VOX)
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
