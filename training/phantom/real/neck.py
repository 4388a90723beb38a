"""The region around the pharynx of a real CT: its glands, and the seats of lesions.

A seat is a possible centre of a lesion. The GTVp is in PTV70 at the pharynx; nodes are in any of
the target volumes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.geometry import bounding_slices
from training.phantom.places import LEVELS, SIDES, SITES
from training.phantom.real.labels import TARGETS, Structure, UnusableError
from training.phantom.real.landmarks import DENSE_HU, PALATE_MM, LandmarkedCt
from training.phantom.real.masks import GRID_MM, Mask, dilate
from training.phantom.shapes import Array
from training.phantom.slab import BARS_NODE, BARS_PRIMARY
from training.phantom.tissue import T

TissueMap = npt.NDArray[np.uint8]
Seats = dict[tuple[str, float], Array]
"""For each (place, side), rows of canonical x, y, z in mm and the share of soft tissue nearby."""

FAT_HU = -30
MARGIN_MM = 60.0
"""Margin around the pharynx that includes glands, target volumes and node levels."""
TOLERANCE_MM = 2.5
"""How far a lesion may leave its target volume."""
GROWABLE = (T.MUSCLE, T.FAT, T.MUCOSA, T.TONSIL, T.TONGUE, T.LARYNX)
"""Tissues in which the seat of a lesion may be."""
ROOM_MM = 11.0
"""Half the width of the box in which soft tissue is counted; a spherical tumour of 5 ml fits in."""
MIN_SEATS = 20
"""A place with fewer seats is not used. Each seat is a voxel; this number of them are 0.3 ml."""


class Neck:
    """The region around the pharynx; its arrays are crops of the arrays of `LandmarkedCt`."""

    def __init__(self, ct: LandmarkedCt) -> None:
        margin = round(MARGIN_MM / GRID_MM)
        pharynx_box = bounding_slices(ct.pharynx)
        assert pharynx_box is not None  # `LandmarkedCt` rejects a CT without a pharynx
        self.box = tuple(
            slice(max(part.start - margin, 0), part.stop + margin) for part in pharynx_box
        )
        z, y, x = self.box
        self.name = ct.name
        self.hu, self.z = ct.hu[self.box], ct.z[z, None, None]
        self.dy, self.ay = ct.dy[z, y], ct.ay[z, y]
        self.ax = ct.ax[z, :, x]
        self.low_larynx_mm, self.high_larynx_mm = ct.low_larynx_mm, ct.high_larynx_mm
        self.structures = {name: mask[self.box] for name, mask in ct.structures.items()}
        self.ptv70 = ct.structure_mask(Structure.PTV70)[self.box]
        self.ptv = ct.structure_mask(*TARGETS)[self.box]
        self.first_mm = np.array([ct.x[x][0], ct.y[y][0], ct.z[z][0]])
        pharynx = ct.pharynx[self.box]
        distance_mm = GRID_MM * ndimage.distance_transform_edt(~pharynx)
        self.to_pharynx_mm = distance_mm.astype(np.float32)

    def label(self, tissue: TissueMap) -> None:
        """Write glands, mucosa, tonsils, tongue, larynx and cord into a tissue map of the neck.

        Only soft tissue is overwritten.
        """
        z, hu = self.z, self.hu
        soft = (hu > FAT_HU) & (hu < DENSE_HU) & (tissue > 0)
        near, low, high = self.to_pharynx_mm, self.low_larynx_mm, self.high_larynx_mm
        in_front = self.dy < -8
        tongue = soft & (np.abs(self.ax) < 24) & (self.ay < -10) & (self.ay > -60)
        tissue[tongue & (z > high + 8) & (z < PALATE_MM - 4)] = T.TONGUE
        gland = np.hypot((np.abs(self.ax) - 29) / 10, (self.ay + 14) / 15)
        gland = np.hypot(gland, (z - high - 12) / 13)
        tissue[soft & (gland < 1)] = T.SUBMANDIBULAR
        thyroid = soft & (hu > 85) & (near < 16) & (z < low + 5) & (z > low - 40)
        tissue[thyroid & (np.abs(self.ax) > 7)] = T.THYROID
        tissue[soft & (near < 4.5) & in_front] = T.MUCOSA
        glottis = soft & (near < 9) & (z > low) & (z < high) & in_front & (self.ay < 8)
        tissue[(self.structures[Structure.LARYNX] & soft) | glottis] = T.LARYNX
        tonsil = soft & (near < 8) & in_front & (z > high + 22) & (z < PALATE_MM - 8)
        tissue[tonsil & (np.abs(self.ax) > 9) & (self.ay > -16)] = T.TONSIL
        lingual = soft & (near < 7) & (z > high + 4) & (z < high + 38) & (self.ay < -3)
        tissue[lingual & (np.abs(self.ax) < 15)] = T.TONSIL
        for structure in (Structure.RIGHT_PAROTID, Structure.LEFT_PAROTID):
            tissue[self.structures[structure] & (hu > -120) & (hu < DENSE_HU)] = T.PAROTID
        tissue[self.structures[Structure.OESOPHAGUS] & soft] = T.MUCOSA
        tissue[self.structures[Structure.CORD] & (hu < DENSE_HU)] = T.CORD

    def find_seats(self, tissue: TissueMap, barriers: TissueMap) -> Seats:
        """Return the seats of lesions, and clear `barriers` where lesions may grow.

        Parameters
        ----------
        tissue, barriers : maps of the neck, see `slab.Slab`.

        Raises
        ------
        UnusableError
            If there is no seat for a primary, or no seat for a node.
        """
        near, low = self.to_pharynx_mm, self.low_larynx_mm
        primary = dilate(self.ptv70, [round(TOLERANCE_MM / GRID_MM)] * 3)
        primary &= (near < 45) & (self.z > low - 10)
        glands = np.isin(tissue, (T.PAROTID, T.SUBMANDIBULAR, T.THYROID))
        node = dilate(self.ptv, (1, 1, 1)) & (near > 8) & (np.abs(self.ax) > 14)
        node &= ~glands & (tissue != T.VESSEL) & (tissue != T.TONGUE) & (self.dy > -80)
        barriers[primary] &= ~BARS_PRIMARY
        barriers[node] &= ~BARS_NODE
        soft = np.isin(tissue, GROWABLE)
        wall = soft & primary & (near > 1) & (near < 9) & (self.dy < -10)
        lateral = np.isin(tissue, (T.MUSCLE, T.FAT)) & node & self.ptv & (np.abs(self.ax) > 22)
        places = self._sites(wall, soft & primary) | self._levels(lateral)
        # A lesion with soft tissue around its seat grows as one piece.
        span = round(2 * ROOM_MM / GRID_MM) + 1
        node_room, primary_room = (
            ndimage.uniform_filter((region & soft).astype(np.float32), span)
            for region in (node, primary)
        )
        seats: Seats = {}
        for place, mask in places.items():
            room = primary_room if place in SITES else node_room
            for side in SIDES:
                rows = np.argwhere(mask & (self.ax * side > 2))
                if len(rows) >= MIN_SEATS:
                    seat_mm = self.first_mm + GRID_MM * rows[:, ::-1]
                    share = room[tuple(rows.T)][:, None]
                    seats[place, side] = np.hstack([seat_mm, share]).astype(np.float32)
        for group, lesion in ((SITES, "primary in PTV70 at the pharynx"), (LEVELS, "node")):
            if not any(place in group for place, _ in seats):
                raise UnusableError(f"{self.name}: no place for a {lesion}")
        return seats

    def _sites(self, wall: Mask, soft: Mask) -> dict[str, Mask]:
        """Return the seats at each site, given the pharyngeal wall and all soft tissue."""
        z, high, low = self.z, self.high_larynx_mm, self.low_larynx_mm
        lateral, tongue = np.abs(self.ax) > 8, (np.abs(self.ax) < 16) & (self.ay < -5)
        mouth = soft & (self.ay < -26) & (self.ay > -55) & (self.to_pharynx_mm < 40)
        return {
            "nasopharynx": wall & (z > PALATE_MM),
            "tonsil": wall & (z <= PALATE_MM - 6) & (z > high + 18) & lateral & (self.ay > -14),
            "base of tongue": wall & (z <= high + 40) & (z > high + 4) & tongue,
            "oral cavity": mouth & (z <= PALATE_MM - 6) & (z > high + 18),
            "larynx": wall & (z <= high) & (z > low + 6) & (self.ay < 2),
            "hypopharynx": wall & (z <= high + 2) & (z > low + 6) & (self.ay > 4),
        }

    def _levels(self, lateral: Mask) -> dict[str, Mask]:
        """Return the seats at each level, by height relative to the larynx.

        Level V lies behind the sternocleidomastoid muscle.
        """
        z, high, low = self.z, self.high_larynx_mm, self.low_larynx_mm
        jugular = lateral & (self.dy < -5) & (self.dy > -55)
        return {
            "II": jugular & (z > high) & (z < PALATE_MM),
            "III": jugular & (z <= high) & (z > low),
            "IV": jugular & (z <= low) & (z > low - 50),
            "V": lateral & (self.dy >= -2) & (z <= high + 10) & (z > low - 35),
        }
