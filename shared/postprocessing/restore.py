"""Maps a segmented region back to the CT's own grid, on which the platform scores it.

The region is often coarser than the CT. If each CT voxel took the label of the nearest region
voxel, the outlines would have steps. Instead, a field on the region is interpolated linearly, and a
lesion consists of the CT voxels in which the field is highest. In a voxel of the region, the
magnitude of the field is the certainty of the network. Its sign follows the label after the rules,
so a lesion that a rule removed cannot return. A lesion gets as many CT voxels as the nearest labels
would give it. Its volume is therefore kept, and a small lesion does not vanish. A fixed lower bound
on the field, such as 0, would shrink small lesions: spheres of 9 mm would lose a sixth of their
volume at a spacing of 4 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import LESIONS, Label, LabelVolume, Volume
from shared.directions import straighten_grid
from shared.geometry import Box, Grid, resample
from shared.postprocessing.components import Component, find_components
from shared.preprocessing.pipeline import Undo

LEAST_CERTAINTY: Final = np.float32(1e-6)
"""Least magnitude of a field, so that it keeps its sign where two labels are equally probable."""


@dataclass(frozen=True, kw_only=True)
class SegmentedRegion:
    """The labels of a region, and the probabilities that they come from.

    Attributes
    ----------
    labels : label map after the rules, [z, y, x].
    probabilities : probabilities of background, GTVp and GTVn, shape (3, z, y, x). Where a rule has
        changed a label, the new label is not the most probable one.
    """

    labels: LabelVolume
    probabilities: Volume


def restore(segmented: SegmentedRegion, undo: Undo) -> sitk.Image:
    """Map a segmented region to the CT's grid.

    Only the boxes around the lesions are interpolated, so that time and memory depend on the
    lesions.

    Parameters
    ----------
    segmented : labels and probabilities on `undo.region`.
    undo : the record of the prepared volumes.

    Returns
    -------
    A uint8 image with the CT's size, spacing, origin and direction; outside the region it is
    background. A CT voxel gets a label only if one of the eight region voxels around it has that
    label.
    """
    mask = undo.ct.filled(Label.BACKGROUND, sitk.sitkUInt8)
    straight = straighten_grid(undo.ct)  # as when the case was prepared
    box = straight.box_around(undo.region)
    if box.is_empty:
        return mask
    grid = straight.cropped(box)
    labels = np.zeros(grid.shape_zyx, np.uint8)
    for label in LESIONS.values():
        for lesion in find_components(segmented.labels == label):
            around = grid.box_around(undo.region.cropped(_widened(lesion)))
            if not around.is_empty:
                outline = _outline(segmented, lesion, label, undo.region, grid.cropped(around))
                labels[around.slices_zyx()][outline] = label
    z, y, x = box.slices_zyx()
    mask[x, y, z] = grid.image(labels)
    return mask


def _outline(
    segmented: SegmentedRegion, lesion: Component, label: Label, region: Grid, target: Grid
) -> NDArray[np.bool_]:
    """Return the voxels of a lesion on a part of the CT's grid, [z, y, x]."""
    source = region.box_around(target)  # with the neighbours of each voxel of the target
    box, grid = source.slices_zyx(), region.cropped(source)
    labels, probabilities = segmented.labels[box], segmented.probabilities[:, *box]
    height = _interpolate(_certainty_of_lesion(labels, probabilities), grid, target, -np.inf)
    which = _interpolate(_certainty_of_primary(labels, probabilities), grid, target, 0.0)
    around = region.cropped(_widened(lesion))
    mask = np.pad(lesion.mask, 1).astype(np.float32)
    is_candidate: NDArray[np.bool_] = (_interpolate(mask, around, target, 0.0) > 0) & np.isfinite(
        height
    )
    is_candidate &= which >= 0 if label == Label.GTVP else which < 0
    nearest = resample(around.image(mask), target, interpolation="nearest", outside=0.0)
    count = int(np.count_nonzero(sitk.GetArrayViewFromImage(nearest)))
    is_candidate &= height >= _lowest(height[is_candidate], count)
    return is_candidate


def _lowest(heights: Volume, count: int) -> float:
    """Return the bound that `count` heights reach, or as close to that as equal heights allow."""
    if count == 0:
        return np.inf
    if count >= heights.size:
        return -np.inf
    bound = np.partition(heights, -count)[-count]
    higher = heights[heights > bound]
    excess = np.count_nonzero(heights >= bound) - count
    return float(higher.min() if higher.size and count - higher.size < excess else bound)


def _certainty_of_lesion(labels: LabelVolume, probabilities: Volume) -> Volume:
    """Return how certain a voxel is in a lesion; negative in the background."""
    background, primary, node = probabilities
    sign = np.where(labels == Label.BACKGROUND, np.float32(-1), np.float32(1))
    return _signed(sign, np.maximum(primary, node) - background)


def _certainty_of_primary(labels: LabelVolume, probabilities: Volume) -> Volume:
    """Return how certain a voxel is GTVp; negative if it is GTVn, and 0 in the background.

    Because of this 0, the background does not influence to which of two touching lesions a voxel
    between them belongs.
    """
    _, primary, node = probabilities
    sign = (labels == Label.GTVP).astype(np.float32) - (labels == Label.GTVN)
    return _signed(sign, primary - node)


def _signed(sign: Volume, certainty: Volume) -> Volume:
    signed: Volume = sign * np.maximum(np.abs(certainty), LEAST_CERTAINTY)
    return signed


def _interpolate(values: Volume, grid: Grid, target: Grid, outside: float) -> Volume:
    image = resample(grid.image(values), target, interpolation="linear", outside=outside)
    return sitk.GetArrayFromImage(image)


def _widened(lesion: Component) -> Box:
    """Return the box around a lesion with a margin of one voxel, even outside the region."""
    z, y, x = lesion.box
    return Box(
        (x.start - 1, y.start - 1, z.start - 1),
        (x.stop + 1, y.stop + 1, z.stop + 1),
    )
