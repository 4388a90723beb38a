"""Check that a model folder is sealed: it has only regular files, with the SHA-256s in the card.

The folder may also have a signature of the card, and the folders of other tasks' models, which are
sealed themselves. The containers use this module when they load a model. The build scripts use it
before weights enter an image or a tarball, so it needs only the standard library.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.errors import ModelError
from shared.models.graph_file import check_graph
from shared.regular_files import FileError, MissingFileError, read_regular
from shared.tasks import TASK_NAMES

CARD_NAME: Final = "model.json"
SIGNATURE_NAME: Final = "model.json.sig"
"""An optional signature of the card by `ssh-keygen -Y sign`. It is checked where weights enter an
image or a tarball (`shared/docker/check_model.py`), not at run time."""

CARD_LIMIT_BYTES: Final = 2**20
MEMBER_LIMIT_BYTES: Final = 2**31
"""The limit of protobuf itself."""
MEMBER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
LFS_POINTER: Final = b"version https://git-lfs"


def read_card_text(folder: Path) -> bytes:
    """Return the content of the card's file.

    Raises
    ------
    ModelError
        If there is no card, or it is not a regular file of at most `CARD_LIMIT_BYTES`.
    """
    path = folder / CARD_NAME
    try:
        return _read(path, CARD_LIMIT_BYTES)
    except MissingFileError:
        raise ModelError(
            f"expected a model card at {path}, found none; export a model to {folder}"
        ) from None


def read_graph(path: Path, sha256: str | None) -> bytes:
    """Return the content of a model file.

    Parameters
    ----------
    sha256 : the file's SHA-256 in the card; None accepts any file.

    Raises
    ------
    ModelError
        If the file is missing, is not a regular file, has another SHA-256, or refers to other
        files.
    """
    try:
        content = _read(path, MEMBER_LIMIT_BYTES)
    except MissingFileError:
        raise ModelError(
            f"expected the model file {path} that the card names, found none; "
            "copy or export the model again"
        ) from None
    if content.startswith(LFS_POINTER):
        raise ModelError(f"{path} is a Git LFS pointer, not the model; run: git lfs pull")
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ModelError(
            f"{path} is not the file its card was written for: expected SHA-256 {sha256[:12]}…, "
            f"found {digest[:12]}…; copy or export the model again"
        )
    try:
        check_graph(content)
    except ModelError as error:
        raise ModelError(f"{path} {error}; export the model again") from None
    return content


def check_sealed(folder: Path, members: Mapping[str, str]) -> None:
    """Check that a model folder contains the card's files and nothing else.

    The folder of a bundled model is checked when that model is loaded.

    Parameters
    ----------
    members : the SHA-256 of each model file by its name.

    Raises
    ------
    ModelError
        If a name is not a plain file name, if a file is missing or differs, or if there is anything
        else in the folder.
    """
    for name in members:
        if not MEMBER_NAME.fullmatch(name) or name in (CARD_NAME, SIGNATURE_NAME):
            raise ModelError(
                f"expected plain file names of letters, digits, '_', '-' and '.' in "
                f"{folder / CARD_NAME}, found {_shortened(name)}; export the model again"
            )
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise ModelError(f"cannot list {folder}: {error.strerror}; check its permissions") from None
    for entry in entries:
        is_bundled = entry.name in TASK_NAMES and entry.is_dir(follow_symlinks=False)
        if entry.name not in (CARD_NAME, SIGNATURE_NAME, *members) and not is_bundled:
            raise ModelError(
                f"expected only the card and the files that it names in {folder}, found "
                f"{_shortened(entry.name)}; remove it"
            )
        if not is_bundled and not entry.is_file(follow_symlinks=False):
            raise _irregular(Path(entry.path))
    for name, sha256 in members.items():
        read_graph(folder / name, sha256)


def _read(path: Path, limit_bytes: int) -> bytes:
    """Return the content of a file of a model folder; raise MissingFileError if there is none."""
    if path.is_symlink():
        raise _irregular(path)
    try:
        return read_regular(path, limit_bytes)
    except MissingFileError:
        raise
    except FileError as error:
        raise ModelError(f"{path} {error}; copy or export the model again") from None


def _irregular(path: Path) -> ModelError:
    kind = "a symbolic link" if path.is_symlink() else "a folder, pipe or device"
    return ModelError(f"expected a regular file at {path}, found {kind}; put the file itself there")


def _shortened(name: str) -> str:
    """Return a name in quotes, without control codes and not too long."""
    return ascii(name if len(name) <= 100 else name[:99] + "…")
