"""Describes the lesions of a case for the log, to explain an unexpected result."""

from __future__ import annotations

import cc3d
import numpy as np

from shared.conventions import LESIONS, LabelVolume
from shared.preprocessing.pipeline import Prepared


def describe_lesions(labels: LabelVolume, prepared: Prepared) -> list[str]:
    """Return a line for each label: components, volume in ml and SUVmax, or "none found".

    Parameters
    ----------
    labels : label map on the region's grid, [z, y, x].
    """
    lines = []
    for name, label in LESIONS.items():
        mask = labels == label
        if not mask.any():
            lines.append(f"{name}: none found")
            continue
        count = int(cc3d.connected_components(mask, connectivity=26).max())
        volume_ml = np.count_nonzero(mask) * prepared.undo.region.voxel_volume_mm3 / 1000
        suv_max = float(prepared.pet_suv[mask].max())
        lines.append(f"{name}: {count} component(s), {volume_ml:.1f} ml, SUVmax {suv_max:.1f}")
    return lines
