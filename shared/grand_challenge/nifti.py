"""Checks a NIfTI file (`.nii`, `.nii.gz`) before SimpleITK reads it.

Only single files of NIfTI-1 are accepted (Cox et al. 2004, nifti1.h). For `.nii.gz`, the whole
stream is inflated: the CRC must be correct, the length exact, and no byte may follow.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

from shared.conventions import IntTriple
from shared.grand_challenge.image_bounds import require_size
from shared.grand_challenge.inflating import READ_BYTES, InflateError, inflate, new_stream
from shared.regular_files import FileError, open_regular

HEADER_BYTES: Final = 348
FIRST_VOXEL: Final = HEADER_BYTES + 4
"""Earliest start of the voxels. Four bytes after the header say whether extensions follow."""
LATEST_VOXEL: Final = 2**20
PIECE_BYTES: Final = 2**22
_BITS: Final = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
"""Bits of a voxel by its datatype: the scalar types of nifti1.h."""


def check_nifti(path: Path) -> IntTriple:
    """Return the size (x, y, z) of a NIfTI image after checking all of it.

    Raises
    ------
    FileError
        If the file is not a 3-D scalar image in one file, is truncated or damaged, or does not have
        the length that its header states.
    """
    with open_regular(path) as file:
        is_compressed = path.suffix.lower() == ".gz"
        size, start, voxel_bytes = _parse(_head(file, is_compressed))
        length = start + math.prod(size) * voxel_bytes
        if is_compressed:
            file.seek(0)
            for _ in inflate(file, PIECE_BYTES, length):
                pass
        elif (found := os.fstat(file.fileno()).st_size) != length:
            word = "truncated" if found < length else "damaged"
            raise FileError(f"is {word}: it has {found} bytes, and its header needs {length}")
    return size


def _head(file: BinaryIO, is_compressed: bool) -> bytes:
    """Return up to LATEST_VOXEL bytes from the start of the content."""
    if not is_compressed:
        return file.read(LATEST_VOXEL)
    stream = new_stream()
    content = b""
    try:
        while len(content) < LATEST_VOXEL and (source := file.read(READ_BYTES)):
            content += stream.decompress(source, LATEST_VOXEL - len(content))
    except InflateError as error:
        raise FileError(f"is damaged: it cannot be inflated ({error})") from None
    return content


def _parse(head: bytes) -> tuple[IntTriple, int, int]:
    """Return size, position of the first voxel, and bytes per voxel."""
    if len(head) < FIRST_VOXEL:
        raise FileError("is truncated in its header or not an image")
    orders = [order for order in "<>" if struct.unpack_from(f"{order}i", head)[0] == HEADER_BYTES]
    if not orders or head[344:348] != b"n+1\0":
        raise FileError("is not an image: it has no header of a NIfTI-1 file with its voxels")
    order = orders[0]
    dimensions, x, y, z, *more = struct.unpack_from(f"{order}8h", head, 40)
    extra = more[: max(0, dimensions - 3)]
    if not 3 <= dimensions <= 7 or any(size != 1 for size in extra):
        raise FileError(f"has {dimensions} dimensions, and 3 are needed")
    size = (x, y, z)
    require_size(size)
    datatype, bits = struct.unpack_from(f"{order}2h", head, 70)
    if _BITS.get(datatype) != bits:
        raise FileError(f"is not supported: its datatype is {datatype} with {bits} bits")
    # pixdim; vox_offset, slope, intercept; quaternion, offset and the rows of the affine matrix.
    floats = (
        struct.unpack_from(f"{order}4f", head, 76)
        + struct.unpack_from(f"{order}3f", head, 108)
        + struct.unpack_from(f"{order}18f", head, 256)
    )
    if not all(map(math.isfinite, floats)) or min(floats[1:4]) <= 0:
        raise FileError("is damaged: its geometry is not finite or a spacing is not positive")
    start = floats[4]
    if not FIRST_VOXEL <= start <= LATEST_VOXEL or start != int(start):
        raise FileError(f"is damaged: its header has vox_offset = {start:g}")
    _check_extensions(head, int(start), order)
    return size, int(start), bits // 8


def _check_extensions(head: bytes, start: int, order: str) -> None:
    """Raise FileError unless the extensions of the header fill the bytes up to the voxels."""
    if len(head) < start:
        raise FileError("is truncated in its header")
    position = FIRST_VOXEL
    while head[HEADER_BYTES] and position < start:
        length = 0 if start - position < 16 else struct.unpack_from(f"{order}i", head, position)[0]
        if length < 16 or length % 16 or length > start - position:
            raise FileError("is damaged: an extension of its header has no valid length")
        position += length
