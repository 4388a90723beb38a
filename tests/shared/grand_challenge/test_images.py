"""A damaged, lying or strange image file is refused; a good one is read as SimpleITK reads it."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grand_challenge.images import ImageError, images_in, open_image
from tests.shared.grand_challenge.platform_case import ct_image

PIXEL_TYPES = {
    np.int8: "MET_CHAR",
    np.uint8: "MET_UCHAR",
    np.int16: "MET_SHORT",
    np.uint16: "MET_USHORT",
    np.int32: "MET_INT",
    np.uint32: "MET_UINT",
    np.int64: "MET_LONG_LONG",
    np.uint64: "MET_ULONG_LONG",
    np.float32: "MET_FLOAT",
    np.float64: "MET_DOUBLE",
}


def write(image: sitk.Image, path: Path, compressed: bool = True) -> Path:
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


def mha(folder: Path, compressed: bool = True) -> Path:
    return write(ct_image(), folder / "scan.mha", compressed)


def split(path: Path) -> tuple[bytes, bytes]:
    """Return header and voxels of a MetaImage."""
    mark = b"ElementDataFile = LOCAL\n"
    head, _, voxels = path.read_bytes().partition(mark)
    return head + mark, voxels


def change_header(path: Path, old: str, new: str) -> None:
    head, voxels = split(path)
    assert re.search(old.encode(), head), (old, head)
    path.write_bytes(re.sub(old.encode(), new.encode(), head, count=1) + voxels)


def assert_same(image: sitk.Image, expected: sitk.Image) -> None:
    assert image.GetPixelID() == expected.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
    assert image.GetSpacing() == expected.GetSpacing()
    assert image.GetOrigin() == expected.GetOrigin()
    assert image.GetDirection() == expected.GetDirection()


# Good files


@pytest.mark.parametrize("suffix", [".mha", ".nii", ".nii.gz", ".tif"])
@pytest.mark.parametrize("kind", list(PIXEL_TYPES))
def test_image_is_read_as_simpleitk_reads_it(tmp_path: Path, suffix: str, kind: type) -> None:
    if suffix == ".tif" and np.dtype(kind).itemsize == 8:
        pytest.skip("SimpleITK writes no TIFF of 64 bits")
    for compressed in (False, True):
        path = write(ct_image(kind), tmp_path / f"scan{suffix}", compressed)
        file = open_image(path)
        expected = sitk.ReadImage(str(path))
        assert_same(file.read(), expected)
        assert file.grid.size_xyz == expected.GetSize()
        assert file.grid.direction == expected.GetDirection()


def test_large_image_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.grand_challenge.metaimage.PIECE_BYTES", 500)
    for compressed in (False, True):
        path = mha(tmp_path, compressed)
        assert_same(open_image(path).read(), ct_image())


@pytest.mark.parametrize("key", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_big_endian_voxels(tmp_path: Path, key: str) -> None:
    path = mha(tmp_path, compressed=False)
    change_header(path, "BinaryDataByteOrderMSB = False", f"{key} = True")
    head, voxels = split(path)
    path.write_bytes(head + np.frombuffer(voxels, "<i2").astype(">i2").tobytes())
    assert_same(open_image(path).read(), ct_image())
    assert_same(open_image(path).read(), sitk.ReadImage(str(path)))


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [" = ", "=", ":", " : "])
def test_header_may_use_other_separators(tmp_path: Path, separator: str, ending: str) -> None:
    path = mha(tmp_path)
    head, voxels = split(path)
    changed = head.decode().replace(" = ", separator).replace("\n", ending)
    path.write_bytes(changed.encode() + voxels)
    assert_same(open_image(path).read(), ct_image())
    assert_same(open_image(path).read(), sitk.ReadImage(str(path)))


def test_gzip_stream_and_absent_compressed_size(tmp_path: Path) -> None:
    path = mha(tmp_path)
    change_header(path, r"CompressedDataSize = \d+\n", "")
    assert_same(open_image(path).read(), ct_image())
    head, voxels = split(path)
    path.write_bytes(head + gzip.compress(zlib.decompress(voxels)))
    assert_same(open_image(path).read(), ct_image())


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mha")
    mha(tmp_path).rename(path)
    assert_same(open_image(path).read(), ct_image())
    other = tmp_path / os.fsdecode(b"caf\xe9.nii.gz")
    write(ct_image(), tmp_path / "scan.nii.gz").rename(other)
    with pytest.raises(ImageError, match="not UTF-8; rename it"):
        open_image(other)


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    """On other file systems, macOS writes `._scan.mha` next to `scan.mha` (AppleDouble)."""
    path = mha(tmp_path)
    (tmp_path / "._scan.mha").write_bytes(b"\0\5\26\7")
    assert images_in(tmp_path) == [path]


# Damaged MetaImages


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        open_image(path).read()
    assert str(path.parent) not in str(caught.value)


@settings(max_examples=200)
@given(position=st.integers(0), bits=st.integers(1, 255))
def test_any_changed_byte_of_a_stream_is_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, bits: int
) -> None:
    path = mha(tmp_path_factory.getbasetemp())
    head, voxels = split(path)
    damaged = bytearray(voxels)
    damaged[position % len(voxels)] ^= bits
    if len(damaged) > 2 and zlib_window_only(voxels, damaged):
        return
    path.write_bytes(head + damaged)
    assert_refused(path, "is damaged|is truncated")


def zlib_window_only(voxels: bytes, damaged: bytearray) -> bool:
    """Whether the change affects only the window size that zlib states, and no voxel."""
    try:
        return zlib.decompress(damaged) == zlib.decompress(voxels)
    except zlib.error:
        return False


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("size", ["absent", "fitting", "of the whole"])
def test_truncated_stream(tmp_path: Path, share: float, size: str) -> None:
    path = mha(tmp_path)
    head, voxels = split(path)
    part = voxels[: int(len(voxels) * share)]
    path.write_bytes(head + part)
    if size != "of the whole":
        line = "" if size == "absent" else f"CompressedDataSize = {len(part)}\n"
        change_header(path, r"CompressedDataSize = \d+\n", line)
    assert_refused(path, "scan.mha is truncated")


def test_bytes_after_the_voxels(tmp_path: Path) -> None:
    path = mha(tmp_path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert_refused(path, "is damaged: .* states CompressedDataSize")
    change_header(path, r"CompressedDataSize = \d+\n", "")
    assert_refused(path, "bytes follow its compressed voxels")
    path = mha(tmp_path, compressed=False)
    path.write_bytes(path.read_bytes() + b"\n")
    assert_refused(path, "is damaged: 1921 bytes follow its header, .* need 1920")


@pytest.mark.parametrize(("size", "message"), [("12 10 9", "is truncated"), ("12 10 7", "more")])
def test_stream_of_another_length_than_dimsize(tmp_path: Path, size: str, message: str) -> None:
    path = mha(tmp_path)
    change_header(path, "DimSize = 12 10 8", f"DimSize = {size}")
    assert_refused(path, message)


def test_raw_voxels_that_claim_to_be_compressed(tmp_path: Path) -> None:
    path = mha(tmp_path, compressed=False)
    change_header(path, "CompressedData = False", "CompressedData = True")
    assert_refused(path, "is damaged: its compressed voxels cannot be read")


LYING = {
    "negative dimensions": ("NDims = 3", "NDims = -3", "has -3 dimensions"),
    "100 dimensions": ("NDims = 3", "NDims = 100", "has 100 dimensions"),
    "no dimensions": ("NDims = 3\n", "", "no NDims"),
    "no matrix": ("TransformMatrix = .*\n", "", "no TransformMatrix"),
    "no spacing": ("ElementSpacing = .*\n", "", "no ElementSpacing"),
    "size of text": ("DimSize = 12 10 8", "DimSize = 12 ten 8", "DimSize = 12 ten 8"),
    "two sizes": ("DimSize = 12 10 8", "DimSize = 12 10", "DimSize = 12 10"),
    "no voxel": ("DimSize = 12 10 8", "DimSize = 12 0 8", "a size of 12 x 0 x 8"),
    "2^32 cubed": ("DimSize = 12 10 8", "DimSize = 4294967296 4294967296 4294967296", "a size of"),
    "too many": ("DimSize = 12 10 8", "DimSize = 1000 1000 1000", "a size of 1000 x"),
    "text": ("MET_SHORT", "MET_STRING", "ElementType = MET_STRING"),
    "long": ("MET_SHORT", "MET_LONG", "ElementType = MET_LONG"),
    "nan": ("Offset = -30", "Offset = nan", "Offset = nan"),
    "infinite": ("Offset = -30", "Offset = 1e999", "its origin at inf"),
    "far": ("Offset = -30", "Offset = 1e30", r"its origin at 1e\+30"),
    "coarse": ("ElementSpacing = 2.5", "ElementSpacing = 1e3", "a spacing of 1000 3 4 mm"),
    "absurd": ("ElementSpacing = 2.5", "ElementSpacing = 1e30", r"a spacing of 1e\+30"),
    "fine": ("ElementSpacing = 2.5", "ElementSpacing = 0.001", "a spacing of 0.001"),
    "negative": ("ElementSpacing = 2.5", "ElementSpacing = -2.5", "a spacing of -2.5"),
    "sheared": (
        "TransformMatrix = 0.8",
        "TransformMatrix = 0.81",
        "matrix 0.81 .* sheared or scaled",
    ),
    "singular": ("TransformMatrix = .*", "TransformMatrix = 0 0 0 0 0 0 0 0 0", "sheared"),
    "nan axis": ("TransformMatrix = 0.80*[0-9]* ", "TransformMatrix = nan ", "Matrix = nan"),
    "twice": ("NDims = 3", "NDims = 3\nNDims = 3", "has NDims twice"),
    "aliases": ("Offset", "Position = 0 0 0\nOffset", "both Offset and Position"),
    "text voxels": ("BinaryData = True", "BinaryData = False", "as text"),
    "channels": ("NDims", "ElementNumberOfChannels = 2\nNDims", "2 value.s. per voxel"),
    "header size": ("NDims", "HeaderSize = -1\nNDims", "HeaderSize = -1"),
    "tube": ("ObjectType = Image", "ObjectType = Tube", "ObjectType = Tube"),
    "reference": ("LOCAL", "other.raw", "another file"),
    "device": ("LOCAL", "/dev/zero", "another file"),
    "list": ("LOCAL", "LIST", "another file"),
    "colon": ("ElementDataFile = LOCAL", "ElementDataFile : /truth.raw", "another file"),
    "reference first": (
        "ElementDataFile = LOCAL",
        "ElementDataFile = ../truth.mha\nElementDataFile = LOCAL",
        "another file",
    ),
    "reference after a decoy": (
        "ElementDataFile = LOCAL",
        "elementdatafile = LOCAL\nElementDataFile = ../truth.mha",
        "another file",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), list(LYING.values()), ids=list(LYING))
def test_lying_header(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = mha(tmp_path)
    change_header(path, old, new)
    assert_refused(path, message)


def test_bound_on_the_extent(tmp_path: Path) -> None:
    path = write(sitk.Image((60, 2, 2), sitk.sitkUInt8), tmp_path / "scan.mha")
    change_header(path, "ElementSpacing = 1", "ElementSpacing = 83")
    assert open_image(path).grid.spacing_mm == (83, 1, 1)
    change_header(path, "ElementSpacing = 83", "ElementSpacing = 84")
    assert_refused(path, "60 x 2 x 2 voxels of 84 1 1 mm .*an extent of 5000 mm")


def test_header_without_end(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    path.write_bytes(b"Comment = none\n" * 100_000)
    assert_refused(path, "is not an image")


# What is not a file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("suffix", [".mha", ".tif", ".nii.gz"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "is a pipe or a device"),
        (device, "is a pipe or a device"),
        (Path.mkdir, "is a folder"),
        (loop, "cannot be opened"),
        (lambda path: None, "does not exist"),
    ],
)
def test_anything_but_a_file_is_refused_at_once(
    tmp_path: Path, suffix: str, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / f"scan{suffix}"
    make(path)
    assert_refused(path, message)


# TIFF and NIfTI


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".tif", ".nii", ".nii.gz"])
def test_truncated_tiff_and_nifti(
    tmp_path: Path, suffix: str, compressed: bool, share: float
) -> None:
    path = write(ct_image(), tmp_path / f"scan{suffix}", compressed)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert_refused(path, "is truncated|is not an image")


def test_flat_tiff(tmp_path: Path) -> None:
    path = write(ct_image()[:, :, 3], tmp_path / "scan.tif")
    assert_refused(path, "has 2 dimensions and 1 value")


def test_circle_of_tiff_pages(tmp_path: Path) -> None:
    path = write(ct_image(), tmp_path / "scan.tif", compressed=False)
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[end : end + 4] = content[4:8]
    path.write_bytes(content)
    assert_refused(path, "its pages have no end")


def test_changed_byte_in_a_packed_tiff(tmp_path: Path) -> None:
    """PackBits has no checksum; the lengths of its runs must still fill each strip."""
    path = write(sitk.Image((64, 64, 2), sitk.sitkUInt8), tmp_path / "scan.tif")
    content = bytearray(path.read_bytes())
    content[8] ^= 0x10
    path.write_bytes(content)
    assert_refused(path, "a strip does not unpack to its rows")


@settings(max_examples=100)
@given(position=st.integers(0), bits=st.integers(1, 255))
def test_any_changed_byte_of_a_gzip_stream_is_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, bits: int
) -> None:
    path = write(ct_image(), tmp_path_factory.getbasetemp() / "scan.nii.gz")
    content = bytearray(path.read_bytes())
    start = 10  # after the header of gzip, which holds time and system
    content[start + position % (len(content) - start)] ^= bits
    path.write_bytes(content)
    assert_refused(path, "is damaged|is truncated")


def change_nifti(path: Path, offset: int, content: bytes) -> None:
    whole = bytearray(gzip.decompress(path.read_bytes()))
    whole[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(bytes(whole)))


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (40, b"\4\0", "has a size|has 4 dimensions"),
        (42, b"\xff\xff", "a size of -1"),
        (42, b"\0\1", "is truncated"),
        (70, b"\x80\0", "its datatype is 128"),
        (80, np.float32(np.nan).tobytes(), "geometry is not finite"),
        (108, np.float32(400).tobytes(), "is truncated"),
        (108, np.float32(-1).tobytes(), "vox_offset = -1"),
        (268, np.float32(np.inf).tobytes(), "geometry is not finite"),
        (344, b"ni1\0", "no header of a NIfTI-1"),
        (348, b"\1\0\0\0", "is damaged|is truncated"),
    ],
)
def test_lying_header_of_a_nifti(tmp_path: Path, offset: int, content: bytes, message: str) -> None:
    path = write(ct_image(), tmp_path / "scan.nii.gz")
    change_nifti(path, offset, content)
    if offset == 348:
        change_nifti(path, 108, np.float32(368).tobytes())
    if offset == 40:
        change_nifti(path, 48, b"\2\0")
    assert_refused(path, message)


def test_bytes_after_a_nifti(tmp_path: Path) -> None:
    for suffix in (".nii.gz", ".nii"):
        path = write(ct_image(), tmp_path / f"scan{suffix}")
        path.write_bytes(path.read_bytes() + b"x")
        assert_refused(path, "is damaged")
