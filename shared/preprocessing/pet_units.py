"""Infers the unit of a PET from its voxels; a PET that is not in SUV is scaled, with a remark.

SUV is the activity concentration divided by the injected dose per body weight. Much of a body is
muscle, fat and lung, whose SUV is similar in all patients. The lower quartile of the SUV in a body
is therefore similar too, wherever the scan begins and ends. The median is not, because in a scan of
the head up to half of the voxels are brain, whose uptake is high. In kBq/mL, the lower quartile is
about 3 times as high as in SUV; in Bq/mL, about 3000 times. Dose and weight are not among the
inputs. A PET in another unit is therefore scaled so that its lower quartile becomes the typical one
in SUV. `tests.benchmarks.pet_units` measures how often the unit is mistaken, and the error of the
scale.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume

TYPICAL_QUARTILE_SUV: Final = 0.43
"""Typical lower quartile of the SUV of the voxels with uptake in the body. It comes from 40 PETs of
TCIA Soft-tissue-Sarcoma, cropped around a tumour, with lower quartiles from 0.24 to 0.70."""

HIGHEST_QUARTILE_SUV: Final = 1.0
"""A PET with a lower quartile above this value is not in SUV."""

LOWEST_QUARTILE_SUV: Final = 0.03
"""A PET with a lower quartile below this is not in SUV, unless it reaches `LOWEST_HOT_SUV`."""

LOWEST_HOT_SUV: Final = 1.0
"""Lower limit of the 99th percentile of the SUV in a body; in the 40 PETs, it is above 1.8."""

LOWEST_UPTAKE: Final = 1e-6
"""A lower quartile below this value means no uptake in any unit; the scale would overflow."""

UNITS: Final = ((200.0, "Bq/mL"), (20.0, "counts"), (HIGHEST_QUARTILE_SUV, "kBq/mL"))
"""For each unit other than SUV, the lower quartile above which it is assumed, and its name for the
remark.

One hour after an injection of 3 to 6 MBq/kg, a PET has a lower quartile of 0.9 to 1.8 kBq/mL."""


def suv_scale(pet_zyx: Volume, body_zyx: NDArray[np.bool_]) -> tuple[float, str | None]:
    """Return the factor that converts a PET to SUV, and a remark for the log.

    Parameters
    ----------
    pet_zyx, body_zyx : PET and mask of the body on the same grid, which may be coarse. Voxels
        without uptake do not count, because the PET may cover only a part of the body.

    Returns
    -------
    1 and None for a PET in SUV; 1 and a remark for a PET without uptake; otherwise the factor and a
    remark that states it.
    """
    uptake = pet_zyx[body_zyx & (pet_zyx > 0)]
    quartile = float(np.quantile(uptake, 0.25)) if uptake.size else 0.0
    if quartile < LOWEST_UPTAKE:
        return 1.0, "PET: no uptake anywhere in the body"
    unit = _unit(uptake, quartile)
    if unit == "SUV":
        return 1.0, None
    scale = TYPICAL_QUARTILE_SUV / quartile
    return scale, (
        f"PET: lower quartile of {quartile:.3g} in the body is not in SUV; read as {unit} and "
        f"multiplied by {scale:.3g}, which makes the quartile {TYPICAL_QUARTILE_SUV:g}"
    )


def _unit(uptake: NDArray[np.float32], quartile: float) -> str:
    for lowest, unit in UNITS:
        if quartile > lowest:
            return unit
    is_hot = float(np.quantile(uptake, 0.99)) >= LOWEST_HOT_SUV
    return "SUV" if quartile >= LOWEST_QUARTILE_SUV or is_hot else "an unknown unit"
