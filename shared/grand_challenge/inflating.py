"""Inflates a compressed stream in pieces, and checks its length, its end and its checksum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final, cast

from isal import isal_zlib

from shared.regular_files import FileError

READ_BYTES: Final = 2**18
_ZLIB_OR_GZIP: Final = 47
"""Value of `wbits` that accepts zlib and gzip; the checksum, Adler-32 or CRC-32, is verified."""
InflateError: Final = cast(type[Exception], isal_zlib.error)  # the stub says it is not a class
"""What a stream raises on damaged content."""


def new_stream() -> isal_zlib.Decompress:
    """Return a stream that inflates zlib and gzip."""
    return isal_zlib.decompressobj(_ZLIB_OR_GZIP)


def inflate(file: BinaryIO, piece_bytes: int, total_bytes: int) -> Iterator[memoryview]:
    """Yield the content of a zlib or gzip stream that extends to the end of the file.

    Each piece is valid until the next one is taken.

    Parameters
    ----------
    file : open at the first byte of the stream.
    piece_bytes : length of each piece, positive; the last one may be shorter.
    total_bytes : exact length of the content.

    Raises
    ------
    FileError
        If the content is shorter or longer, the stream is cut short or damaged, its checksum is
        wrong, or bytes follow it.
    """
    stream = new_stream()
    remaining = total_bytes
    buffer = memoryview(bytearray(min(piece_bytes, total_bytes)))
    while remaining:
        piece = buffer[:remaining]
        _fill(piece, file, stream)
        remaining -= len(piece)
        if not remaining:
            _require_end(file, stream)
        yield piece


def _fill(view: memoryview, file: BinaryIO, stream: isal_zlib.Decompress) -> None:
    while view:
        content = _step(file, stream, len(view))
        if content is None:
            raise FileError("is truncated: its compressed voxels end too early")
        view[: len(content)] = content
        view = view[len(content) :]


def _require_end(file: BinaryIO, stream: isal_zlib.Decompress) -> None:
    """Raise FileError unless the stream ends here. At the end, the checksum is verified."""
    while not stream.eof:
        content = _step(file, stream, 1)
        if content is None:
            raise FileError("is truncated: its compressed voxels have no end")
        if content:
            raise FileError("is damaged: its compressed voxels are more than its size states")
    if stream.unused_data or file.read(1):
        raise FileError("is damaged: bytes follow its compressed voxels")


def _step(file: BinaryIO, stream: isal_zlib.Decompress, most_bytes: int) -> bytes | None:
    """Return the next bytes, possibly none yet, or None at the end of the stream or the file."""
    if stream.eof:
        return None
    source = stream.unconsumed_tail or file.read(READ_BYTES)
    try:
        content = stream.decompress(source, most_bytes)
    except InflateError as error:
        raise FileError(f"is damaged: its compressed voxels cannot be read ({error})") from None
    # Without more input, the stream may still hold output of earlier input.
    return content if content or source or stream.eof else None
