"""Opening and closing of a mask by a box, axis by axis on NumPy's Booleans.

A box is the sum of three segments, so a maximum over it is one over each axis in turn. SimpleITK's
filters are general, and 30 times as slow on a coarse whole-body scan (1.1 s against 0.03 s).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def opened(mask: NDArray[np.bool_], radius_zyx: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return what of a mask a box fits into: parts thinner than the box are gone.

    Parameters
    ----------
    mask : bool, [z, y, x]; what lies outside the array counts as part of it.
    radius_zyx : voxels on each side of the box's centre; 0 leaves an axis alone.
    """
    return _dilated(~_dilated(~mask, radius_zyx), radius_zyx)


def closed(mask: NDArray[np.bool_], radius_zyx: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Return a mask with the gaps filled that a box does not fit into.

    Parameters
    ----------
    mask : bool, [z, y, x]; what lies outside the array counts as no gap.
    radius_zyx : voxels on each side of the box's centre; 0 leaves an axis alone.
    """
    return ~opened(~mask, radius_zyx)


def _dilated(mask: NDArray[np.bool_], radius_zyx: tuple[int, int, int]) -> NDArray[np.bool_]:
    for axis, radius in enumerate(radius_zyx):
        source = np.moveaxis(mask, axis, 0)
        mask = mask.copy()
        target = np.moveaxis(mask, axis, 0)
        for step in range(1, radius + 1):
            target[step:] |= source[:-step]
            target[:-step] |= source[step:]
    return mask
