"""The interface of a patient without tumours, which tumours and scanners use.

`synthetic.body.SyntheticBody` consists of analytic organs; `real.body.RealBody` is built on a CT.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from training.phantom.painting import Paintable
from training.phantom.pose import Pose
from training.phantom.shapes import Array, Point
from training.phantom.slab import Slab


class Body(Paintable, Protocol):
    """A patient without tumours."""

    @property
    def pose(self) -> Pose:
        """The pose, which maps canonical coordinates to the world."""
        ...

    @property
    def ct_hu(self) -> Array:
        """CT value by tissue, in HU."""
        ...

    @property
    def pet_suv(self) -> Array:
        """Uptake by tissue, in SUV."""
        ...

    @property
    def metal_mm(self) -> tuple[Point, ...]:
        """Canonical centres of metal that causes streaks."""
        ...

    @property
    def grain(self) -> float:
        """Share of the scanner's CT noise to add; below 1 if `hu` already contains noise."""
        ...

    @property
    def z_range_mm(self) -> tuple[float, float]:
        """Lowest and highest canonical z of the body."""
        ...

    def hu(self, slab: Slab) -> Array:
        """Return the CT of a painted slab before blur and noise, in HU, shape (z, y, x)."""
        ...

    def has_room(self, place: str, side: float) -> bool:
        """Return whether a site or level has room for a lesion on a side (1 left, -1 right)."""
        ...

    def draw_seat(
        self, rng: np.random.Generator, *, place: str, side: float, volume_ml: float
    ) -> Point:
        """Draw the canonical centre of a lesion at a place that has room."""
        ...
