"""Doubts about the predicted lesions: metal near a lesion, a lesion at an edge, no lesion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from shared.conventions import LabelVolume
from shared.doubts.doubt import Doubt
from shared.geometry import Box, Grid, bounding_slices
from shared.postprocessing.components import find_components
from shared.preprocessing.pipeline import Prepared

METAL_HU: Final = 2500.0
"""Above bone and, at the region's spacing, above enamel. Metal is at the upper end of the range
of a CT."""

METAL_MARGIN_MM: Final = 10.0
"""Metal this close to the box around a lesion may cast streaks over the lesion."""

LEAST_METAL_MM3: Final = 50.0
"""Less metal near a lesion is noise, or a dental crown that casts no streaks."""

EDGE_MM: Final = 4.0
"""A lesion that comes this close to the end of the region or of a scan may continue beyond it."""


def doubt_lesions(prepared: Prepared, pet: Grid, labels: LabelVolume) -> list[Doubt]:
    """Return the doubts about predicted lesions.

    Parameters
    ----------
    pet : grid of the PET's file.
    labels : label map on the region, [z, y, x].
    """
    slices = bounding_slices(labels > 0)
    if slices is None:
        reason = "none was found, but every patient of the challenge has a primary or a node"
        return [Doubt(check="no lesion", reason=reason)]
    doubts = []
    z, y, x = slices
    lesions = Box((x.start, y.start, z.start), (x.stop, y.stop, z.stop))
    if ends := _nearby_ends(prepared, pet, lesions):
        names = " and the ".join(ends)
        reason = f"a lesion comes within {EDGE_MM:.0f} mm of the end of the {names}"
        doubts.append(Doubt(check="lesion at the edge", reason=reason))
    voxel_mm3 = prepared.undo.region.voxel_volume_mm3
    metal_mm3 = max(
        np.count_nonzero(prepared.ct_hu[box.slices_zyx()] > METAL_HU) * voxel_mm3
        for box in _boxes(prepared.undo.region, labels)
    )
    if metal_mm3 >= LEAST_METAL_MM3:
        reason = (
            f"{metal_mm3 / 1000:.2g} ml with more than {METAL_HU:.0f} HU within "
            f"{METAL_MARGIN_MM:.0f} mm of a lesion; streaks may cover it"
        )
        doubts.append(Doubt(check="metal", reason=reason))
    return doubts


def _nearby_ends(prepared: Prepared, pet: Grid, lesions: Box) -> list[str]:
    region = prepared.undo.region
    low, high = region.cropped(lesions).extent_mm()
    ends = []
    for name, grid in (("region", region), ("CT", prepared.undo.ct), ("PET", pet)):
        grid_low, grid_high = grid.extent_mm()
        if np.any(low - grid_low < EDGE_MM) or np.any(grid_high - high < EDGE_MM):
            ends.append(name)
    return ends


def _boxes(region: Grid, labels: LabelVolume) -> Iterator[Box]:
    """Yield the box around each lesion, widened by `METAL_MARGIN_MM` and clipped to the region."""
    margin = round(METAL_MARGIN_MM / region.spacing_mm[0])
    for lesion in find_components(labels > 0):
        z, y, x = lesion.box
        sides = [
            (max(0, side.start - margin), min(size, side.stop + margin))
            for side, size in zip((x, y, z), region.size_xyz, strict=True)
        ]
        (x0, x1), (y0, y1), (z0, z1) = sides
        yield Box((x0, y0, z0), (x1, y1, z1))
