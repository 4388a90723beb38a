"""One lesion: an ellipsoid with a wavy surface that grows only into soft tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.phantom.biology import Core
from training.phantom.shapes import Array, Bounds, Point
from training.phantom.slab import BARS_NODE, BARS_PRIMARY
from training.phantom.tissue import T, Tissue
from training.phantom.waves import Waves

_CLOSED = (T.AIR, T.SKIN, T.COUCH_SHELL, T.COUCH_FOAM, T.BONE, T.SPONGY, T.SKULL, T.TOOTH, T.METAL,
           T.CORD, T.CSF, T.CARTILAGE, T.LUNG, T.CELLS, T.BLOOD)  # fmt: skip
CLOSED_TO_PRIMARY = (*_CLOSED, T.VESSEL)
CLOSED_TO_NODE = (*_CLOSED, T.LUMEN, T.MUCOSA, T.TONSIL, T.LARYNX, T.GTVP, T.GTVP_CORE)
"""Tissues that a lesion never enters. Nodes may displace vessels."""
LUMEN_FIELD = 0.75
"""A primary fills the airway only where its field, relative to the ellipsoid, is below this value.
"""


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One primary or node in canonical coordinates; a `shapes.Shape`."""

    primary: bool
    place: str  # a key of SITES or LEVELS
    side: float  # 1 left, -1 right
    volume_ml: float  # in the world
    centre_mm: Point
    semi_mm: Point
    tilt: npt.NDArray[np.float32]  # rotation, shape (3, 3)
    surface: Waves
    roughness: float
    suv: float  # uptake of viable tumour before blurring
    texture: Waves
    core: Core = "solid"
    necrosis: float = 0.0  # the core is where the field is below this value; 0 means no core
    level: float = 1.0  # size relative to the ellipsoid

    @property
    def tissue(self) -> Tissue:
        """Viable tumour."""
        return T.GTVP if self.primary else T.GTVN

    @property
    def core_tissue(self) -> Tissue:
        """Necrotic tumour."""
        return T.GTVP_CORE if self.primary else T.GTVN_CORE

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach = max(self.semi_mm) * self.level * (1 + 2 * self.roughness)
        lower, upper = (tuple(c + sign * reach for c in self.centre_mm) for sign in (-1, 1))
        return lower, upper  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        offset = [x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]]
        radius2 = np.float32(0)
        for row, semi in zip(self.tilt, self.semi_mm, strict=True):
            along = row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]
            radius2 = radius2 + np.square(along * np.float32(1 / semi))
        wavy = 1 + np.float32(self.roughness) * np.clip(self.surface.at(x, y, z), -2, 2)
        return np.sqrt(radius2) * wavy / np.float32(self.level)

    def may_fill(
        self, tissue: npt.NDArray[np.uint8], field: Array, barriers: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.bool_]:
        """Return where the lesion may grow.

        Parameters
        ----------
        tissue : healthy tissue, shape (z, y, x).
        field : this lesion's field, of the same shape.
        barriers : as `slab.Slab.barriers`, of the same shape.
        """
        is_closed = np.zeros(len(Tissue), dtype=bool)
        is_closed[list(CLOSED_TO_PRIMARY if self.primary else CLOSED_TO_NODE)] = True
        barrier = BARS_PRIMARY if self.primary else BARS_NODE
        allowed = ~is_closed[tissue] & (barriers & barrier == 0)
        if self.primary:
            allowed &= (tissue != T.LUMEN) | (field * self.level < LUMEN_FIELD)
        return allowed

    def uptake(self, x: Array, y: Array, z: Array) -> Array:
        """Return the SUV inside the lesion: uneven, lower at the rim and in a necrotic core."""
        field = self.field(x, y, z)
        suv = self.suv * (0.85 + 0.22 * self.texture.at(x, y, z)) * (1.1 - 0.35 * field**2)
        core = np.clip((self.necrosis - field) / 0.15, 0, 1)
        return np.maximum(suv * (1 - 0.88 * core), 0.6).astype(np.float32)
