"""Finds scans that end inside the head or the neck.

The region is placed by the skull base. The distances from the skull base to the upper and the lower
end of the common field of view of CT and PET tell how much of head and neck is in view.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from shared.doubts.doubt import Doubt
from shared.geometry import Grid
from shared.preprocessing.pipeline import Prepared

HEAD_ABOVE_SKULL_BASE_MM: Final = 60.0
"""A scan whose upper end is lower shows only a part of the orbits and of the nasal cavity."""

NECK_BELOW_SKULL_BASE_MM: Final = 160.0
"""A scan whose lower end is less far below the skull base does not show the neck down to the
clavicles, above which the lowest cervical nodes are. All 240 phantoms reach at least 172 mm."""

LEAST_BODY_CM2: Final = 20.0
"""If the slice at the end of a scan shows less body, the scan does not end inside the head or the
neck, whose cross-sections have 80 cm² or more."""

SKULL_BASE: Final = re.compile(r"region: placed by the skull base at z = (-?\d+) mm")
"""The remark of `shared.preprocessing.region`, the only place that keeps the skull base."""


def skull_base_mm(prepared: Prepared) -> float | None:
    """Return the world z of the skull base, or None if no skull is in view."""
    matches = map(SKULL_BASE.fullmatch, prepared.remarks)
    return next((float(match[1]) for match in matches if match), None)


def doubt_field_of_view(prepared: Prepared, pet: Grid) -> list[Doubt]:
    """Return the doubts about the upper and the lower end of the common field of view.

    Parameters
    ----------
    pet : grid of the PET's file.
    """
    grids = (prepared.undo.ct, pet)
    low = max(float(grid.extent_mm()[0][2]) for grid in grids)
    high = min(float(grid.extent_mm()[1][2]) for grid in grids)
    base = skull_base_mm(prepared)
    reasons = []
    spacing_mm = prepared.undo.region.spacing_mm[2]
    if _body_cm2(prepared, high - spacing_mm) >= LEAST_BODY_CM2:
        if base is None:
            reasons.append(
                "no skull is in view, so the scan may end inside the head or the neck, and the "
                "region is placed by the scan's upper end"
            )
        elif high - base < HEAD_ABOVE_SKULL_BASE_MM:
            reasons.append(
                f"the scan ends inside the head, {high - base:.0f} mm above the skull base"
            )
    if (
        base is not None
        and base - low < NECK_BELOW_SKULL_BASE_MM
        and _body_cm2(prepared, low + spacing_mm) >= LEAST_BODY_CM2
    ):
        reasons.append(f"the scan ends inside the neck, {base - low:.0f} mm below the skull base")
    return [Doubt(check="field of view", reason=reason) for reason in reasons]


def _body_cm2(prepared: Prepared, z_mm: float) -> float:
    """Return the body's area in the region's slice nearest to a height; 0 outside the region."""
    region = prepared.undo.region
    index = round((z_mm - region.origin_mm[2]) / region.spacing_mm[2])
    if not 0 <= index < region.size_xyz[2]:
        return 0.0
    pixel_cm2 = region.spacing_mm[0] * region.spacing_mm[1] / 100
    return float(np.count_nonzero(prepared.body[index]) * pixel_cm2)
