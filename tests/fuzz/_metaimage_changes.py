"""Changes of a MetaImage file. Each function returns what it did and what must happen."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from tests.fuzz.core import Expectation

Rng = np.random.Generator
Change = Callable[[Rng, Path], tuple[str, Expectation]]

MARK: Final = b"ElementDataFile = LOCAL\n"
INTEGERS: Final = ("-3", "0", "1", "2", "4", "100", "99999999999", "3.0", "x", "", "0x3", "3 3")
ODD_NUMBERS: Final = ("nan", "inf", "-inf", "1e999", "x", "", "1_0", "0x1p3", "--1")
"""Texts that MetaImage must not accept as a number of the geometry."""
TYPES: Final = ("MET_STRING", "MET_LONG", "MET_NONE", "met_short", "MET_SHORT_ARRAY", "", "short")
REFERENCES: Final = (
    "/dev/zero",
    "LIST",
    "other.raw",
    "%03d.raw 1 8 1",
    "../pet/pet.mha",
    "",
    "x" * 600,
)


def split(path: Path) -> tuple[bytes, bytes]:
    """Return the header and the voxel bytes of a file."""
    head, _, voxels = path.read_bytes().partition(MARK)
    return head + MARK, voxels


def is_compressed(head: bytes) -> bool:
    """Return whether a header says that the voxels are compressed."""
    return b"CompressedData = True" in head


def change_byte_of_stream(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Change one byte of the voxels. In raw voxels, which have no checksum, nothing reveals it."""
    head, voxels = split(path)
    damaged = bytearray(voxels)
    position = int(rng.integers(len(voxels)))
    damaged[position] ^= int(rng.integers(1, 256))
    path.write_bytes(head + damaged)
    if not is_compressed(head):
        return f"byte {position} of raw voxels", "either"
    try:
        is_same = zlib.decompress(damaged) == zlib.decompress(voxels)
    except zlib.error:
        is_same = False
    return f"byte {position} of the stream", "answered" if is_same else "refused"


