"""Removes small connected components from a label map."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cc3d
import numpy as np

from shared.conventions import Label, LabelVolume
from shared.geometry import bounding_slices


def remove_small(
    labels: LabelVolume, voxel_volume_mm3: float, min_component_mm3: Mapping[Label, float]
) -> LabelVolume:
    """Return a copy of a label map without the components that are too small.

    Parameters
    ----------
    labels : label map, [z, y, x].
    voxel_volume_mm3 : volume of one voxel.
    min_component_mm3 : for each label, the volume below which a component is removed. All
        components of other labels stay. The paper removes lesions under 100 voxels of 1 mm³.

    Notes
    -----
    Voxels are neighbours if they share a face, an edge or a corner (26-connectivity).
    """
    result = labels.copy()
    box = bounding_slices(labels != Label.BACKGROUND)
    if box is None:
        return result
    part = result[box]
    for label, minimum_mm3 in min_component_mm3.items():
        # Padded, because cc3d 4.1.1 fails on some masks that are one voxel wide.
        mask = np.pad(part == label, 1)
        # cc3d keeps components of at least `threshold` voxels.
        threshold = math.ceil(minimum_mm3 / voxel_volume_mm3)
        small = mask & ~cc3d.dust(mask, threshold, connectivity=26)
        part[small[1:-1, 1:-1, 1:-1]] = Label.BACKGROUND
    return result
