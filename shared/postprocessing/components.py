"""Connected components of a label map, which are its lesions: find them, remove small ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume
from shared.geometry import bounding_slices


@dataclass(frozen=True)
class Component:
    """A connected component: the box around it, and a mask of its voxels in this box."""

    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]

    def voxels_of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a volume in the component's voxels, shape (n,)."""
        voxels: NDArray[Any] = volume[self.box][self.mask]
        return voxels

    def relabel(self, labels: LabelVolume, label: Label) -> None:
        """Give the component's voxels a label in a label map, in place."""
        labels[self.box][self.mask] = label


def find_components(mask: NDArray[np.bool_]) -> list[Component]:
    """Return the components of a mask; an empty mask has none.

    Voxels are neighbours if they share a face, an edge or a corner (26-connectivity).
    """
    around = bounding_slices(mask)
    if around is None:
        return []
    # Padded, because cc3d 4.1.1 fails on some masks that are one voxel wide.
    components = cc3d.connected_components(np.pad(mask[around], 1), connectivity=26)
    boxes = cc3d.statistics(components)["bounding_boxes"][1:]
    result = []
    for number, box in enumerate(boxes, start=1):
        z, y, x = (
            slice(outer.start + side.start - 1, outer.start + side.stop - 1)
            for outer, side in zip(around, box, strict=True)
        )
        result.append(Component((z, y, x), components[tuple(box)] == number))
    return result


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
