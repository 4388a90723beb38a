"""The part of the region that a network of fixed input size sees, in training and serving."""

from __future__ import annotations

from collections.abc import Sequence

from shared.conventions import IntTriple, Label, LabelVolume
from shared.geometry import bounding_slices


def window_box(
    shape_zyx: Sequence[int], window_zyx: Sequence[int], centre_zyx: Sequence[int] | None = None
) -> tuple[slice, slice, slice]:
    """Return the slices that cut a window out of a volume indexed [z, y, x].

    Parameters
    ----------
    shape_zyx : the volume's shape.
    window_zyx : the window's shape, which must fit into the volume.
    centre_zyx : voxel on which the window is centred; the window is shifted if it would leave the
        volume. Default: the centre of the volume.

    Raises
    ------
    ValueError
        If the window is larger than the volume.
    """
    if any(w > s for w, s in zip(window_zyx, shape_zyx, strict=True)):
        raise ValueError(
            f"expected a window that fits into the volume of {shape_zyx} voxels (z, y, x), found "
            f"{window_zyx}"
        )
    centre = tuple(size // 2 for size in shape_zyx) if centre_zyx is None else centre_zyx
    starts = (
        min(max(c - w // 2, 0), s - w)
        for c, w, s in zip(centre, window_zyx, shape_zyx, strict=True)
    )
    z, y, x = (slice(start, start + w) for start, w in zip(starts, window_zyx, strict=True))
    return z, y, x


def lesion_centre(labels: LabelVolume) -> IntTriple | None:
    """Return the central voxel (z, y, x) of the box around all lesions, or None without lesions."""
    box = bounding_slices(labels != Label.BACKGROUND)
    if box is None:
        return None
    z, y, x = ((side.start + side.stop) // 2 for side in box)
    return z, y, x
