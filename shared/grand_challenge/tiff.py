"""Checks a TIFF before libtiff reads it: its pages, the places of their voxels, and the streams.

A TIFF is a chain of directories of tags, one directory per page; each page is a slice (TIFF 6.0,
Adobe 1992). Only what SimpleITK writes is accepted: grey pages of one size in strips, without
compression, or with Deflate or PackBits.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from shared.conventions import IntTriple
from shared.grand_challenge.image_bounds import MOST_VOXELS, require_size
from shared.grand_challenge.inflating import inflate
from shared.regular_files import FileError, open_regular

MOST_PAGES: Final = 10_000
MOST_TAGS: Final = 100
_LENGTHS: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Number of bytes of a value, by the type of its tag."""
_WHOLE: Final = {1: "B", 3: "H", 4: "I"}
"""The types that hold whole numbers."""

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _BYTE_COUNTS, _FORMAT, _TILE_WIDTH = 273, 277, 278, 279, 339, 322
_UNCOMPRESSED, _PACKBITS, _DEFLATE = (1,), (32773,), (8, 32946)
_VOXEL_TYPES: Final = {(8, 1), (8, 2), (16, 1), (16, 2), (32, 1), (32, 2), (32, 3), (64, 3)}
"""Bits and SampleFormat: 1 unsigned, 2 signed, 3 floating point."""


@dataclass(frozen=True)
class _Page:
    """The tags of a page that hold whole numbers."""

    tags: dict[int, tuple[int, ...]]

    def value(self, tag: int, missing: int | None = None) -> int:
        values = self.tags.get(tag, () if missing is None else (missing,))
        if len(values) != 1:
            raise FileError(f"is damaged: a page needs one value of the tag {tag}")
        return values[0]

    def values(self, tag: int) -> tuple[int, ...]:
        return self.tags.get(tag, ())

    @property
    def look(self) -> tuple[int, ...]:
        """The properties that all pages must share."""
        voxel = (self.value(_BITS, 1), self.value(_FORMAT, 1))
        return (self.value(_WIDTH), self.value(_HEIGHT), *voxel)


def check_tiff(path: Path) -> IntTriple:
    """Return the size (x, y, z) of a TIFF after checking all of it.

    Raises
    ------
    FileError
        If the file is not a 3-D scalar image, is truncated, or has a stream of the wrong length.
    """
    with open_regular(path) as file:
        pages = _read_pages(file)
        first = pages[0]
        width, height, bits, voxel_format = first.look
        if len(pages) == 1 or any(page.value(_SAMPLES, 1) != 1 for page in pages):
            raise FileError(
                f"has {2 if len(pages) == 1 else 3} dimensions and "
                f"{first.value(_SAMPLES, 1)} value(s) per voxel"
            )
        size = (width, height, len(pages))
        require_size(size)
        if (bits, voxel_format) not in _VOXEL_TYPES or any(p.look != first.look for p in pages):
            raise FileError("is not supported: its pages differ or have no usual type of voxel")
        for page in pages:
            _check_page(file, page, width * bits // 8)
    return size


def _read_pages(file: BinaryIO) -> list[_Page]:
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8 or struct.unpack(f"{order}H", head[2:4])[0] != 42:
        raise FileError("is not an image: it has no header of a TIFF")
    (position,) = struct.unpack(f"{order}I", head[4:])
    pages: list[_Page] = []
    visited = set()
    while position:
        if position in visited or len(pages) == MOST_PAGES:
            raise FileError("is damaged: its pages have no end")
        visited.add(position)
        page, position = _read_page(file, position, order)
        pages.append(page)
    if not pages:
        raise FileError("is not an image: it has no page")
    return pages


def _read_page(file: BinaryIO, position: int, order: str) -> tuple[_Page, int]:
    """Return a page and the position of the next page, which is 0 after the last page."""
    (count,) = struct.unpack(f"{order}H", _bytes_at(file, position, 2))
    if count > MOST_TAGS:
        raise FileError(f"is damaged: a page has {count} tags")
    table = _bytes_at(file, position + 2, 12 * count + 4)
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(count):
        tag, kind, length = struct.unpack_from(f"{order}HHI", table, 12 * entry)
        size = _LENGTHS.get(kind, 0) * length
        if not 0 < size <= 4 * MOST_VOXELS:
            raise FileError(f"is damaged: the tag {tag} of a page is impossible")
        content = table[12 * entry + 8 : 12 * entry + 12]
        if size > 4:
            content = _bytes_at(file, struct.unpack(f"{order}I", content)[0], size)
        if tag in tags:
            raise FileError(f"is damaged: a page has the tag {tag} twice")
        if kind in _WHOLE:
            tags[tag] = struct.unpack_from(f"{order}{length}{_WHOLE[kind]}", content)
    (following,) = struct.unpack_from(f"{order}I", table, 12 * count)
    return _Page(tags), following


def _bytes_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    content = file.read(count)
    if len(content) != count:
        raise FileError("is truncated")
    return content


def _check_page(file: BinaryIO, page: _Page, row_bytes: int) -> None:
    if page.value(_SUBFILE, 0) not in (0, 2) or page.value(_PHOTOMETRIC) not in (0, 1):
        raise FileError("is not supported: a page is not a grey slice")
    if page.values(_TILE_WIDTH):
        raise FileError("is not supported: its pages have tiles, not strips")
    height = page.value(_HEIGHT)
    rows = min(page.value(_ROWS, height), height)
    offsets, counts = page.values(_OFFSETS), page.values(_BYTE_COUNTS)
    strips = -(-height // rows) if rows else 0
    if not len(offsets) == len(counts) == strips:
        raise FileError("is damaged: a page has not the strips that its height needs")
    check = _check_of(page.value(_COMPRESSION, 1))
    for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        strip_rows = min(rows, height - index * rows)
        check(_bytes_at(file, offset, count), strip_rows * row_bytes)


def _check_of(compression: int) -> Callable[[bytes, int], None]:
    checks = {
        _UNCOMPRESSED: _check_length,
        _PACKBITS: _check_packbits,
        _DEFLATE: _check_deflate,
    }
    for numbers, check in checks.items():
        if compression in numbers:
            return check
    raise FileError(
        f"is not supported: its compression {compression} is none of uncompressed, Deflate, "
        "PackBits"
    )


def _check_length(strip: bytes, expected: int) -> None:
    if len(strip) != expected:
        raise FileError(f"is damaged: a strip has {len(strip)} bytes instead of {expected}")


def _check_deflate(strip: bytes, expected: int) -> None:
    for _ in inflate(io.BytesIO(strip), expected, expected):
        pass


def _check_packbits(strip: bytes, expected: int) -> None:
    """Check the runs: n < 128 precedes n + 1 bytes; n > 128 repeats one byte 257 - n times."""
    position = length = 0
    while position < len(strip):
        n = strip[position]
        position += 1
        if n < 128:
            position += n + 1
            length += n + 1
        elif n > 128:
            position += 1
            length += 257 - n
    if position != len(strip) or length != expected:
        raise FileError("is damaged: a strip does not unpack to its rows")
