"""Collects the organs of a synthetic patient in painting order."""

from __future__ import annotations

import numpy as np

from training.phantom.shapes import Column, Ellipsoid, Knot, Point, Shape
from training.phantom.tissue import Organ, T, Tissue

SOFT = (T.SKIN, T.FAT, T.MUSCLE, T.LOOSE)
"""Tissues that most organs of neck and trunk replace."""


def mirrored_column(knots: tuple[Knot, ...], side: float) -> Column:
    """Return the column on a side (1 left, -1 right), given the knots of the left column."""
    return Column(tuple((z, side * cx, cy, rx, ry) for z, cx, cy, rx, ry in knots))


class Builder:
    """A growing list of organs and the source of their variation between patients."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.organs: list[Organ] = []

    def add(self, tissue: Tissue, shape: Shape, replaces: tuple[Tissue, ...] = ()) -> None:
        """Append an organ without variation."""
        self.organs.append(Organ(shape, tissue, replaces))

    def egg(
        self,
        tissue: Tissue,
        centre_mm: Point,
        semi_mm: Point,
        *,
        replaces: tuple[Tissue, ...] = (),
        vary: float = 0.06,
    ) -> None:
        """Append an ellipsoid with random size and position.

        `vary` is the relative standard deviation of each semi-axis. The standard deviation of the
        position is 12 mm times `vary` along each axis.
        """
        semi = np.array(semi_mm) * np.exp(vary * self.rng.normal(size=3))
        centre = np.array(centre_mm) + 12 * vary * self.rng.normal(size=3)
        shape = Ellipsoid(tuple(centre.tolist()), tuple(semi.tolist()))
        self.organs.append(Organ(shape, tissue, replaces))
