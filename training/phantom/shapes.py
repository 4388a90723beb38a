"""Analytic shapes in a canonical patient frame, and the pose that puts them into the world.

The canonical frame is LPS in mm (x to the patient's left, y to the back, z to the head) with its
origin at the foramen magnum. A shape is a scalar field, below 1 inside; it knows its bounding box,
so that only that part of an image is evaluated. Arrays are (z, y, x). Nothing here knows tissues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Bounds = tuple[Point, Point]
RIPPLE_PERIOD_MM = 95.0


class Shape(Protocol):
    """Something with an inside."""

    def bounds(self) -> Bounds:
        """Return the lower and the upper corner (x, y, z) of a box that holds the shape."""
        ...

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """Return a field below 1 inside, at broadcastable canonical coordinates in mm."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An axis-aligned ellipsoid."""

    centre: Point
    semi: Point

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        lower, upper = (
            tuple(c + sign * s for c, s in zip(self.centre, self.semi, strict=True))
            for sign in (-1, 1)
        )
        return lower, upper  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        (cx, cy, cz), (sx, sy, sz) = self.centre, self.semi
        in_plane = np.square((x - cx) * np.float32(1 / sx))
        in_plane += np.square((y - cy) * np.float32(1 / sy))
        in_plane += np.square((z - cz) * np.float32(1 / sz))
        return in_plane


@dataclass(frozen=True)
class Folded:
    """An ellipsoid whose surface is folded like a gyroid: the white matter under the gyri."""

    ellipsoid: Ellipsoid
    depth: float  # amplitude, as a share of the squared radius
    period_mm: float
    phase_rad: float

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach = (1 - 1.5 * self.depth) ** -0.5
        semi = tuple(reach * s for s in self.ellipsoid.semi)
        return Ellipsoid(self.ellipsoid.centre, semi).bounds()

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        wave = np.float32(2 * np.pi / self.period_mm)
        u, v, w = (wave * axis + np.float32(self.phase_rad) for axis in (x, y, z))
        folds = np.sin(u) * np.cos(v) + np.sin(v) * np.cos(w) + np.sin(w) * np.cos(u)
        return self.ellipsoid.field(x, y, z) * (1 + np.float32(self.depth) * folds)


