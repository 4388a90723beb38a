"""Analytic shapes in the canonical patient frame.

The canonical frame is LPS in mm (x to the patient's left, y to the back, z to the head) with its
origin at the foramen magnum. A shape is a scalar field that is below 1 inside the shape. Its
bounding box limits the part of an image in which the field is evaluated. Arrays are (z, y, x).
Shapes know nothing about tissues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Bounds = tuple[Point, Point]
Knot = tuple[float, float, float, float, float]
"""One ellipse of a `Column` in mm: z, centre x, centre y, semi-axis x, semi-axis y."""


class Shape(Protocol):
    """A region of space, given by a scalar field."""

    def bounds(self) -> Bounds:
        """Return the lower and upper corner (x, y, z) of a box that contains the shape."""
        ...

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """Return the field (below 1 inside) at broadcastable canonical coordinates in mm."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An axis-aligned ellipsoid."""

    centre_mm: Point
    semi_mm: Point

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        lower, upper = (
            tuple(c + sign * s for c, s in zip(self.centre_mm, self.semi_mm, strict=True))
            for sign in (-1, 1)
        )
        return lower, upper  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        (cx, cy, cz), (sx, sy, sz) = self.centre_mm, self.semi_mm
        in_plane = np.square((x - cx) * np.float32(1 / sx))
        in_plane += np.square((y - cy) * np.float32(1 / sy))
        in_plane += np.square((z - cz) * np.float32(1 / sz))
        return in_plane


@dataclass(frozen=True, kw_only=True)
class Folded:
    """An ellipsoid with a surface folded like a gyroid: the white matter under the gyri."""

    ellipsoid: Ellipsoid
    depth: float  # the squared radius is multiplied by 1 + depth × folds, with folds within ±1.5
    period_mm: float
    phase_rad: float

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach = (1 - 1.5 * self.depth) ** -0.5
        semi_mm = tuple(reach * s for s in self.ellipsoid.semi_mm)
        return Ellipsoid(self.ellipsoid.centre_mm, semi_mm).bounds()

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        wave = np.float32(2 * np.pi / self.period_mm)
        u, v, w = (wave * axis + np.float32(self.phase_rad) for axis in (x, y, z))
        folds = np.sin(u) * np.cos(v) + np.sin(v) * np.cos(w) + np.sin(w) * np.cos(u)
        return self.ellipsoid.field(x, y, z) * (1 + np.float32(self.depth) * folds)


@dataclass(frozen=True)
class Column:
    """A stack of ellipses along z, linear between its knots and flat at both ends.

    Attributes
    ----------
    knots : in ascending order of z.
    wall_mm : if it is above 0, only a wall at the sides belongs to the shape. This is its thickness
        along the shorter semi-axis; along the longer one, it is thicker in proportion.
    """

    knots: tuple[Knot, ...]
    wall_mm: float = 0.0

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        z, cx, cy, rx, ry = np.array(self.knots).T
        lower = (float((cx - rx).min()), float((cy - ry).min()), float(z[0]))
        return lower, (float((cx + rx).max()), float((cy + ry).max()), float(z[-1]))

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        table = np.array(self.knots, dtype=np.float32).T
        cx, cy, rx, ry = (np.interp(z, table[0], row).astype(np.float32) for row in table[1:])
        radius2 = np.square((x - cx) * (1 / rx))
        radius2 += np.square((y - cy) * (1 / ry))
        outside_z = (z < table[0, 0]) | (z > table[0, -1])
        if self.wall_mm:
            inner = np.square(np.maximum(1 - self.wall_mm / np.minimum(rx, ry), 0))
            radius2 = np.where(radius2 > inner, radius2, np.float32(2))
        return np.where(outside_z, np.float32(2), radius2)

    def grown(self, mm: float) -> Column:
        """Return the column with `mm` added to both semi-axes, which stay at least 0.5 mm."""
        rows = [
            (z, cx, cy, max(rx + mm, 0.5), max(ry + mm, 0.5)) for z, cx, cy, rx, ry in self.knots
        ]
        return Column(tuple(rows), self.wall_mm)


@dataclass(frozen=True)
class Capsule:
    """All points within `radius_mm` of the segment from `start` to `stop`."""

    start: Point
    stop: Point
    radius_mm: float

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        ends = np.array([self.start, self.stop])
        lower, upper = ends.min(0) - self.radius_mm, ends.max(0) + self.radius_mm
        return tuple(map(float, lower)), tuple(map(float, upper))  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        axis = np.subtract(self.stop, self.start).astype(np.float32)
        dx, dy, dz = x - self.start[0], y - self.start[1], z - self.start[2]
        along = (dx * axis[0] + dy * axis[1] + dz * axis[2]) / np.float32(axis @ axis)
        np.clip(along, 0, 1, out=along)
        distance2 = np.square(dx - along * axis[0]) + np.square(dy - along * axis[1])
        distance2 += np.square(dz - along * axis[2])
        return distance2 / np.float32(self.radius_mm**2)


@dataclass(frozen=True, kw_only=True)
class Arch:
    """A horseshoe, open at the back: mandible, dental arch, hyoid, thyroid cartilage.

    `half_width_mm` applies along the shorter semi-axis; along the longer one, the horseshoe is
    wider in proportion. `bounds` adds only `half_width_mm`, so up to 4 mm of the front are cut off.
    A larger box would change all phantoms.
    """

    centre_y_mm: float
    semi_mm: tuple[float, float]  # semi-axes x and y of the line in the middle of the horseshoe
    half_width_mm: float
    z_range_mm: tuple[float, float]
    y_end_mm: float  # the two limbs end here

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach_x, reach_y = (
            self.semi_mm[0] + self.half_width_mm,
            self.semi_mm[1] + self.half_width_mm,
        )
        lower = (-reach_x, self.centre_y_mm - reach_y, self.z_range_mm[0])
        return lower, (reach_x, self.y_end_mm, self.z_range_mm[1])

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        radius = np.sqrt(
            np.square(x / self.semi_mm[0]) + np.square((y - self.centre_y_mm) / self.semi_mm[1])
        )
        field = np.abs(radius - 1) * np.float32(min(self.semi_mm) / self.half_width_mm)
        outside = (y > self.y_end_mm) | (z < self.z_range_mm[0]) | (z > self.z_range_mm[1])
        return np.where(outside, np.float32(2), field)


@dataclass(frozen=True)
class Ribs:
    """A rib cage: the wall of a column, cut into oblique stripes."""

    cage: Column
    pitch_mm: float = 25.0
    slope: float = 0.35  # descent of the ribs towards the front, mm per mm

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        return self.cage.bounds()

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        phase = (z - self.slope * y) * np.float32(2 * np.pi / self.pitch_mm)
        return np.where(np.cos(phase) > 0.35, self.cage.field(x, y, z), np.float32(2))
