"""`find_doubts` runs every check on a case."""

from __future__ import annotations

from typing import Final

from shared.conventions import LabelVolume
from shared.doubts.displacement import lower_quartile_suv, measure_displacement
from shared.doubts.doubt import Doubt
from shared.doubts.field_of_view import doubt_field_of_view
from shared.doubts.lesions import doubt_lesions
from shared.geometry import Grid
from shared.preprocessing.pipeline import Prepared

LEAST_DISPLACEMENT_MM: Final = 9.0
"""Phantoms without an injected fault reach 6.5 mm. Breathing and swallowing move real patients by a
few millimetres."""

LEAST_GAIN: Final = 0.02
"""Phantoms without an injected fault reach a gain in correlation of 0.009. Of 40 crops of real
PET/CTs without a head, 38 stay below this limit or below `LEAST_DISPLACEMENT_MM`."""

QUARTILES_SUV: Final = (0.2, 0.8)
"""Usual lower quartiles of the SUV of a body: 240 phantoms and 40 real PETs have 0.26 to 0.71."""

UNIT_REMARKS: Final = ("is not in SUV", "no uptake anywhere")
"""Parts of the remarks of `shared.preprocessing.pet_units` about a PET that is not in SUV."""


def find_doubts(prepared: Prepared, pet: Grid, labels: LabelVolume | None) -> tuple[Doubt, ...]:
    """Return every doubt about a case; empty if no check raises one.

    Parameters
    ----------
    prepared : the case on the region.
    pet : grid of the PET's file.
    labels : predicted label map on the region, [z, y, x]. If no model outlines lesions, it is None,
        and the checks of lesions are left out.
    """
    doubts = [*doubt_field_of_view(prepared, pet), *_doubt_suv(prepared)]
    displacement = measure_displacement(prepared, pet)
    if (
        displacement is not None
        and displacement.distance_mm >= LEAST_DISPLACEMENT_MM
        and displacement.gain >= LEAST_GAIN
    ):
        x, y, z = displacement.offset_mm
        reason = (
            f"the outline of the PET lies {displacement.distance_mm:.0f} mm from that of the CT "
            f"({x:+.0f} to the left, {y:+.0f} to the back, {z:+.0f} upwards)"
        )
        doubts.append(Doubt(check="displacement", reason=reason))
    if labels is not None:
        doubts += doubt_lesions(prepared, pet, labels)
    return tuple(doubts)


def _doubt_suv(prepared: Prepared) -> list[Doubt]:
    """Return a doubt if the PET was not in SUV, or if the uptake of the body is unusual."""
    for remark in prepared.remarks:
        if any(part in remark for part in UNIT_REMARKS):
            return [Doubt(check="SUV scale", reason=remark.removeprefix("PET: "))]
    quartile = lower_quartile_suv(prepared)
    low, high = QUARTILES_SUV
    if low <= quartile <= high:
        return []
    reason = (
        f"the lower quartile of the uptake of the body in the region is {quartile:.2g}; usual are "
        f"{low:g} to {high:g} SUV"
    )
    return [Doubt(check="SUV scale", reason=reason)]
