"""From the region back to the CT's own grid, on which the platform compares."""

from __future__ import annotations

import SimpleITK as sitk

from shared.conventions import Label, LabelVolume
from shared.geometry import resample
from shared.preprocessing.pipeline import Undo


def restore(labels: LabelVolume, undo: Undo) -> sitk.Image:
    """Bring a label map of the region onto the CT's grid.

    Parameters
    ----------
    labels : label map on `undo.region`, [z, y, x].
    undo : the record that came with the prepared volumes.

    Returns
    -------
    A uint8 image of the CT's size, spacing, origin and direction; background outside the region.
    Each CT voxel takes the label of the nearest region voxel.
    """
    mask = undo.ct.filled(Label.BACKGROUND, sitk.sitkUInt8)
    box = undo.ct.box_around(undo.region)
    if box.is_empty:
        return mask
    on_region = undo.region.image(labels)
    inside = resample(on_region, undo.ct.cropped(box), "nearest", Label.BACKGROUND)
    restored: sitk.Image = sitk.Paste(mask, inside, box.size_xyz, destinationIndex=box.start_xyz)
    return restored
