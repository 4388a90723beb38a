"""Measures the displacement between PET and CT by the outline of the body in both.

The uptake of skin, fat and muscle is low but not zero, so a PET shows the body's outline. If the
PET is clipped to the lower quartile of its uptake in the body, it is nearly a mask of the body,
whatever its unit and however hot the brain and the lesions are. The displacement is the translation
with the highest correlation between this mask and the body in the CT. A few Fourier transforms give
the correlations of all translations; only voxels that both images cover count (Padfield 2012,
"Masked object registration in the Fourier domain"). A limb or a trunk that is the same in each
slice fits equally well at many heights. A displacement is therefore only credible if it also
improves the correlation, which the gain measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume
from shared.geometry import Grid
from shared.preprocessing.pipeline import Prepared

COARSE_MM: Final = 6.0
"""Voxel size of the search, as coarse as a PET's resolution; the peak is interpolated."""

FARTHEST_MM: Final = 36.0
"""The search covers displacements up to this distance along each axis."""

LEAST_OVERLAP: Final = 0.5
"""Least overlap of a translation that counts, as a fraction of the overlap without translation."""


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """The translation between PET and CT.

    Attributes
    ----------
    offset_mm : from the CT to the PET, along x, y, z of the world (LPS).
    gain : by how much this translation raises the correlation of the outlines.
    """

    offset_mm: tuple[float, float, float]
    gain: float

    @property
    def distance_mm(self) -> float:
        """Length of the offset."""
        return float(np.linalg.norm(self.offset_mm))