def cut(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Cut the file at a random place."""
    content = path.read_bytes()
    length = int(rng.integers(len(content)))
    path.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes", "refused"


def cut_stream_with_fitting_header(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Cut the compressed stream; the header states the new length, or no length."""
    head, voxels = split(path)
    part = voxels[: int(rng.integers(len(voxels)))]
    line = rng.choice(["", f"CompressedDataSize = {len(part)}\n"]).encode()
    head = re.sub(rb"CompressedDataSize = \d+\n", line, head)
    path.write_bytes(head + part)
    return f"stream of {len(part)} of {len(voxels)} bytes", "refused"


def add_bytes(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Add bytes after the voxels."""
    count = int(rng.integers(1, 100))
    path.write_bytes(path.read_bytes() + rng.bytes(count))
    return f"{count} more bytes", "refused"


def shorten_voxels(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Store more or fewer voxels than the header states, in a valid stream."""
    head, voxels = split(path)
    content = zlib.decompress(voxels) if is_compressed(head) else voxels
    length = int(rng.integers(2 * len(content)))
    if length == len(content):
        length += 1
    content = (content * 2)[:length]
    head = re.sub(rb"CompressedDataSize = \d+\n", b"", head)
    path.write_bytes(head + (zlib.compress(content) if is_compressed(head) else content))
    return f"{length} bytes of voxels", "refused"


def swap_compression(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Make the header say that raw voxels are compressed, or the reverse."""
    head, voxels = split(path)
    other = not is_compressed(head)
    head = re.sub(rb"CompressedData = \w+", b"CompressedData = %s" % str(other).encode(), head)
    path.write_bytes(head + voxels)
    return f"CompressedData = {other}", "refused"


def set_key(path: Path, key: str, value: str) -> None:
    """Replace the value of a key."""
    head, voxels = split(path)
    line = f"{key} = {value}\n".encode()
    head, count = re.subn(rf"^{key} = .*\n".encode(), lambda _: line, head, flags=re.MULTILINE)
    assert count == 1, key
    path.write_bytes(head + voxels)


def odd_integer(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Set NDims, or one number of DimSize, to something impossible."""
    value = str(rng.choice(INTEGERS))
    key = str(rng.choice(["NDims", "DimSize"]))
    if key == "DimSize":
        sizes = ["12", "10", "8"]
        sizes[int(rng.integers(3))] = value
        value = " ".join(sizes)
        if value.split() in (["12", "10", "8"], ["6", "6", "6"]):
            return "the same size", "either"
    set_key(path, key, value)
    return f"{key} = {value}", "refused"


def odd_number(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Set one number of the geometry to a text that is not a number."""
    key, count = (("Offset", 3), ("ElementSpacing", 3), ("TransformMatrix", 9))[rng.integers(3)]
    values = ["1"] * int(count)
    values[int(rng.integers(count))] = str(rng.choice(ODD_NUMBERS))
    set_key(path, str(key), " ".join(values))
    return f"{key} = {' '.join(values)}", "refused"


def spacing(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Set a spacing of any magnitude, from tiny to huge."""
    value = float(np.copysign(10.0 ** rng.uniform(-40, 40), rng.normal() + 1))
    values = [3.0, 3.0, 3.0]
    values[int(rng.integers(3))] = value
    set_key(path, "ElementSpacing", " ".join(map(str, values)))
    is_possible = 0.01 <= value <= 100
    return f"a spacing of {value:g}", "either" if is_possible else "refused"


def offset(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Set an origin of any magnitude."""
    values = np.copysign(10.0 ** rng.uniform(-5, 40, 3), rng.normal(size=3))
    set_key(path, "Offset", " ".join(map(str, values)))
    return f"an origin at {values}", "refused" if np.abs(values).max() > 1e6 else "either"


def directions(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Change the entries of an orthonormal matrix, which may be a reflection, by at most 1."""
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    disturbance = float(10.0 ** rng.uniform(-9, 0))
    matrix = matrix + rng.uniform(-disturbance, disturbance, (3, 3))
    set_key(path, "TransformMatrix", " ".join(map(repr, matrix.ravel().tolist())))
    left, _, right = np.linalg.svd(matrix)
    deviation = np.abs(matrix - left @ right).max()
    return f"directions off by {deviation:g}", "refused" if deviation > 1e-3 else "either"


def element_type(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Set a type that is not a scalar."""
    value = str(rng.choice(TYPES))
    set_key(path, "ElementType", value)
    return f"ElementType = {value}", "refused"


def other_file(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Refer to voxels in another file, possibly with misleading lines before and after."""
    target = str(rng.choice(REFERENCES))
    separator = str(rng.choice([" = ", " : ", "=", ":"]))
    decoy = str(rng.choice(["", "elementdatafile = LOCAL\n", "ElementDataFil = LOCAL\n"]))
    after = str(rng.choice(["", "ElementDataFile = LOCAL\n"]))
    head, voxels = split(path)
    line = f"{decoy}ElementDataFile{separator}{target}\n{after}".encode()
    path.write_bytes(head.replace(MARK, line) + voxels)
    return f"voxels in {target[:20]}", "refused"


def drop_line(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Leave out a line of the header."""
    head, voxels = split(path)
    lines = head.splitlines(keepends=True)
    line = lines.pop(int(rng.integers(len(lines))))
    path.write_bytes(b"".join(lines) + voxels)
    needed = (b"NDims", b"DimSize", b"Element", b"Offset", b"Transform", b"CompressedData =")
    is_needed = line.startswith(needed) and line != b"CompressedData = False\n"
    return f"without {line.decode().strip()[:40]}", "refused" if is_needed else "either"


def change_byte_of_header(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Change one byte of the header, for example one digit into another."""
    head, voxels = split(path)
    damaged = bytearray(head)
    position = int(rng.integers(len(head)))
    damaged[position] = int(rng.integers(256))
    path.write_bytes(damaged + voxels)
    return f"byte {position} of the header", "either"


def shuffle_header(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Change the order of lines, and repeat one of them."""
    head, voxels = split(path)
    lines = head.splitlines(keepends=True)[:-1]
    lines.append(lines[int(rng.integers(len(lines)))])
    rng.shuffle(lines)
    path.write_bytes(b"".join(lines) + MARK + voxels)
    return "lines in another order", "either"


def replace_all(rng: Rng, path: Path) -> tuple[str, Expectation]:
    """Write random bytes."""
    path.write_bytes(rng.bytes(int(rng.integers(3000))))
    return "random bytes", "refused"


CHANGES: Final[tuple[Change, ...]] = (
    change_byte_of_stream, change_byte_of_stream, cut, cut_stream_with_fitting_header, add_bytes,
    shorten_voxels, swap_compression, odd_integer, odd_number, spacing, offset, directions,
    element_type, other_file, drop_line, change_byte_of_header, change_byte_of_header,
    shuffle_header, replace_all,
)  # fmt: skip
