"""Each bad input differs from the good case only in what its name says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.containers.bad_inputs import BAD_INPUTS, BadInput
from tests.containers.checks import find_ct
from tests.containers.conftest import write_case

GOOD_FILES = {"ehr.json", "images/ct/scan.mha", "images/pet/scan.mha"}


def ct_of(case: Path) -> sitk.Image:
    return sitk.ReadImage(str(find_ct(case)))


def is_unreadable(case: Path) -> bool:
    try:
        ct_of(case)
    except RuntimeError:
        return True
    return False


def bits_flipped_in_pet(case: Path) -> int:
    """Return how many bits differ from the good case, which `write_case` writes again."""
    spoiled = (case / "images/pet/scan.mha").read_bytes()
    write_case(case.parent / "good")
    good = (case.parent / "good/input/images/pet/scan.mha").read_bytes()
    return sum((a ^ b).bit_count() for a, b in zip(spoiled, good, strict=True))


IS_SPOILED: dict[str, Callable[[Path], object]] = {
    "no CT": lambda case: not (case / "images/ct/scan.mha").exists(),
    "two CTs": lambda case: len(list((case / "images/ct").iterdir())) == 2,
    "a text called .mha": is_unreadable,
    "a truncated image": is_unreadable,
    "a flipped bit in the PET's stream": lambda case: bits_flipped_in_pet(case) == 1,
    "a lying header": lambda case: b"NDims = 100" in find_ct(case).read_bytes(),
    "voxels in another file": lambda case: b"= /dev/zero" in find_ct(case).read_bytes(),
    "a 2-D image": lambda case: ct_of(case).GetDimension() == 2,
    "a 4-D image": lambda case: ct_of(case).GetDimension() == 4,
    "CT and PET far apart": lambda case: ct_of(case).GetOrigin()[0] > 4000,
    "an image of NaN only": lambda case: np.isnan(sitk.GetArrayFromImage(ct_of(case))).all(),
    "an EHR that is not JSON": lambda case: (case / "ehr.json").read_text() == "Age: 60\n",
    "an EHR that is a list": lambda case: isinstance(
        json.loads((case / "ehr.json").read_text()), list
    ),
}


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_differs_from_good_case_in_one_way(bad: BadInput, tmp_path: Path) -> None:
    write_case(tmp_path)
    case = tmp_path / "input"
    before = {p.relative_to(case).as_posix(): p.read_bytes() for p in case.rglob("*.*")}
    assert set(before) == GOOD_FILES
    bad.spoil(case)
    assert IS_SPOILED[bad.name](case)
    after = {p.relative_to(case).as_posix(): p.read_bytes() for p in case.rglob("*.*")}
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert len(changed) == 1
