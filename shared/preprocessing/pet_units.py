"""Tells the unit of a PET from its voxels: SUV stays, other units are scaled and reported.

SUV is activity divided by injected dose per body weight. Half of the body is muscle, fat and lung,
whose SUV is much the same in everybody; so is therefore the median SUV of a body, wherever the scan
begins and ends. In kBq/mL it is about 3 times, in Bq/mL about 3000 times as high. Dose and weight
are not among the inputs, so a PET in another unit is scaled until its median is that of an SUV
image. `tests.benchmarks.pet_units` measures how often the unit is mistaken, and the error of the
scale.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume

TYPICAL_MEDIAN_SUV: Final = 0.6
"""Median SUV of the voxels with uptake in the body. Measured on TCIA Soft-tissue-Sarcoma: 0.60 in a
whole-body PET, 0.63 over 40 PETs around a tumour (0.46 to 0.88 in four of five)."""

HIGHEST_MEDIAN_SUV: Final = 1.2
"""Highest median that can be SUV. The 40 PETs reach from 0.39 to 1.06."""

LOWEST_MEDIAN_SUV: Final = 0.05
"""A lower median is not SUV, unless lesions or organs have the uptake of one."""

LOWEST_HOT_SUV: Final = 1.0
"""Uptake that the hottest hundredth of a body exceeds in SUV; in the 40 PETs it exceeds 1.8."""

LOWEST_MEDIAN: Final = 1e-6
"""A lower median is no uptake in any unit; scaling it would overflow."""

UNITS: Final = ((300.0, "Bq/mL"), (30.0, "counts"), (HIGHEST_MEDIAN_SUV, "kBq/mL"))
"""Units other than SUV, for the remark, and the median above which each is assumed. A PET of 2 to
8 MBq/kg, an hour after injection, has a median of 0.8 to 3 kBq/mL."""


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
    median = float(np.median(uptake)) if uptake.size else 0.0
    if median < LOWEST_MEDIAN:
        return 1.0, "PET: no uptake anywhere in the body"
    unit = _unit(uptake, median)
    if unit == "SUV":
        return 1.0, None
    scale = TYPICAL_MEDIAN_SUV / median
    return scale, (
        f"PET: median of {median:.3g} in the body is not in SUV; read as {unit} and multiplied by "
        f"{scale:.3g}, which gives the body a median SUV of {TYPICAL_MEDIAN_SUV:g}"
    )


def _unit(uptake: NDArray[np.float32], median: float) -> str:
    for lowest, unit in UNITS:
        if median > lowest:
            return unit
    is_hot = float(np.quantile(uptake, 0.99)) >= LOWEST_HOT_SUV
    return "SUV" if median >= LOWEST_MEDIAN_SUV or is_hot else "an unknown unit"