@dataclass(frozen=True)
class Column:
    """A stack of ellipses along z, piecewise linear between knots, flat at both ends.

    `knots` holds rows (z, centre x, centre y, semi-axis x, semi-axis y) by rising z; `wall_mm`
    above 0 keeps only a wall of that thickness inside the surface.
    """

    knots: tuple[tuple[float, float, float, float, float], ...]
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
        """Return the column with both semi-axes changed by `mm` (at least 0.5 mm stay)."""
        rows = [
            (z, cx, cy, max(rx + mm, 0.5), max(ry + mm, 0.5)) for z, cx, cy, rx, ry in self.knots
        ]
        return Column(tuple(rows), self.wall_mm)


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` mm of the segment from `start` to `stop`."""

    start: Point
    stop: Point
    radius: float

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        ends = np.array([self.start, self.stop])
        lower, upper = ends.min(0) - self.radius, ends.max(0) + self.radius
        return tuple(map(float, lower)), tuple(map(float, upper))  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        axis = np.subtract(self.stop, self.start).astype(np.float32)
        dx, dy, dz = x - self.start[0], y - self.start[1], z - self.start[2]
        along = (dx * axis[0] + dy * axis[1] + dz * axis[2]) / np.float32(axis @ axis)
        np.clip(along, 0, 1, out=along)
        distance2 = np.square(dx - along * axis[0]) + np.square(dy - along * axis[1])
        distance2 += np.square(dz - along * axis[2])
        return distance2 / np.float32(self.radius**2)


@dataclass(frozen=True)
class Arch:
    """A horseshoe open to the back: mandible, dental arch, hyoid, thyroid cartilage."""

    centre_y: float
    semi: tuple[float, float]  # of the middle line, x and y
    half_width: float
    z_range: tuple[float, float]
    y_end: float  # the two limbs stop here

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach_x, reach_y = self.semi[0] + self.half_width, self.semi[1] + self.half_width
        lower = (-reach_x, self.centre_y - reach_y, self.z_range[0])
        return lower, (reach_x, self.y_end, self.z_range[1])

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        radius = np.sqrt(
            np.square(x / self.semi[0]) + np.square((y - self.centre_y) / self.semi[1])
        )
        field = np.abs(radius - 1) * np.float32(min(self.semi) / self.half_width)
        outside = (y > self.y_end) | (z < self.z_range[0]) | (z > self.z_range[1])
        return np.where(outside, np.float32(2), field)


@dataclass(frozen=True)
class Ribs:
    """Oblique stripes cut out of the wall of a column: a rib cage."""

    cage: Column
    pitch_mm: float = 25.0
    slope: float = 0.35  # ribs descend to the front by this much per mm

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        return self.cage.bounds()

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        phase = (z - self.slope * y) * np.float32(2 * np.pi / self.pitch_mm)
        return np.where(np.cos(phase) > 0.35, self.cage.field(x, y, z), np.float32(2))


@dataclass(frozen=True)
class Pose:
    """How the canonical patient lies in the world: place, size, turned and leaning head, ripple.

    Only axes x and y are bent, by amounts that depend on z, so that an image slab along z needs
    one evaluation of its coordinates for all organs.
    """

    offset_mm: Point
    scale: Point
    turn_rad: float = 0.0
    lean_mm: float = 0.0
    nod_mm: float = 0.0
    ripple_mm: float = 0.0
    phase_rad: float = 0.0

    def shifted(self, shift_mm: Point) -> Pose:
        """Return the pose moved by `shift_mm` (x, y, z) in the world."""
        offset = tuple(a + b for a, b in zip(self.offset_mm, shift_mm, strict=True))
        return Pose(offset, *list(vars(self).values())[1:])  # type: ignore[arg-type]

    def _bend(self, z: Array) -> tuple[Array, Array, Array]:
        ramp = np.clip((z + 150) / 100, 0, 1)
        t = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
        return np.cos(self.turn_rad * t), np.sin(self.turn_rad * t), t

    def to_canonical(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Map world axes (1-D, mm) to canonical coordinates.

        Returns
        -------
        x, y of shape (z, y, x) and z of shape (z, 1, 1), canonical mm.
        """
        axes = [
            ((axis - o) / s).astype(np.float32)
            for axis, o, s in zip((x, y, z), self.offset_mm, self.scale, strict=True)
        ]
        ux, uy = axes[0][None, None, :], axes[1][None, :, None] + np.float32(15)
        uz = axes[2][:, None, None].astype(np.float32)
        cos, sin, t = self._bend(uz)
        wave = np.float32(2 * np.pi / RIPPLE_PERIOD_MM)
        ripple_x = self.ripple_mm * np.sin(wave * (uy + 0.8 * uz) + self.phase_rad)
        ripple_y = self.ripple_mm * np.sin(wave * (ux - 0.7 * uz) - self.phase_rad)
        out_x = cos * ux + (sin * uy - self.lean_mm * t + ripple_x)
        out_y = (-sin * ux + ripple_y) + (cos * uy - 15 - self.nod_mm * t)
        return out_x.astype(np.float32), out_y.astype(np.float32), uz

    def world_box(self, bounds: Bounds, z: Array) -> tuple[float, float, float, float]:
        """Return (x_min, x_max, y_min, y_max) in the world of a canonical box at slices `z`.

        `z` holds canonical heights (shape (n,)); the ripple is covered by a margin.
        """
        (x0, y0, _), (x1, y1, _) = bounds
        margin = 2 * self.ripple_mm + 1
        cos, sin, t = self._bend(np.asarray(z, np.float32)[:, None])
        x = np.array([x0, x0, x1, x1], np.float32) + self.lean_mm * t
        y = np.array([y0, y1, y0, y1], np.float32) + self.nod_mm * t + 15
        ux, uy = cos * x - sin * y, sin * x + cos * y - 15
        box = (ux.min() - margin, ux.max() + margin, uy.min() - margin, uy.max() + margin)
        (ox, oy, _), (sx, sy, _) = self.offset_mm, self.scale
        return box[0] * sx + ox, box[1] * sx + ox, box[2] * sy + oy, box[3] * sy + oy


def draw_pose(
    rng: np.random.Generator,
    size_sd: float,
    stretch_sd: float,
    turn_degrees_sd: float,
    bend_mm_sd: float,
    max_ripple_mm: float,
) -> Pose:
    """Draw how a patient lies and how large it is.

    Parameters
    ----------
    size_sd, stretch_sd : relative standard deviations of the size, and of that along each axis.
    turn_degrees_sd : of the head's turn about z.
    bend_mm_sd : of its lean and of its nod.
    max_ripple_mm : largest amplitude of the ripple, at least 0.3.
    """
    return Pose(
        offset_mm=tuple(rng.normal([0, 0, rng.uniform(-900, 200)], [6, 8, 0])),
        scale=tuple(rng.normal(1, size_sd) * np.exp(stretch_sd * rng.normal(size=3))),
        turn_rad=float(np.radians(rng.normal(0, turn_degrees_sd))),
        lean_mm=float(rng.normal(0, bend_mm_sd)),
        nod_mm=float(rng.normal(0, bend_mm_sd)),
        ripple_mm=float(rng.uniform(0.3, max_ripple_mm)),
        phase_rad=float(rng.uniform(0, 2 * np.pi)),
    )
