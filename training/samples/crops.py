"""Chooses the part of a patient's region that a training sample shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.conventions import IntTriple, Label, LabelVolume, Volume
from shared.preprocessing.region import BODY_HU
from shared.preprocessing.window import window_box
from training.config import RandomCrops

BODY_DRAWS: Final = 64
"""How many random voxels are tried to find one in the body. If the body fills a fifth of the
region, all of them miss it in one of a million crops."""


def no_lesion_centre(_: LabelVolume) -> None:
    """Return None, so that the window is centred on the region."""


@dataclass(frozen=True)
class LesionCrops:
    """Crops around a random lesion voxel or, with `random_probability`, around any voxel.

    Attributes
    ----------
    random_crops : whether "any voxel" means any voxel of the region or any voxel of the body.
    """

    size_zyx: IntTriple
    random_probability: float
    random_crops: RandomCrops = "region"

    def __call__(
        self, labels: LabelVolume, ct_hu: Volume, rng: np.random.Generator
    ) -> tuple[slice, slice, slice]:
        """Return the crop's slices. GTVp and GTVn are equally likely if both are present."""
        present = [label for label in (Label.GTVP, Label.GTVN) if np.any(labels == label)]
        if not present or rng.random() < self.random_probability:
            centre = (
                _body_voxel(ct_hu, rng)
                if self.random_crops == "body"
                else tuple(int(rng.integers(size)) for size in labels.shape)
            )
        else:
            voxels = np.flatnonzero(labels == present[rng.integers(len(present))])
            voxel = np.unravel_index(voxels[rng.integers(voxels.size)], labels.shape)
            # Without the shift, the network would learn that lesions are at the centre of a crop.
            shift = [rng.integers(-size // 4, size // 4 + 1) for size in self.size_zyx]
            centre = tuple(int(c + s) for c, s in zip(voxel, shift, strict=True))
        return window_box(labels.shape, self.size_zyx, centre)


def _body_voxel(ct_hu: Volume, rng: np.random.Generator) -> IntTriple:
    """Return a random voxel of the body, or any voxel if all that are tried lie outside it."""
    voxels = rng.integers(ct_hu.shape, size=(BODY_DRAWS, 3))
    is_body = ct_hu[tuple(voxels.T)] > BODY_HU
    z, y, x = (int(index) for index in voxels[np.argmax(is_body)])
    return z, y, x


@dataclass(frozen=True)
class JitteredWindow:
    """The window that the containers use, with a small random shift.

    Attributes
    ----------
    centre_of : returns the voxel on which the containers centre the window, or None for the centre
        of the region.
    """

    size_zyx: IntTriple
    centre_of: Callable[[LabelVolume], IntTriple | None]
    max_shift_vox: int = 8

    def __call__(
        self, labels: LabelVolume, ct_hu: Volume, rng: np.random.Generator
    ) -> tuple[slice, slice, slice]:
        """Return the window's slices."""
        del ct_hu
        centre = self.centre_of(np.asarray(labels)) or tuple(size // 2 for size in labels.shape)
        z, y, x = (
            int(c + rng.integers(-self.max_shift_vox, self.max_shift_vox + 1)) for c in centre
        )
        return window_box(labels.shape, self.size_zyx, (z, y, x))
