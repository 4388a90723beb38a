"""What a model folder may hold. An altered folder is refused in one line that names the cause."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.models.sealed import CARD_NAME, SIGNATURE_NAME, check_sealed, read_card_text

GRAPH = b"\x08\x0a\x3a\x00"
"""The smallest ONNX file: `ir_version` and an empty graph."""
SHA256 = hashlib.sha256(GRAPH).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / CARD_NAME).write_text("{}")
    (folder / "a.onnx").write_bytes(GRAPH)
    (tmp_path / "outside.onnx").write_bytes(GRAPH)
    return folder


def test_folder_with_the_files_of_its_card_is_accepted(folder: Path) -> None:
    check_sealed(folder, {"a.onnx": SHA256})
    (folder / SIGNATURE_NAME).write_text("a signature")
    (folder / "segmentation").mkdir()  # a bundled model, which has its own card
    check_sealed(folder, {"a.onnx": SHA256})


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.onnx", "/etc/passwd", "sub/a.onnx", "..", ".", "", ".hidden.onnx"),
        *("a\\b.onnx", "a\x1b[31m.onnx", "a\n", "ä.onnx", "a" * 101, CARD_NAME, SIGNATURE_NAME),
    ],
)
def test_name_that_is_not_plain_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ModelError, match="expected plain file names of letters") as error:
        check_sealed(folder, {"a.onnx": SHA256, name: SHA256})
    assert str(error.value).isprintable()


def link_out(folder: Path) -> None:
    (folder / "a.onnx").unlink()
    (folder / "a.onnx").symlink_to(folder.parent / "outside.onnx")


def link_inside(folder: Path) -> None:
    (folder / "a.onnx").rename(folder / "b.onnx")
    (folder / "a.onnx").symlink_to("b.onnx")


def dangling_link(folder: Path) -> None:
    (folder / "a.onnx").unlink()
    (folder / "a.onnx").symlink_to("nowhere")


def pipe(folder: Path) -> None:
    (folder / "a.onnx").unlink()
    os.mkfifo(folder / "a.onnx")


def subfolder(folder: Path) -> None:
    (folder / "a.onnx").unlink()
    (folder / "a.onnx").mkdir()


def linked_bundle(folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder / "hpv").symlink_to(folder.parent / "other")


def linked_signature(folder: Path) -> None:
    (folder / SIGNATURE_NAME).symlink_to("/etc/passwd")


def other_content(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "a.onnx").write_bytes(content) and None


def another(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(GRAPH) and None


ALTERATIONS = {
    "link out of the folder": (link_out, "regular file at .*a.onnx, found a symbolic link"),
    "link inside the folder": (link_inside, "regular file at .*a.onnx, found a symbolic link"),
    "dangling link": (dangling_link, "regular file at .*a.onnx, found a symbolic link"),
    "pipe": (pipe, "regular file at .*a.onnx, found a folder, pipe or device"),
    "folder": (subfolder, "regular file at .*a.onnx, found a folder, pipe or device"),
    "linked bundle": (linked_bundle, "only the card and the files that it names .* 'hpv'"),
    "linked signature": (linked_signature, "regular file at .*sig, found a symbolic link"),
    "no file": (lambda f: (f / "a.onnx").unlink(), "expected the model file .*a.onnx"),
    "changed": (other_content(GRAPH + b"\x08\x0a"), "expected SHA-256 .*…, found .*…; copy or"),
    "Git LFS": (other_content(b"version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "unnamed graph": (another("b.onnx"), "found 'b.onnx'; remove it"),
    "weights": (another("weights.bin"), "found 'weights.bin'; remove it"),
    "hidden file": (another(".DS_Store"), "found '.DS_Store'; remove it"),
    "AppleDouble": (another("._model.json"), "found '._model.json'; remove it"),
    "control code": (another("\x1b[2J"), r"found '\\x1b\[2J'; remove it"),
    "no UTF-8": (another(os.fsdecode(b"\xff")), r"found '\\udcff'; remove it"),
    "unknown folder": (lambda f: (f / "old").mkdir(), "found 'old'; remove it"),
}


@pytest.mark.parametrize(("alter", "message"), ALTERATIONS.values(), ids=list(ALTERATIONS))
def test_altered_folder_is_refused_in_one_line(
    folder: Path, alter: Callable[[Path], None], message: str
) -> None:
    alter(folder)
    with pytest.raises(ModelError, match=message) as error:
        check_sealed(folder, {"a.onnx": SHA256})
    assert str(error.value).isprintable()


def test_graph_with_other_weights_is_refused_although_its_hash_is_right(folder: Path) -> None:
    content = b"\x3a\x04\x2a\x02\x70\x01"  # external data, see test_graph_file
    (folder / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.onnx keeps weights in another file"):
        check_sealed(folder, {"a.onnx": hashlib.sha256(content).hexdigest()})


def test_card_is_a_regular_file_of_limited_size(folder: Path) -> None:
    assert read_card_text(folder) == b"{}"
    (folder / CARD_NAME).write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ModelError, match=r"model\.json has more than 1048576 bytes"):
        read_card_text(folder)
    (folder / CARD_NAME).unlink()
    (folder / CARD_NAME).symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="found a symbolic link"):
        read_card_text(folder)
    (folder / CARD_NAME).unlink()
    os.mkfifo(folder / CARD_NAME)
    with pytest.raises(ModelError, match="is a pipe or a device, not a file"):
        read_card_text(folder)
