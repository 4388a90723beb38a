"""Reads a `Case` from the platform's input folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.case import Case
from shared.clinical import parse_ehr
from shared.conventions import AIR_HU, NO_UPTAKE_SUV
from shared.editions import Edition
from shared.errors import InputError
from shared.grand_challenge.images import IMAGE_SUFFIXES, images_in, read_image
from shared.regular_files import FileError, MissingFileError, read_regular
from shared.tasks import Input

JSON_BYTES: Final = 2**24
"""Largest size of a JSON file; a health record has a few hundred bytes."""


def read_case(input_dir: Path, edition: Edition) -> Case:
    """Read the case in the platform's input folder.

    Parameters
    ----------
    input_dir : folder of the inputs; may be a symbolic link. If it contains `inputs.json`, that
        file gives the path of each input; otherwise the edition does.

    Raises
    ------
    InputError
        If a required input is missing, ambiguous or unreadable, or an image is not a single 3-D
        scalar volume.
    """
    entries = _read_inputs_json(input_dir / "inputs.json")
    ct_path = _find_image(input_dir, entries, edition.ct)
    ct, ct_remarks = read_image(ct_path, edition.ct.slug, AIR_HU)
    pet_path = _find_image(input_dir, entries, edition.pet)
    pet, pet_remarks = read_image(pet_path, edition.pet.slug, NO_UPTAKE_SUV)
    ehr, json_remarks = _read_ehr(input_dir, entries, edition.ehr)
    clinical, ehr_remarks = parse_ehr(ehr)
    unused_remarks = tuple(
        f"{socket.slug}: present, not used"
        for socket in edition.unused
        if _is_present(input_dir / _relative_path(entries, socket))
    )
    remarks = ct_remarks + pet_remarks + json_remarks + ehr_remarks + unused_remarks
    return Case(ct_hu=ct, pet=pet, clinical=clinical, remarks=remarks)


@dataclass(frozen=True)
class _Entry:
    """One entry of `inputs.json`."""

    relative_path: str | None
    value: object


def _read_inputs_json(path: Path) -> dict[str, _Entry] | None:
    """Return the entries of `inputs.json` by slug, or None if there is no such file."""
    if not path.exists() and not path.is_symlink():  # a dangling link is not ignored
        return None
    items = _read_json(path)
    hint = f'expected {path} to be a list of objects with "socket" or "interface"'
    if not isinstance(items, list):
        raise InputError(f"{hint}, found something else; use the platform's own file or none")
    entries = {}
    for item in items:
        socket = None
        if isinstance(item, dict):
            socket = item.get("socket") or item.get("interface")
        if not isinstance(socket, dict) or not isinstance(socket.get("slug"), str):
            raise InputError(f"{hint}, found an entry without either; use the platform's own file")
        relative = socket.get("relative_path")
        if isinstance(relative, str) and "\0" in relative:
            raise InputError(f"{hint}, found a path with a null byte; use the platform's own file")
        entries[socket["slug"]] = _Entry(
            relative if isinstance(relative, str) else None, item.get("value")
        )
    return entries


def _relative_path(entries: dict[str, _Entry] | None, socket: Input) -> str:
    entry = (entries or {}).get(socket.slug)
    return (entry.relative_path if entry else None) or socket.path


def _require_entry(entries: dict[str, _Entry] | None, socket: Input) -> None:
    if entries is not None and socket.slug not in entries:
        raise InputError(
            f"expected the socket {socket.slug} in inputs.json, found "
            f"{', '.join(entries) or 'none'}; add the input {socket.slug} to the job"
        )


def _find_image(input_dir: Path, entries: dict[str, _Entry] | None, socket: Input) -> Path:
    _require_entry(entries, socket)
    folder = input_dir / _relative_path(entries, socket)
    try:
        images = images_in(folder)
    except OSError as error:
        raise InputError(
            f"expected a readable folder with the image for {socket.slug} at {folder}, but it "
            f"cannot be read ({error.strerror}); change its permissions"
        ) from None
    if len(images) != 1:
        names = ", ".join(p.name for p in images) or "none"
        count = "" if not images else f"{len(images)}: "
        raise InputError(
            f"expected exactly one image ({', '.join(IMAGE_SUFFIXES)}) for {socket.slug} in "
            f"{folder}, found {count}{names}; provide one image for this input"
        )
    return images[0]


def _is_present(folder: Path) -> bool:
    """Return whether an unused input has an image; False if its folder cannot be read."""
    try:
        return bool(images_in(folder))
    except OSError:
        return False


def _read_ehr(
    input_dir: Path, entries: dict[str, _Entry] | None, socket: Input
) -> tuple[object, tuple[str, ...]]:
    _require_entry(entries, socket)
    path = input_dir / _relative_path(entries, socket)
    entry = (entries or {}).get(socket.slug)
    if entry is not None and entry.value is not None and not path.exists():
        return entry.value, ()
    return read_ehr(path, socket.slug)


def read_ehr(path: Path, slug: str) -> tuple[object, tuple[str, ...]]:
    """Read the JSON file of a health record.

    Parameters
    ----------
    slug : slug of the input socket, for remarks.

    Returns
    -------
    The decoded JSON, and a remark if it has a trailing comma like the organisers' sample.

    Raises
    ------
    InputError
        If there is no such file, or it is not valid JSON.
    """
    content = _read_bytes(path)
    try:
        return _parse_json(content, path), ()
    except InputError:
        repaired = _without_trailing_commas(content)
        if repaired == content:
            raise
        ehr = _parse_json(repaired, path)
    return ehr, (f"{slug}: not valid JSON because of a trailing comma, which is ignored",)


def _read_json(path: Path) -> object:
    return _parse_json(_read_bytes(path), path)


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, JSON_BYTES)
    except MissingFileError:
        raise InputError(
            f"expected a JSON file at {path}, found none; add it to the case"
        ) from None
    except FileError as problem:
        raise InputError(f"expected a JSON file at {path}, but it {problem}; correct it") from None


def _parse_json(content: bytes, path: Path) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); write it again") from None


def _without_trailing_commas(content: bytes) -> bytes:
    """Remove commas before closing brackets, except in strings. The content is UTF-8."""
    string_or_comma = rb'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])'
    return re.sub(string_or_comma, lambda match: match[1] or b"", content)
