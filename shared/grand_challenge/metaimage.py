"""Reads a MetaImage (`.mha`): the header by the rules of MetaIO, the voxels in pieces.

SimpleITK does not read the files here, because its MetaIO only prints a warning if a file is
damaged or its header is wrong. The rules are those of `MET_Read` in MetaIO's metaUtils.cxx: a key
ends at the first `=` or `:`, its case matters, and the header ends with the first ElementDataFile.
In contrast to MetaIO, no relevant key may be missing or appear twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import DTypeLike

from shared.geometry import Grid
from shared.grand_challenge.image_bounds import require_plausible
from shared.grand_challenge.inflating import inflate
from shared.regular_files import FileError, open_regular

TYPES: Final = {
    "MET_CHAR": np.int8,
    "MET_UCHAR": np.uint8,
    "MET_SHORT": np.int16,
    "MET_USHORT": np.uint16,
    "MET_INT": np.int32,
    "MET_UINT": np.uint32,
    "MET_LONG_LONG": np.int64,
    "MET_ULONG_LONG": np.uint64,
    "MET_FLOAT": np.float32,
    "MET_DOUBLE": np.float64,
}
"""The scalar types. MET_LONG is left out, because its length depends on the machine."""

HEADER_BYTES: Final = 2**16
PIECE_BYTES: Final = 2**22
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FLAGS: Final = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_ORIGIN: Final = ("Offset", "Position", "Origin")
_DIRECTION: Final = ("TransformMatrix", "Rotation", "Orientation")
_MATTERING: Final = {
    "NDims", "DimSize", "ElementSpacing", "ElementType", "ElementNumberOfChannels", "HeaderSize",
    "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData",
    "CompressedDataSize", "FileFormatVersion", "ObjectType", *_ORIGIN, *_DIRECTION,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a MetaImage.

    Attributes
    ----------
    dtype : type of the voxels in the file, with their byte order.
    start : position of the first byte of the voxels.
    """

    grid: Grid
    dtype: np.dtype[np.generic]
    start: int
    is_compressed: bool


def read_header(path: Path) -> Header:
    """Read and check the header of a MetaImage.

    Raises
    ------
    FileError
        If the file is not a 3-D scalar MetaImage that contains its voxels, or if its geometry or
        its length is impossible.
    """
    with open_regular(path) as file:
        content = file.read(HEADER_BYTES)
        length = os.fstat(file.fileno()).st_size
    keys, start = _parse(content)
    channels = keys.integer("ElementNumberOfChannels", 1)
    dimensions = keys.integer("NDims")
    if dimensions != 3 or channels != 1:
        raise FileError(f"has {dimensions} dimensions and {channels} value(s) per voxel")
    keys.require_value("ObjectType", "Image", missing="Image")
    keys.require_value("HeaderSize", "0", missing="0")
    keys.require_value("FileFormatVersion", "0", missing="0")
    if not keys.flag("BinaryData", True):
        raise FileError("has its voxels as text (BinaryData = False)")
    grid = keys.grid()
    require_plausible(grid)
    header = Header(
        grid=grid,
        dtype=keys.dtype(),
        start=start,
        is_compressed=keys.flag("CompressedData", False),
    )
    _require_length(header, length - start, keys.integer("CompressedDataSize", 0))
    return header


