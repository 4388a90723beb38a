"""A patient on a real CT: its scan, mirrored or not, in a pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.phantom.pose import Pose
from training.phantom.real.masks import GRID_MM
from training.phantom.real.scan import Scan
from training.phantom.shapes import Array, Bounds, Point
from training.phantom.slab import BARS_NODE, BARS_PRIMARY, Slab
from training.phantom.tissue import LESION_TISSUES, Organ, T

END_MARGIN_MM = 4.0
"""The first and last slice of the scan are extended by this much, because the slices of a PET are
thick and may be shifted by a few mm."""
EDGE_MM = 1.2
"""Sigma of the edge between a lesion and the CT around it."""
TEXTURE_SHARE = 0.4
"""Share of the CT's own texture that stays visible inside a lesion."""


@dataclass(frozen=True)
class _Block:
    """An axis-aligned box; a `shapes.Shape`."""

    lower: Point
    upper: Point

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        return self.lower, self.upper

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        return np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)


@dataclass(frozen=True, kw_only=True)
class RealBody:
    """A patient without tumours on a real CT; a `body.Body`."""

    scan: Scan
    mirrored: bool
    organs: tuple[Organ, ...]
    pose: Pose
    ct_hu: Array  # by tissue; used for lesions only
    pet_suv: Array  # by tissue
    metal_mm: tuple[Point, ...] = ()  # the CT itself contains the streaks of metal
    grain: float = 0.5

    @property
    def z_range_mm(self) -> tuple[float, float]:
        """See `Body`."""
        return float(self.scan.first_mm[2]), float(self.scan.last_mm[2])

    def paint_background(self, slab: Slab) -> None:
        """See `Body`: the scan's tissue map at the nearest voxel; outside it, air and barriers."""
        box = self._box(slab)
        if box is None:
            return
        inside: npt.NDArray[np.bool_] | bool = True
        indices = []
        for index, size in zip(self._indices(slab, box), self.scan.tissue.shape, strict=True):
            nearest = np.rint(index).astype(np.int32)
            inside = inside & (nearest >= 0) & (nearest < size)
            indices.append(np.clip(nearest, 0, size - 1))
        flat = (indices[0] * self.scan.tissue.shape[1] + indices[1]) * self.scan.tissue.shape[2]
        flat += indices[2]
        slab.tissue[box] = np.where(inside, self.scan.tissue.ravel()[flat], T.AIR)
        slab.barriers[box] = np.where(
            inside, self.scan.barriers.ravel()[flat], BARS_PRIMARY | BARS_NODE
        )

    def hu(self, slab: Slab) -> Array:
        """See `Body`: the CT, with lesions blended in."""
        hu = np.full(slab.tissue.shape, -1000, np.float32)
        box = self._box(slab)
        if box is None:
            return hu
        z, y, x = self._indices(slab, box)
        coordinates = np.stack([np.broadcast_to(z, y.shape), y, x])
        ndimage.map_coordinates(self.scan.ct_hu, coordinates, hu[box], order=1, cval=-1000)
        lesions = np.isin(slab.tissue, LESION_TISSUES)
        if lesions.any():
            self._blend_lesions(hu, lesions, slab)
        return hu

    def _blend_lesions(self, hu: Array, lesions: npt.NDArray[np.bool_], slab: Slab) -> None:
        """Write lesions into a slab's CT, with a soft edge and some of the CT's texture."""
        spacing_yx = slab.raster.spacing_mm[1::-1]
        part = ndimage.find_objects(lesions.view(np.uint8))[0]
        margin = [0, *(int(np.ceil(4 * EDGE_MM / s)) for s in spacing_yx)]
        part = tuple(slice(max(p.start - m, 0), p.stop + m)
                     for p, m in zip(part, margin, strict=True))  # fmt: skip
        sigma = (0, *(EDGE_MM / s for s in spacing_yx))
        inside = lesions[part].astype(np.float32)
        lesion_hu = self.ct_hu[slab.tissue[part]]
        lesion_hu += TEXTURE_SHARE * np.clip(hu[part] - lesion_hu, -40, 40)
        tumour = ndimage.gaussian_filter(inside * lesion_hu, sigma)
        share = ndimage.gaussian_filter(inside, sigma)
        hu[part] = hu[part] * (1 - share) + tumour

    def has_room(self, place: str, side: float) -> bool:
        """See `Body`: there is room where the target volumes of the CT offer seats."""
        return (place, self._scan_side(side)) in self.scan.seats

    def draw_seat(
        self, rng: np.random.Generator, *, place: str, side: float, volume_ml: float
    ) -> Point:
        """See `Body`: a seat in the target volume; large lesions get seats with more room."""
        x, y, z, room = self.scan.seats[place, self._scan_side(side)].T
        candidates = np.flatnonzero(room >= np.quantile(room, 0.5 if volume_ml < 5 else 0.8))
        seat = int(rng.choice(candidates))
        return self._scan_side(float(x[seat])), float(y[seat]), float(z[seat])

    def _scan_side(self, x: float) -> float:
        """Map the sign of a canonical x between this patient and the scan."""
        return -x if self.mirrored else x

    def _box(self, slab: Slab) -> tuple[slice, slice, slice] | None:
        """Return the part of a slab that the scan covers."""
        margin = np.array([0, 0, END_MARGIN_MM])
        lower, upper = self.scan.first_mm - margin, self.scan.last_mm + margin
        if self.mirrored:
            lower[0], upper[0] = -upper[0], -lower[0]
        return slab.box(_Block(tuple(lower.tolist()), tuple(upper.tolist())))

    def _indices(self, slab: Slab, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """Return continuous indices z (z, 1, 1), y, x (z, y, x) into the scan's arrays."""
        x, y, z = slab.coordinates(box)
        x0, y0, z0 = (np.float32(first) for first in self.scan.first_mm)
        step = np.float32(1 / GRID_MM)
        heights = np.clip((z - z0) * step, 0, len(self.scan.tissue) - 1)
        return heights, (y - y0) * step, ((-x if self.mirrored else x) - x0) * step
