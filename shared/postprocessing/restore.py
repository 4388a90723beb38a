"""Maps a label map from the region back to the CT's own grid, on which the platform scores it."""

from __future__ import annotations

import SimpleITK as sitk

from shared.conventions import Label, LabelVolume
from shared.directions import straighten_grid
from shared.geometry import resample
from shared.preprocessing.pipeline import Undo


def restore(labels: LabelVolume, undo: Undo) -> sitk.Image:
    """Resample a label map from the region to the CT's grid.

    Parameters
    ----------
    labels : label map on `undo.region`, [z, y, x].
    undo : the record of the prepared volumes.

    Returns
    -------
    A uint8 image with the CT's size, spacing, origin and direction. Each CT voxel takes the label
    of the nearest region voxel; outside the region it is background.
    """
    mask = undo.ct.filled(Label.BACKGROUND, sitk.sitkUInt8)
    straight = straighten_grid(undo.ct)  # as when the case was prepared
    box = straight.box_around(undo.region)
    if box.is_empty:
        return mask
    part = resample(
        undo.region.image(labels),
        straight.cropped(box),
        interpolation="nearest",
        outside=Label.BACKGROUND,
    )
    restored: sitk.Image = sitk.Paste(mask, part, box.size_xyz, destinationIndex=box.start_xyz)
    return restored