def coarse_grid(region: Grid) -> tuple[Grid, int]:
    """Return the grid of every n-th voxel of a region along each axis, and the number n."""
    step = max(1, round(COARSE_MM / region.spacing_mm[0]))
    x, y, z = (-(-size // step) for size in region.size_xyz)
    spacing = region.spacing_mm[0] * step
    return Grid((x, y, z), (spacing,) * 3, region.origin_mm, region.direction), step


def lower_quartile_suv(prepared: Prepared) -> float:
    """Return the lower quartile of the uptake of the body in the region; 0 without uptake."""
    _, step = coarse_grid(prepared.undo.region)
    every = (slice(None, None, step),) * 3
    suv = prepared.pet_suv[every]
    uptake = suv[prepared.body[every] & (suv > 0)]
    return float(np.quantile(uptake, 0.25)) if uptake.size else 0.0


def measure_displacement(prepared: Prepared, pet: Grid) -> Displacement | None:
    """Return the displacement of the PET from the CT.

    Parameters
    ----------
    prepared : CT, body and PET on the region.
    pet : grid of the PET's file.

    Returns
    -------
    The displacement; None if there is no body or no uptake in it, or if the body or its uptake
    fills everything that both images cover.
    """
    coarse, step = coarse_grid(prepared.undo.region)
    every = (slice(None, None, step),) * 3
    body, suv = prepared.body[every], prepared.pet_suv[every]
    ceiling = np.float32(lower_quartile_suv(prepared))
    if not ceiling:
        return None
    correlations = _correlations(
        _smooth(body.astype(np.float32)),
        np.minimum(suv / ceiling, np.float32(1)),
        _inside(prepared.undo.ct, coarse),
        _inside(pet, coarse),
        reach=round(FARTHEST_MM / coarse.spacing_mm[0]),
    )
    centre = tuple(side // 2 for side in correlations.shape)
    if not np.isfinite(correlations[centre]):
        return None
    peak = np.unravel_index(np.argmax(correlations), correlations.shape)
    z, y, x = (
        (_summit(correlations, peak, axis) - centre[axis]) * coarse.spacing_mm[0]
        for axis in range(3)
    )
    gain = float(correlations[peak] - correlations[centre])
    return Displacement(offset_mm=(float(x), float(y), float(z)), gain=gain)


def _inside(image: Grid, points: Grid) -> Volume:
    """Return 1 for each voxel of `points` that an image covers, and 0 elsewhere, [z, y, x]."""
    axes = [np.arange(size, dtype=np.float64) for size in points.size_xyz]
    origin = image.index(np.asarray([points.origin_mm]))[0]
    steps = np.linalg.solve(image.index_to_world, points.index_to_world)
    covered = np.ones(points.shape_zyx, bool)
    for axis, size in enumerate(image.size_xyz):
        x, y, z = (steps[axis, each] * axes[each] for each in range(3))
        index = origin[axis] + z[:, None, None] + y[None, :, None] + x[None, None, :]
        covered &= (index >= -0.5) & (index <= size - 0.5)
    return covered.astype(np.float32)


def _smooth(volume: Volume) -> Volume:
    """Return the mean over neighbours with the weights 1, 2, 1 along each axis."""
    for axis in range(3):
        lines = np.moveaxis(volume, axis, 0)
        before, after = np.roll(lines, 1, axis=0), np.roll(lines, -1, axis=0)
        before[0], after[-1] = lines[0], lines[-1]
        volume = np.moveaxis((before + 2 * lines + after) * np.float32(0.25), 0, axis)
    return volume


def _correlations(
    fixed: Volume, moving: Volume, fixed_mask: Volume, moving_mask: Volume, *, reach: int
) -> NDArray[np.float32]:
    """Return the correlation of two volumes for each translation up to `reach` along each axis.

    Returns
    -------
    An array of the shape (2 reach + 1,) * 3; its entry [reach + z, reach + y, reach + x] compares
    `fixed` at a voxel with `moving` at the voxel that lies (z, y, x) further on. An entry is -inf
    if too few voxels overlap or a volume is constant where they overlap.
    """
    shape = [side + reach for side in fixed.shape]
    translations = np.ix_(*[np.arange(-reach, reach + 1) % side for side in shape])

    def transform(volume: Volume) -> NDArray[np.complex64]:
        return np.asarray(np.fft.rfftn(volume, shape, axes=(0, 1, 2)), np.complex64)

    def overlap(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> NDArray[np.float64]:
        sums = np.fft.irfftn(np.conj(first) * second, shape, axes=(0, 1, 2))
        return sums[translations].astype(np.float64)

    fixed, moving = fixed * fixed_mask, moving * moving_mask
    fixed_cover, moving_cover = transform(fixed_mask), transform(moving_mask)
    fixed_sum, moving_sum = transform(fixed), transform(moving)
    voxels = np.maximum(overlap(fixed_cover, moving_cover), 1e-3)
    fixed_mean = overlap(fixed_sum, moving_cover) / voxels
    moving_mean = overlap(fixed_cover, moving_sum) / voxels
    fixed_variance = overlap(transform(fixed**2), moving_cover) / voxels - fixed_mean**2
    moving_variance = overlap(fixed_cover, transform(moving**2)) / voxels - moving_mean**2
    covariance = overlap(fixed_sum, moving_sum) / voxels - fixed_mean * moving_mean
    centre = voxels[reach, reach, reach]
    is_usable = (
        (voxels >= LEAST_OVERLAP * centre) & (fixed_variance > 1e-4) & (moving_variance > 1e-4)
    )
    result = np.full(voxels.shape, -np.inf, np.float32)
    spread = np.sqrt(fixed_variance[is_usable] * moving_variance[is_usable])
    result[is_usable] = covariance[is_usable] / spread
    return result


def _summit(values: NDArray[np.float32], peak: tuple[np.intp, ...], axis: int) -> float:
    """Return the position of a maximum along an axis, from a parabola through its neighbours."""
    index = int(peak[axis])
    if not 0 < index < values.shape[axis] - 1:
        return index
    place = list(peak)
    before, at, after = (
        float(values[(*place[:axis], index + step, *place[axis + 1 :])]) for step in (-1, 0, 1)
    )
    bend = before - 2 * at + after
    if not np.isfinite(bend) or bend >= 0:
        return index
    return index + 0.5 * (before - after) / bend
