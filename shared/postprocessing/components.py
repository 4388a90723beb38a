"""Connected components of a label map, by their size in mm³."""

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
    """Return a label map without the components that are too small.

    Parameters
    ----------
    labels : label map, [z, y, x].
    voxel_volume_mm3 : volume of one voxel.
    min_component_mm3 : for each label, the volume below which a component goes; labels not named
        keep all of theirs. The paper removes what is under 100 voxels of 1 mm³.

    Returns
    -------
    A copy; voxels are neighbours if they share a face, an edge or a corner (26-connectivity).
    """
    kept = labels.copy()
    inside = bounding_slices(labels != Label.BACKGROUND)
    if inside is None:
        return kept
    part = kept[inside]
    for label, minimum_mm3 in min_component_mm3.items():
        # With a rim of background: cc3d 4.1.1 fails on some masks that are one voxel wide.
        mask = np.pad(part == label, 1)
        # cc3d keeps components of `threshold` voxels and more.
        threshold = math.ceil(minimum_mm3 / voxel_volume_mm3)
        small = mask & ~cc3d.dust(mask, threshold, connectivity=26)
        part[small[1:-1, 1:-1, 1:-1]] = Label.BACKGROUND
    return kept
