"""Chooses the part of a patient's region that a training sample shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shared.conventions import IntTriple, Label, LabelVolume
from shared.preprocessing.window import window_box


def no_lesion_centre(_: LabelVolume) -> None:
    """Return None, so that the window is centred on the region."""


@dataclass(frozen=True)
class LesionCrops:
    """Crops around a random lesion voxel or, with `random_probability`, around any voxel."""

    size_zyx: IntTriple
    random_probability: float

    def __call__(self, labels: LabelVolume, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        """Return the crop's slices. GTVp and GTVn are equally likely if both are present."""
        present = [label for label in (Label.GTVP, Label.GTVN) if np.any(labels == label)]
        if not present or rng.random() < self.random_probability:
            centre = tuple(int(rng.integers(size)) for size in labels.shape)
        else:
            voxels = np.flatnonzero(labels == present[rng.integers(len(present))])
            voxel = np.unravel_index(voxels[rng.integers(voxels.size)], labels.shape)
            # Without the shift, the network would learn that lesions are at the centre of a crop.
            shift = [rng.integers(-size // 4, size // 4 + 1) for size in self.size_zyx]
            centre = tuple(int(c + s) for c, s in zip(voxel, shift, strict=True))
        return window_box(labels.shape, self.size_zyx, centre)


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

    def __call__(self, labels: LabelVolume, rng: np.random.Generator) -> tuple[slice, slice, slice]:
        """Return the window's slices."""
        centre = self.centre_of(np.asarray(labels)) or tuple(size // 2 for size in labels.shape)
        z, y, x = (
            int(c + rng.integers(-self.max_shift_vox, self.max_shift_vox + 1)) for c in centre
        )
        return window_box(labels.shape, self.size_zyx, (z, y, x))
