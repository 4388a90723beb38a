"""The pose of a patient, which maps the canonical frame to the world and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.phantom.shapes import Array, Bounds, Point

RIPPLE_PERIOD_MM = 95.0


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Position and size of a patient, the turn and tilt of the head, and a slight ripple.

    Only x and y are bent, by amounts that depend on z. The coordinates of an image slab are
    therefore computed once for all organs.
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
        offset_mm = tuple(a + b for a, b in zip(self.offset_mm, shift_mm, strict=True))
        return replace(self, offset_mm=offset_mm)  # type: ignore[arg-type]

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
        """Return the world box (x_min, x_max, y_min, y_max) of a canonical box at heights `z`.

        `z` holds canonical heights, shape (n,). A margin covers the ripple.
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
    *,
    size_sd: float,
    stretch_sd: float,
    turn_degrees_sd: float,
    bend_mm_sd: float,
    max_ripple_mm: float,
) -> Pose:
    """Draw the position, size and posture of a patient.

    Parameters
    ----------
    size_sd : relative standard deviation of the overall size.
    stretch_sd : relative standard deviation of the additional stretch along each axis.
    turn_degrees_sd : standard deviation of the head's turn about z.
    bend_mm_sd : standard deviation of the head's lean (x) and nod (y).
    max_ripple_mm : largest amplitude of the ripple; the smallest is 0.3 mm.
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