def read_voxels(path: Path, header: Header) -> sitk.Image:
    """Read the voxels of a MetaImage whose header has passed the checks.

    In addition to the image, only a few slices are in memory at any time.

    Raises
    ------
    FileError
        If the voxels are truncated or damaged.
    """
    x, y, z = header.grid.size_xyz
    slice_bytes = x * y * header.dtype.itemsize
    slices = max(1, PIECE_BYTES // slice_bytes)
    image = header.grid.filled(0, _pixel_type(header.dtype))
    first = 0
    with open_regular(path) as file:
        file.seek(header.start)
        piece_bytes, total_bytes = slices * slice_bytes, z * slice_bytes
        pieces = inflate if header.is_compressed else _raw
        for piece in pieces(file, piece_bytes, total_bytes):
            values = np.frombuffer(piece, header.dtype).reshape(-1, y, x)
            native = values.astype(header.dtype.newbyteorder("="), copy=False)
            stop = first + len(values)
            image[:, :, first:stop] = sitk.GetImageFromArray(native)
            first = stop
    return image


def _raw(file: BinaryIO, piece_bytes: int, total_bytes: int) -> Iterator[bytes]:
    for first in range(0, total_bytes, piece_bytes):
        expected = min(piece_bytes, total_bytes - first)
        piece = file.read(expected)
        if len(piece) != expected:
            raise FileError("is truncated: it became shorter while it was read")
        yield piece


def _pixel_type(dtype: np.dtype[np.generic]) -> int:
    empty = np.zeros((1, 1, 1), dtype.newbyteorder("="))
    pixel_type: int = sitk.GetImageFromArray(empty).GetPixelID()
    return pixel_type


def _require_length(header: Header, length: int, compressed_size: int) -> None:
    """Raise FileError if the number of bytes after the header is not what the header states."""
    if header.is_compressed:
        if compressed_size not in (0, length):
            word = "truncated" if length < compressed_size else "damaged"
            raise FileError(
                f"is {word}: {length} bytes follow its header, which states "
                f"CompressedDataSize = {compressed_size}"
            )
        return
    expected = int(np.prod(header.grid.size_xyz, dtype=np.int64)) * header.dtype.itemsize
    if length != expected:
        word = "truncated" if length < expected else "damaged"
        raise FileError(
            f"is {word}: {length} bytes follow its header, whose DimSize and ElementType need "
            f"{expected}"
        )


class _Keys(dict[str, str]):
    """The keys of a header and their values."""

    def text(self, key: str) -> str:
        if key not in self:
            raise FileError(f"is damaged: its header has no {key}")
        return self[key]

    def integer(self, key: str, missing: int | None = None) -> int:
        if missing is not None and key not in self:
            return missing
        return self.integers(key, 1)[0]

    def integers(self, key: str, count: int) -> tuple[int, ...]:
        words = self.text(key).split()
        if len(words) != count or not all(re.fullmatch(r"-?\d{1,18}", w, re.ASCII) for w in words):
            raise self.invalid(key)
        return tuple(map(int, words))

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        words = self.text(key).split()
        if len(words) != count or not all(map(_NUMBER.fullmatch, words)):
            raise self.invalid(key)
        return tuple(map(float, words))

    def flag(self, key: str, missing: bool) -> bool:
        value = self.get(key, str(missing)).lower()
        if value not in _FLAGS:
            raise self.invalid(key)
        return _FLAGS[value]

    def require_value(self, key: str, expected: str, missing: str) -> None:
        if self.get(key, missing) != expected:
            raise self.invalid(key)

    def one_of(self, names: tuple[str, ...]) -> str:
        """Return the name that the header uses, out of several names for the same thing."""
        present = [name for name in names if name in self]
        if len(present) > 1:
            raise FileError(f"is damaged: its header has both {present[0]} and {present[1]}")
        return present[0] if present else names[0]

    def grid(self) -> Grid:
        x, y, z = self.integers("DimSize", 3)
        dx, dy, dz = self.numbers("ElementSpacing", 3)
        ox, oy, oz = self.numbers(self.one_of(_ORIGIN), 3)
        # MetaIO stores the axes one after another; they are the columns of the direction matrix.
        axes = np.reshape(self.numbers(self.one_of(_DIRECTION), 9), (3, 3))
        return Grid((x, y, z), (dx, dy, dz), (ox, oy, oz), tuple(axes.T.ravel().tolist()))

    def dtype(self) -> np.dtype[np.generic]:
        name = self.text("ElementType")
        if name not in TYPES:
            raise self.invalid("ElementType")
        element: DTypeLike = TYPES[name]
        orders = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        is_big = self.flag(self.one_of(orders), False)
        return np.dtype(element).newbyteorder(">" if is_big else "<")

    def invalid(self, key: str) -> FileError:
        value = self[key]
        shown = value if len(value) <= 60 else f"{value[:60]}…"
        return FileError(f"is damaged or not supported: its header has {key} = {shown}")


def _parse(content: bytes) -> tuple[_Keys, int]:
    """Return the keys of a header and the position of the first byte after it."""
    keys = _Keys()
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        line = content[start:end].decode("latin-1")
        start = end + 1
        key, separator, value = _split(line)
        if not separator:
            continue
        if key == "ElementDataFile":
            if value not in ("LOCAL", "Local", "local"):
                raise FileError("refers to voxels in another file, not in the file itself")
            return keys, start
        if key in _MATTERING and key in keys:
            raise FileError(f"is damaged: its header has {key} twice")
        keys[key] = value
    raise FileError("is not an image: it has no header of a MetaImage, or is truncated in it")


def _split(line: str) -> tuple[str, str, str]:
    """Return key, separator and value; the separator is empty if the line has none."""
    match = re.search("[=:]", line)
    if match is None:
        return line, "", ""
    return line[: match.start()].strip(), match[0], line[match.end() :].strip()
