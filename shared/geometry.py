"""Where voxels lie in the world, and how an image is brought onto another grid.

A `Grid` is the geometry of an image without its voxels. `resample` crops the source to what the
target needs before it interpolates, so the cost follows the region asked for, not the scan: a
B-spline on a whole-body CT drops from 55 s to 3 s. Nothing here assumes axis-aligned or identity
directions.
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

CROP_MARGIN_VOX: Final = 16
"""Source voxels kept around the target's extent. A B-spline prefilter reaches beyond its support:
with 16 voxels the result equals that of the whole volume to 1e-4 HU, with 4 to 2.7 HU
(measured)."""

IDENTITY_DIRECTION: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels, [start, stop) along x, y, z."""

    start_xyz: IntTriple
    stop_xyz: IntTriple

    @property
    def size_xyz(self) -> IntTriple:
        """Voxels along x, y, z."""
        x, y, z = (b - a for a, b in zip(self.start_xyz, self.stop_xyz, strict=True))
        return x, y, z

    @property
    def is_empty(self) -> bool:
        """Whether no voxel lies inside."""
        return any(size <= 0 for size in self.size_xyz)

    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """Return the slices that cut this box out of an array indexed [z, y, x]."""
        x, y, z = (slice(a, b) for a, b in zip(self.start_xyz, self.stop_xyz, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Grid:
    """The geometry of a 3-D image: which world point each voxel centre is.

    Attributes
    ----------
    size_xyz : voxels along the image's own axes.
    spacing_mm : distance between voxel centres along these axes.
    origin_mm : world position (LPS) of the centre of voxel (0, 0, 0).
    direction : 3x3 matrix in row-major order whose columns are the image axes in the world.
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
        """Volume of one voxel (spacings are lengths along axes; SimpleITK's are orthogonal)."""
        return float(np.prod(self.spacing_mm) * abs(np.linalg.det(self._direction_matrix)))

    @property
    def _direction_matrix(self) -> NDArray[np.float64]:
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def index_to_world(self) -> NDArray[np.float64]:
        """3x3 matrix that takes a continuous index (x, y, z) to a world offset from the origin."""
        scaled: NDArray[np.float64] = self._direction_matrix * np.asarray(self.spacing_mm)
        return scaled

    def world_mm(self, index_xyz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the world points, shape (n, 3), of continuous indices, shape (n, 3)."""
        world: NDArray[np.float64] = index_xyz @ self.index_to_world.T + np.asarray(self.origin_mm)
        return world

    def index(self, world_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the continuous indices, shape (n, 3), of world points, shape (n, 3)."""
        offsets = world_mm - np.asarray(self.origin_mm)
        index: NDArray[np.float64] = np.linalg.solve(self.index_to_world, offsets.T).T
        return index

    def corners_mm(self) -> NDArray[np.float64]:
        """Return the world positions, shape (8, 3), of the outer corners of the corner voxels."""
        ends = [(-0.5, size - 0.5) for size in self.size_xyz]
        return self.world_mm(np.array(list(itertools.product(*ends))))

    def extent_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest world coordinates that the image's outline reaches."""
        corners = self.corners_mm()
        return corners.min(axis=0), corners.max(axis=0)

    def distance_mm(self, other: Grid) -> float:
        """Return how far the corners of two grids of one size are apart, at most."""
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def is_close(self, other: Grid) -> bool:
        """Whether voxels are the same ones to 1 % of their smallest edge.

        NIfTI stores geometry in 32 bits, so that a mask and its CT may differ by 1e-4 mm.
        """
        if self.size_xyz != other.size_xyz:
            return False
        return self.distance_mm(other) <= 0.01 * min(*self.spacing_mm, *other.spacing_mm)

    def box_around(self, other: Grid, margin_vox: int = 0) -> Box:
        """Return the part of this grid that `other` covers, widened by a margin and clipped.

        The box is empty where the two do not meet.
        """
        corners = self.index(other.corners_mm())
        size = np.asarray(self.size_xyz)
        start = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin_vox, 0, size)
        stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1 + margin_vox, 0, size)
        return Box(_int_triple(start), _int_triple(stop))

    def cropped(self, box: Box) -> Grid:
        """Return the grid of the voxels inside a box."""
        origin = self.world_mm(np.asarray([box.start_xyz], dtype=np.float64))[0]
        return Grid(box.size_xyz, self.spacing_mm, tuple(origin.tolist()), self.direction)

    def image(self, array_zyx: NDArray[np.generic]) -> sitk.Image:
        """Return an array of this grid's shape as an image with this geometry."""
        if array_zyx.shape != self.shape_zyx:
            raise ValueError(f"expected shape {self.shape_zyx}, found {array_zyx.shape}")
        return self._placed(sitk.GetImageFromArray(array_zyx))

    def filled(self, value: float, pixel_type: int) -> sitk.Image:
        """Return an image of one value with this geometry and a SimpleITK pixel type."""
        return self._placed(sitk.Image(self.size_xyz, pixel_type) + value)

    def _placed(self, image: sitk.Image) -> sitk.Image:
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image


def bounding_slices(mask_zyx: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the slices of the smallest box around a mask, [z, y, x]; None if it is empty."""
    others = ((1, 2), (0, 2), (0, 1))
    ends = [np.flatnonzero(np.any(mask_zyx, axis=axes)) for axes in others]
    if not ends[0].size:
        return None
    z, y, x = (slice(int(line[0]), int(line[-1]) + 1) for line in ends)
    return z, y, x


def _int_triple(values: NDArray[np.int_]) -> IntTriple:
    x, y, z = (int(value) for value in values)
    return x, y, z


def crop(image: sitk.Image, box: Box) -> sitk.Image:
    """Return the voxels inside a non-empty box, at their place in the world."""
    inside: sitk.Image = sitk.RegionOfInterest(image, size=box.size_xyz, index=box.start_xyz)
    return inside


def resample(
    image: sitk.Image,
    grid: Grid,
    interpolation: Interpolation,
    outside: float,
    clamp: tuple[float, float] | None = None,
) -> sitk.Image:
    """Bring an image onto a grid.

    Parameters
    ----------
    image : a 3-D scalar image of any direction, spacing and origin.
    grid : where the result's voxels lie.
    interpolation : "nearest" for labels; "linear" or cubic "bspline" for intensities.
    outside : value where the grid leaves the image; the whole result where they do not meet.
    clamp : lowest and highest value of the source that may take part, so that padding of -3024 HU
        or metal of 27000 HU does not ring into its neighbours.

    Returns
    -------
    An image on `grid`: float32, or the pixel type of `image` for "nearest".
    """
    pixel_type = image.GetPixelID() if interpolation == "nearest" else sitk.sitkFloat32
    box = Grid.of(image).box_around(grid, CROP_MARGIN_VOX)
    if box.is_empty:
        return grid.filled(outside, pixel_type)
    source = sitk.Cast(crop(image, box), pixel_type)
    if clamp is not None:
        source = sitk.Clamp(source, pixel_type, *clamp)
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
    result: sitk.Image = resampler.Execute(source)
    return result


def _positions_along_axes(
    source: Grid, target: Grid
) -> list[tuple[int, NDArray[np.float64]]] | None:
    """Return where a target's voxels lie along each axis (x, y, z) of a source, if parallel to it.

    Returns
    -------
    For each source axis, the target axis parallel to it and the source index of each of its voxels;
    None where the grids are oblique to each other.
    """
    steps = np.linalg.solve(source.index_to_world, target.index_to_world)
    along = np.abs(steps) > 1e-9 * np.abs(steps).max()
    if np.any(along.sum(axis=0) != 1) or np.any(along.sum(axis=1) != 1):
        return None
    start = source.index(np.asarray([target.origin_mm]))[0]
    positions = []
    for axis, step in enumerate(steps):
        parallel = int(np.flatnonzero(along[axis])[0])
        voxels = np.arange(target.size_xyz[parallel])
        positions.append((parallel, start[axis] + step[parallel] * voxels))
    return positions


def _interpolate_along_axes(
    source: sitk.Image, positions: list[tuple[int, NDArray[np.float64]]], outside: float
) -> Volume:
    """Return a cubic B-spline of `source` at the voxels of a parallel grid, [z, y, x]."""
    coefficients = sitk.GetArrayFromImage(sitk.BSplineDecomposition(source, 3))
    z, y, x = (indices for _, indices in reversed(positions))
    values = interpolate(coefficients.astype(np.float32, copy=False), (z, y, x), outside)
    # Axes of `values` are the source's z, y, x; each says which of the target's x, y, z it is.
    found = [parallel for parallel, _ in reversed(positions)]
    return np.ascontiguousarray(values.transpose([found.index(axis) for axis in (2, 1, 0)]))
