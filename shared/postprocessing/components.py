"""Connected components of a label map, by their size in mm³."""

from __future__ import annotations

from collections.abc import Mapping

import cc3d
import numpy as np

from shared.conventions import Label, LabelVolume


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
    for label, minimum_mm3 in min_component_mm3.items():
        components = cc3d.connected_components(labels == label, connectivity=26)
        sizes_mm3 = np.bincount(components.ravel()) * voxel_volume_mm3
        too_small = sizes_mm3 < minimum_mm3
        too_small[0] = False
        kept[too_small[components]] = Label.BACKGROUND
    return kept
