"""The positions of voxels in the world, and the resampling of an image onto another grid.

A `Grid` is the geometry of an image without its voxels. Before `resample` interpolates, it crops
the source to the part that the target needs. The cost therefore depends on the size of the target,
not of the scan: a B-spline on a whole-body CT takes 3 s instead of 55 s. All functions work for any
direction matrix.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.bspline import interpolate
from shared.conventions import IntTriple, Triple, Volume

Interpolation: TypeAlias = Literal["nearest", "linear", "bspline"]

_INTERPOLATORS: Final = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline,
}

_EXACT_IN_FLOAT32: Final = (
    sitk.sitkInt8, sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkFloat32,
)  # fmt: skip
"""Pixel types whose values float32 represents exactly. For "nearest" and "linear", ITK
interpolates them without a copy."""

CROP_MARGIN_VOX: Final = 16
"""Number of source voxels to keep around the target's extent, because the prefilter of a B-spline
reaches beyond its support. The measured difference from the result of the whole volume is 1e-4 HU
with 16 voxels and 2.7 HU with 4."""

IDENTITY_DIRECTION: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels, [start, stop) along x, y, z."""

    start_xyz: IntTriple
    stop_xyz: IntTriple

    @property
    def size_xyz(self) -> IntTriple:
        """Number of voxels along x, y, z."""
        sides = zip(self.start_xyz, self.stop_xyz, strict=True)
        x, y, z = (stop - start for start, stop in sides)
        return x, y, z

    @property
    def is_empty(self) -> bool:
        """Whether the box contains no voxel."""
        return any(size <= 0 for size in self.size_xyz)

    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """Return the slices that cut this box out of an array indexed [z, y, x]."""
        x, y, z = map(slice, self.start_xyz, self.stop_xyz)
        return z, y, x


@dataclass(frozen=True)
class Grid:
    """The geometry of a 3-D image: the world position of each voxel centre.

    Attributes
    ----------
    size_xyz : number of voxels along each image axis.
    spacing_mm : distance between voxel centres along each image axis.
    origin_mm : world position (LPS) of the centre of voxel (0, 0, 0).
    direction : 3x3 matrix in row-major order; its columns are the image axes in the world.
    """

    size_xyz: IntTriple
    spacing_mm: Triple
    origin_mm: Triple
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """Return the grid of an image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape_zyx(self) -> IntTriple:
        """Shape of an array on this grid."""
        x, y, z = self.size_xyz
        return z, y, x

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm) * abs(np.linalg.det(self._direction_matrix)))

    @property
    def _direction_matrix(self) -> NDArray[np.float64]:
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def index_to_world(self) -> NDArray[np.float64]:
        """3x3 matrix from a continuous index (x, y, z) to a world offset from the origin."""
        scaled: NDArray[np.float64] = self._direction_matrix * np.asarray(self.spacing_mm)
        return scaled

    def world_mm(self, index_xyz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the world points, shape (n, 3), at continuous indices, shape (n, 3)."""
        world: NDArray[np.float64] = index_xyz @ self.index_to_world.T + np.asarray(self.origin_mm)
        return world

    def index(self, world_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the continuous indices, shape (n, 3), at world points, shape (n, 3)."""
        offsets = world_mm - np.asarray(self.origin_mm)
        index: NDArray[np.float64] = np.linalg.solve(self.index_to_world, offsets.T).T
        return index

    def corners_mm(self) -> NDArray[np.float64]:
        """Return the world positions, shape (8, 3), of the image's corners.

        These are the outer corners of the voxels, half a voxel beyond the outermost centres.
        """
        ends = [(-0.5, size - 0.5) for size in self.size_xyz]
        return self.world_mm(np.array(list(itertools.product(*ends))))

    def extent_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest world coordinates (x, y, z) of the corners."""
        corners = self.corners_mm()
        return corners.min(axis=0), corners.max(axis=0)

    def distance_mm(self, other: Grid) -> float:
        """Return the largest distance between corresponding corners of two grids."""
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def is_close(self, other: Grid) -> bool:
        """Return whether sizes are equal and corners agree to 1 % of the smallest spacing.

        The tolerance is needed because NIfTI stores geometry in 32 bits, so a mask and its CT may
        differ by 1e-4 mm.
        """
        if self.size_xyz != other.size_xyz:
            return False
        return self.distance_mm(other) <= 0.01 * min(*self.spacing_mm, *other.spacing_mm)

    def box_around(self, other: Grid, margin_vox: int = 0) -> Box:
        """Return the box of voxels that `other` covers, widened by a margin, clipped to this grid.

        The box is empty if the grids do not overlap.
        """
        corners = self.index(other.corners_mm())
        size = np.asarray(self.size_xyz)
        start = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin_vox, 0, size)
        stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1 + margin_vox, 0, size)
        return Box(_int_triple(start), _int_triple(stop))

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the voxels in a box."""
        origin = self.world_mm(np.asarray([box.start_xyz], dtype=np.float64))[0]
        return Grid(box.size_xyz, self.spacing_mm, tuple(origin.tolist()), self.direction)

    def image(self, array_zyx: NDArray[np.generic]) -> sitk.Image:
        """Return an array of this grid's shape as an image with this geometry.

        Raises
        ------
        ValueError
            If the shape differs.
        """
        if array_zyx.shape != self.shape_zyx:
            raise ValueError(f"expected shape {self.shape_zyx}, found {array_zyx.shape}")
        return self._placed(sitk.GetImageFromArray(array_zyx))

    def filled(self, value: float, pixel_type: int) -> sitk.Image:
        """Return an image with this geometry, a SimpleITK pixel type and one value everywhere."""
        image = sitk.Image(self.size_xyz, pixel_type)  # 0 everywhere
        return self._placed(image + value if value else image)

    def _placed(self, image: sitk.Image) -> sitk.Image:
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image


def bounding_slices(mask_zyx: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the slices [z, y, x] of the smallest box around a mask; None if the mask is empty."""
    other_axes = ((1, 2), (0, 2), (0, 1))
    indices = [np.flatnonzero(np.any(mask_zyx, axis=axes)) for axes in other_axes]
    if not indices[0].size:
        return None
    z, y, x = (slice(int(index[0]), int(index[-1]) + 1) for index in indices)
    return z, y, x


