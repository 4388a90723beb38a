"""PET units: some centres store activity in Bq/mL, not SUV.

SUV is activity divided by injected dose per body weight, so a body's mean SUV is about 1 whatever
the scanner, while its mean activity is thousands of Bq/mL: the two cannot be confused. Dose and
weight are not among the inputs; activity is therefore scaled so that the body's median matches
that of an SUV image.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume

HIGHEST_MEAN_SUV: Final = 50.0
"""Mean in the body above which values cannot be SUV: over a whole body it is 1 by definition, over
a head with its brain 2 to 3; activities a few hours after 300 MBq are 1000 Bq/mL and more."""

TYPICAL_MEDIAN_SUV: Final = 0.6
"""Median SUV in the body, of voxels with uptake: 0.60 in a whole-body PET, 0.63 (0.46 to 0.88 in
four of five) over 40 PETs around a tumour, all of the TCIA Soft-tissue-Sarcoma patients."""


def suv_scale(pet_zyx: Volume, body_zyx: NDArray[np.bool_]) -> tuple[float, str | None]:
    """Return the factor that brings a PET to SUV, and a remark where it is not 1.

    Parameters
    ----------
    pet_zyx, body_zyx : the PET and the body on one grid, as coarse as one likes. Voxels without
        any uptake do not count, as the PET may cover a part of the body only.

    Returns
    -------
    1 and None for an SUV image and for a PET without uptake (then with a remark).
    """
    uptake = pet_zyx[body_zyx & (pet_zyx > 0)]
    if uptake.size == 0:
        return 1.0, "PET: no uptake anywhere in the body"
    mean = float(uptake.mean())
    if mean <= HIGHEST_MEAN_SUV:
        return 1.0, None
    scale = TYPICAL_MEDIAN_SUV / float(np.median(uptake))
    return scale, (
        f"PET: mean of {mean:.0f} in the body is no SUV, taken as Bq/mL and multiplied by "
        f"{scale:.3g} to bring the body's median to SUV {TYPICAL_MEDIAN_SUV:g}"
    )
