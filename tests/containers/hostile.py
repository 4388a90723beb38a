"""Outputs that a hostile algorithm could write. Each must fail its own case and change no other.

Each kind replaces a valid output file. Some kinds refer to a secret: a file outside the job's
folder with the correct answer, such as a mask of the ground truth.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import SimpleITK as sitk

from tests.containers.contract import Holds

Spoil: TypeAlias = Callable[[Path, Path], None]
"""Replaces the first path, a valid output file; the second path is the secret."""


@dataclass(frozen=True)
class Hostile:
    """A kind of hostile output.

    Attributes
    ----------
    spoil : replaces a valid output file.
    words : words that must appear in the reason why the case failed.
    """

    spoil: Spoil
    words: str


def write_metaimage(
    path: Path, image: sitk.Image, voxels: bytes | None = None, **changes: str | None
) -> None:
    """Write a label map as a MetaImage with changes of its header.

    Parameters
    ----------
    voxels : all bytes after the header; by default the voxels of the image.
    changes : values of the header by key; None omits the key. The value of `before_the_end` is
        inserted as whole lines before the last line of the header.
    """
    axes = np.reshape(image.GetDirection(), (3, 3)).T.ravel()
    keys: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": " ".join(map(repr, axes.tolist())),
        "Offset": " ".join(map(repr, image.GetOrigin())),
        "ElementSpacing": " ".join(map(repr, image.GetSpacing())),
        "DimSize": " ".join(map(str, image.GetSize())),
        "ElementType": "MET_UCHAR",
        "before_the_end": None,
        "ElementDataFile": "LOCAL",
    }
    keys |= changes
    lines = [
        value if key == "before_the_end" else f"{key} = {value}"
        for key, value in keys.items()
        if value is not None
    ]
    content = sitk.GetArrayViewFromImage(image).tobytes() if voxels is None else voxels
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() + content)


def rewrite(change_stream: Callable[[bytes], bytes] = bytes, **changes: str | None) -> Spoil:
    """Return a function that rewrites a mask with a changed header and changed bytes after it.

    Parameters
    ----------
    change_stream : changes the bytes after the header, which are compressed if `changes` says so.
    """

    def spoil(path: Path, secret: Path) -> None:
        image = sitk.ReadImage(str(path))
        voxels = sitk.GetArrayViewFromImage(image).tobytes()
        stream = zlib.compress(voxels) if changes.get("CompressedData") == "True" else voxels
        write_metaimage(path, image, change_stream(stream), **changes)

    return spoil


def refer(key: str, **changes: str | None) -> Spoil:
    """Return a function that rewrites a mask so that it refers to the voxels of the secret.

    Parameters
    ----------
    key : the key of the file name, with its separator.
    """

    def spoil(path: Path, secret: Path) -> None:
        line = f"{key} {os.path.relpath(secret, path.parent)}"
        before = changes.get("before_the_end")
        lines = line if before is None else f"{before}\n{line}"
        # The size of the secret's header is unknown: -1 takes the voxels from the file's end.
        write_metaimage(
            path,
            sitk.ReadImage(str(path)),
            b"",
            **{"HeaderSize": "-1", **changes, "before_the_end": lines, "ElementDataFile": None},
        )

    return spoil


def link(path: Path, secret: Path) -> None:
    """Replace a file by a link to the secret."""
    path.unlink()
    path.symlink_to(os.path.relpath(secret, path.parent))


def link_folder(path: Path, secret: Path) -> None:
    """Replace the folder of a file by a link to a folder that holds only the secret."""
    shutil.rmtree(path.parent)
    path.parent.symlink_to(os.path.relpath(secret.parent, path.parent.parent))


def link_in_steps(path: Path, secret: Path) -> None:
    """Replace a file by a link that leads to the secret only through a second link."""
    (path.parent / "step").symlink_to(os.path.relpath(secret.parent, path.parent))
    path.unlink()
    path.symlink_to(f"step/{secret.name}")


def link_to_device(path: Path, secret: Path) -> None:
    """Replace a file by a link to a device from which reading never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path, secret: Path) -> None:
    """Replace a file by a link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def make_pipe(path: Path, secret: Path) -> None:
    """Replace a file by a pipe, which blocks its reader."""
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path, secret: Path) -> None:
    """Replace a file by a folder of the same name."""
    path.unlink()
    path.mkdir()


def rename_badly(path: Path, secret: Path) -> None:
    """Damage a mask, and give it a name with control codes and a byte that is not UTF-8."""
    rewrite(NDims="-3")(path, secret)
    os.rename(path, os.fsencode(path.parent) + b"/\xff\n\x1b[2J.mha")


def write(content: bytes) -> Spoil:
    """Return a function that replaces the content of a file."""

    def spoil(path: Path, secret: Path) -> None:
        path.write_bytes(content)

    return spoil


def _flip(stream: bytes) -> bytes:
    middle = len(stream) // 2
    return stream[:middle] + bytes([stream[middle] ^ 0x55]) + stream[middle + 1 :]


OUTSIDE: Final = "symbolic link that leads out"
OTHER_FILE: Final = "refers to voxels in another file"
MASKS: Final[Mapping[str, Hostile]] = {
    "reference after a key in lower case": Hostile(
        refer("ElementDataFile =", before_the_end="elementdatafile = LOCAL"), OTHER_FILE
    ),
    "reference after a colon": Hostile(refer("ElementDataFile :"), OTHER_FILE),
    "reference": Hostile(refer("ElementDataFile ="), OTHER_FILE),
    "link": Hostile(link, OUTSIDE),
    "linked folder": Hostile(link_folder, OUTSIDE),
    "link in steps": Hostile(link_in_steps, OUTSIDE),
    "device": Hostile(link_to_device, OUTSIDE),
    "circle of links": Hostile(link_to_itself, "cannot be opened"),
    "pipe": Hostile(make_pipe, "is a pipe or a device"),
    "folder": Hostile(make_folder, "is a folder"),
    "changed byte": Hostile(rewrite(_flip, CompressedData="True"), "is damaged"),
    "shortened stream": Hostile(
        rewrite(lambda s: s[: len(s) * 3 // 10], CompressedData="True"), "is truncated"
    ),
    "shortened content": Hostile(
        rewrite(lambda s: zlib.compress(zlib.decompress(s)[:-1]), CompressedData="True"),
        "is truncated",
    ),
    "shortened voxels": Hostile(rewrite(lambda s: s[:-1]), "is truncated"),
    "raw voxels that claim compression": Hostile(
        rewrite(zlib.decompress, CompressedData="True"), "is damaged"
    ),
    "-3 dimensions": Hostile(rewrite(NDims="-3"), "has -3 dimensions"),
    "100 dimensions": Hostile(rewrite(NDims="100"), "has 100 dimensions"),
    "huge size": Hostile(rewrite(DimSize="4294967296 4294967296 4294967296"), "4294967296"),
    "name that is not UTF-8": Hostile(rename_badly, r"\udcff\n\x1b[2J.mha has -3 dimensions"),
}
VALUES: Final[Mapping[str, Hostile]] = {
    "link": Hostile(link, OUTSIDE),
    "link in steps": Hostile(link_in_steps, OUTSIDE),
    "device": Hostile(link_to_device, OUTSIDE),
    "circle of links": Hostile(link_to_itself, "cannot be opened"),
    "pipe": Hostile(make_pipe, "is a pipe or a device"),
    "folder": Hostile(make_folder, "is a folder"),
    "nested lists": Hostile(write(b"[" * 60_000), "is not valid JSON"),
    "nested lists that end": Hostile(write(b"[" * 900 + b"]" * 900), "found [[["),
    "large file": Hostile(write(b" " * 10**7 + b"1"), "has more than 65536 bytes"),
    "large number": Hostile(write(b"1e999"), "found 1e999"),
    "long number": Hostile(write(b"1" * 5000), "is not valid JSON"),
    "not a number": Hostile(write(b"NaN"), "found NaN"),
    "two values": Hostile(write(b"true 1"), "is not valid JSON"),
    "repeated key": Hostile(write(b'{"a": 1, "a": true}'), "found {"),
    "not UTF-8": Hostile(write(b'"\xff\x1b[2J"'), "is not valid JSON"),
    "empty file": Hostile(write(b""), "is not valid JSON"),
}
HOSTILE: Final[Mapping[Holds, Mapping[str, Hostile]]] = {
    "mask": MASKS,
    "number": VALUES,
    "boolean": VALUES,
}
"""Hostile outputs by the expected content of the file, then by name."""
