"""Writes the volumes of a viewer page: NIfTI files of the region, compressed, as text.

NIfTI's world is RAS: its first two axes point in the opposite direction to those of LPS. The bytes
depend only on the voxels and the grid.
"""

from __future__ import annotations

import base64
import gzip
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume
from shared.geometry import Grid
from shared.preprocessing.pipeline import CT_RANGE_HU

CT_STEP_HU: Final = 2
"""CT is rounded to even HU, well below its noise: the page becomes a fifth smaller."""
SUV_STEP: Final = 0.005
"""Step of the stored SUV; the largest SUV that 16 bits can store is 163."""
PET_STRIDE: Final = 2
"""A voxel of the PET is the mean of 2³ voxels of the region. With 3 mm, it is still finer than the
scanners' voxels of 4 mm, and the page becomes half as large."""
COMPRESSION: Final = 6
_HEADER: Final = struct.Struct("<i36x8h14xhh2x8f3f3xB2f16x80s24xhh6f12f16x4s4x")
"""NIfTI-1 (Cox et al. 2004, nifti1.h), with an empty extension. Fields that the page does not need
are zero."""
_DATATYPES: Final = {np.dtype(np.uint8): 2, np.dtype(np.int16): 4}
_MILLIMETRES: Final = 2
_SCANNER: Final = 1


def ct_steps(ct_hu: Volume) -> NDArray[np.int16]:
    """Return a CT in HU as the page stores it: rounded, within the range of a 12-bit CT."""
    low, high = CT_RANGE_HU
    rounded = np.rint(np.clip(ct_hu, low, high) / CT_STEP_HU) * CT_STEP_HU
    steps: NDArray[np.int16] = rounded.astype(np.int16)
    return steps


def pet_steps(pet_suv: Volume) -> NDArray[np.int16]:
    """Return a PET as the page stores it: means of blocks, in steps of `SUV_STEP`.

    Parameters
    ----------
    pet_suv : shape (z, y, x), each a multiple of `PET_STRIDE`.
    """
    z, y, x = (size // PET_STRIDE for size in pet_suv.shape)
    blocks = pet_suv.reshape(z, PET_STRIDE, y, PET_STRIDE, x, PET_STRIDE).mean(axis=(1, 3, 5))
    rounded = np.clip(np.rint(blocks / SUV_STEP), 0, np.iinfo(np.int16).max)
    steps: NDArray[np.int16] = rounded.astype(np.int16)
    return steps


def pet_grid(region: Grid) -> Grid:
    """Return the grid of the PET on a page, from the grid of the region."""
    x, y, z = region.size_xyz
    size_xyz = x // PET_STRIDE, y // PET_STRIDE, z // PET_STRIDE
    first = np.full((1, 3), (PET_STRIDE - 1) / 2)
    ox, oy, oz = region.world_mm(first)[0].tolist()
    sx, sy, sz = (spacing * PET_STRIDE for spacing in region.spacing_mm)
    return Grid(size_xyz, (sx, sy, sz), (ox, oy, oz))


def nifti_bytes(
    array_zyx: NDArray[Any], grid: Grid, *, window: tuple[float, float], slope: float = 1.0
) -> bytes:
    """Return an array as a NIfTI-1 file.

    Parameters
    ----------
    array_zyx : uint8 or int16, on `grid`.
    grid : its axes must be those of the world (LPS).
    window : values to show as black and as white; without them, NiiVue would choose its own.
    slope : a voxel's value is `slope` times the number stored.
    """
    matrix = np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([grid.index_to_world, grid.origin_mm])
    header = _HEADER.pack(
        348, 3, *grid.size_xyz, 1, 1, 1, 1,
        _DATATYPES[array_zyx.dtype], 8 * array_zyx.dtype.itemsize,
        1.0, *grid.spacing_mm, 0.0, 0.0, 0.0, 0.0,
        352.0, slope, 0.0, _MILLIMETRES, window[1], window[0],
        b"", 0, _SCANNER, *(0.0,) * 6, *matrix.ravel().tolist(), b"n+1\0",
    )  # fmt: skip
    little_endian = array_zyx.astype(array_zyx.dtype.newbyteorder("<"), copy=False)
    return header + np.ascontiguousarray(little_endian).tobytes()


def encode(content: bytes) -> str:
    """Return bytes compressed and as text; equal bytes give equal text."""
    return base64.b64encode(gzip.compress(content, COMPRESSION, mtime=0)).decode("ascii")