def _int_triple(values: NDArray[np.int_]) -> IntTriple:
    x, y, z = (int(value) for value in values)
    return x, y, z


def crop(image: sitk.Image, box: Box) -> sitk.Image:
    """Return the part of an image in a non-empty box; its voxels keep their world positions.

    If the box is the whole image, the image itself is returned and not a copy.
    """
    if box.size_xyz == image.GetSize():
        return image
    part: sitk.Image = sitk.RegionOfInterest(image, size=box.size_xyz, index=box.start_xyz)
    return part


def resample(
    image: sitk.Image,
    grid: Grid,
    *,
    interpolation: Interpolation,
    outside: float,
    clamp: tuple[float, float] | None = None,
) -> sitk.Image:
    """Resample an image onto a grid.

    Parameters
    ----------
    image : a 3-D scalar image of any direction, spacing and origin.
    grid : the geometry of the result.
    interpolation : "nearest" for labels; "linear" or cubic "bspline" for intensities.
    outside : value of the voxels outside the image.
    clamp : range to which the source is clipped first; None does not clip. Without clipping,
        padding of -3024 HU or metal of 27000 HU would cause ringing nearby.

    Returns
    -------
    An image on `grid`: float32, or the pixel type of `image` for "nearest".
    """
    pixel_type = image.GetPixelID() if interpolation == "nearest" else sitk.sitkFloat32
    box = Grid.of(image).box_around(grid, CROP_MARGIN_VOX)
    if box.is_empty:
        return grid.filled(outside, pixel_type)
    source = crop(image, box)
    if clamp is not None:
        source = sitk.Clamp(source, pixel_type, *clamp)
    elif interpolation == "bspline" or source.GetPixelID() not in _EXACT_IN_FLOAT32:
        source = sitk.Cast(source, pixel_type)
    positions = _positions_along_axes(Grid.of(source), grid)
    if interpolation == "bspline" and positions is not None:
        return grid.image(_interpolate_along_axes(source, positions, outside))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size_xyz)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(_INTERPOLATORS[interpolation])
    resampler.SetDefaultPixelValue(outside)
    resampler.SetOutputPixelType(pixel_type)
    result: sitk.Image = resampler.Execute(source)
    return result


def _positions_along_axes(
    source: Grid, target: Grid
) -> list[tuple[int, NDArray[np.float64]]] | None:
    """Return the positions of the voxels of a target along each axis (x, y, z) of a source.

    Returns
    -------
    For each source axis, the target axis that is parallel to it, and the source index of each
    target voxel along this axis; None if the grids are oblique to each other.
    """
    steps = np.linalg.solve(source.index_to_world, target.index_to_world)
    is_parallel = np.abs(steps) > 1e-9 * np.abs(steps).max()
    if np.any(is_parallel.sum(axis=0) != 1) or np.any(is_parallel.sum(axis=1) != 1):
        return None
    start = source.index(np.asarray([target.origin_mm]))[0]
    positions = []
    for axis, step in enumerate(steps):
        target_axis = int(np.flatnonzero(is_parallel[axis])[0])
        voxels = np.arange(target.size_xyz[target_axis])
        positions.append((target_axis, start[axis] + step[target_axis] * voxels))
    return positions


def _interpolate_along_axes(
    source: sitk.Image, positions: list[tuple[int, NDArray[np.float64]]], outside: float
) -> Volume:
    """Return the cubic B-spline of `source` at the voxels of a parallel grid, [z, y, x]."""
    decomposed = sitk.BSplineDecomposition(source, 3)
    z, y, x = (indices for _, indices in reversed(positions))
    values = interpolate(sitk.GetArrayViewFromImage(decomposed), (z, y, x), outside)
    # `values` has the source's axes z, y, x; `target_axes` gives the target axis parallel to each.
    target_axes = [axis for axis, _ in reversed(positions)]
    return np.ascontiguousarray(values.transpose([target_axes.index(axis) for axis in (2, 1, 0)]))
