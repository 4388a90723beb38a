"""Detects the unit of a PET: some centres store activity in Bq/mL instead of SUV.

SUV is activity divided by injected dose per body weight. The mean SUV in a body is therefore about
1 on every scanner, and the mean activity is thousands of Bq/mL, so the two cannot be confused. Dose
and weight are not among the inputs. Activity is therefore scaled so that its median in the body
equals that of an SUV image.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume

HIGHEST_MEAN_SUV: Final = 50.0
"""Highest mean in the body that can be SUV. The mean SUV is 1 in a whole body by definition, and 2
to 3 in a head with its brain. The activity a few hours after 300 MBq is at least 1000 Bq/mL."""

TYPICAL_MEDIAN_SUV: Final = 0.6
"""Median SUV of the voxels with uptake in the body. Measured on TCIA Soft-tissue-Sarcoma: 0.60 in a
whole-body PET, 0.63 over 40 PETs around a tumour (0.46 to 0.88 in four of five)."""


def suv_scale(pet_zyx: Volume, body_zyx: NDArray[np.bool_]) -> tuple[float, str | None]:
    """Return the factor that converts a PET to SUV, and a remark for the log.

    Parameters
    ----------
    pet_zyx, body_zyx : PET and body on the same grid, which may be coarse. Voxels without uptake do
        not count, because the PET may cover only a part of the body.

    Returns
    -------
    1 and None for a PET in SUV; 1 and a remark for a PET without uptake; otherwise the factor and a
    remark that states it.
    """
    uptake = pet_zyx[body_zyx & (pet_zyx > 0)]
    if uptake.size == 0:
        return 1.0, "PET: no uptake anywhere in the body"
    mean = float(uptake.mean())
    if mean <= HIGHEST_MEAN_SUV:
        return 1.0, None
    scale = TYPICAL_MEDIAN_SUV / float(np.median(uptake))
    return scale, (
        f"PET: mean of {mean:.0f} in the body is not in SUV; read as Bq/mL and multiplied by "
        f"{scale:.3g}, which gives the body a median SUV of {TYPICAL_MEDIAN_SUV:g}"
    )
