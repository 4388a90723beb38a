"""Inputs that every algorithm must reject, each made from a good case by one change.

Each run must end with exit code 1, one line on stderr that contains the stated words, and an empty
output folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from tests.containers.checks import find_ct


@dataclass(frozen=True)
class BadInput:
    """One way to spoil a case.

    Attributes
    ----------
    name : name of the input in reports.
    spoil : changes a copy of the input folder.
    words : words that the algorithm's line on stderr must contain.
    """

    name: str
    spoil: Callable[[Path], None]
    words: str


def _no_ct(case: Path) -> None:
    find_ct(case).unlink()


def _two_cts(case: Path) -> None:
    path = find_ct(case)
    path.with_name("second.mha").write_bytes(path.read_bytes())


def _text_for_ct(case: Path) -> None:
    find_ct(case).write_text("This is a letter, not an image.\n", encoding="utf-8")


def _truncated_ct(case: Path) -> None:
    path = find_ct(case)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped_bit_in_pet(case: Path) -> None:
    """Flip a bit of the compressed voxels. MetaIO, ITK's reader, would only print a warning."""
    (path,) = (case / "images/pet").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _lying_header(case: Path) -> None:
    """State more dimensions than the image has. MetaIO would end the process."""
    path = find_ct(case)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"NDims = 3", b"NDims = 100", 1))


def _voxels_elsewhere(case: Path) -> None:
    path = find_ct(case)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"= LOCAL", b"= /dev/zero", 1))


def _flat_ct(case: Path) -> None:
    _replace_ct(case, lambda ct: ct[:, :, ct.GetDepth() // 2])


def _ct_in_time(case: Path) -> None:
    _replace_ct(case, lambda ct: sitk.JoinSeries([ct, ct]))


def _ct_elsewhere(case: Path) -> None:
    def move(ct: sitk.Image) -> sitk.Image:
        ct.SetOrigin([x + 5000.0 for x in ct.GetOrigin()])
        return ct

    _replace_ct(case, move)


def _ct_of_nan(case: Path) -> None:
    def empty(ct: sitk.Image) -> sitk.Image:
        nan = sitk.GetImageFromArray(np.full(ct.GetSize()[::-1], np.nan, dtype=np.float32))
        nan.CopyInformation(ct)
        return nan

    _replace_ct(case, empty)


def _invalid_ehr(case: Path) -> None:
    (case / "ehr.json").write_text("Age: 60\n", encoding="utf-8")


def _ehr_list(case: Path) -> None:
    path = case / "ehr.json"
    path.write_text(json.dumps([json.loads(path.read_bytes())]), encoding="utf-8")


def _replace_ct(case: Path, change: Callable[[sitk.Image], sitk.Image]) -> None:
    path = find_ct(case)
    image = change(sitk.ReadImage(str(path)))
    path.unlink()
    sitk.WriteImage(image, str(path.with_suffix(".mha")), useCompression=True)


BAD_INPUTS: Final = (
    BadInput("no CT", _no_ct, "found none"),
    BadInput("two CTs", _two_cts, "found 2"),
    BadInput("a text called .mha", _text_for_ct, "not an image"),
    BadInput("a truncated image", _truncated_ct, "truncated"),
    BadInput("a flipped bit in the PET's stream", _flipped_bit_in_pet, "is damaged"),
    BadInput("a lying header", _lying_header, "100 dimensions"),
    BadInput("voxels in another file", _voxels_elsewhere, "another file"),
    BadInput("a 2-D image", _flat_ct, "2 dimensions"),
    BadInput("a 4-D image", _ct_in_time, "4 dimensions"),
    BadInput("CT and PET far apart", _ct_elsewhere, "overlap"),
    BadInput("an image of NaN only", _ct_of_nan, "NaN"),
    BadInput("an EHR that is not JSON", _invalid_ehr, "not valid JSON"),
    BadInput("an EHR that is a list", _ehr_list, "a list"),
)
