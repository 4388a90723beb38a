"""Hostile cases for an algorithm: files, values, the health record, the list of inputs, folders.

The algorithm is Task 1 without its network: it reads and prepares the case, then writes an empty
mask. If it answers, the prepared volumes must be finite, the mask must be the only file and lie on
the CT's grid, and stderr must be empty. If it refuses, the exit code must be 1, stderr must have
one line, and there must be no file.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from shared.editions import CURRENT
from shared.grand_challenge.images import open_image
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import main
from shared.grand_challenge.outputs import write_segmentation
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation
from tests.fuzz import _case_changes, _metaimage_changes
from tests.fuzz.core import FuzzCase, Verdict
from tests.shared.grand_challenge.platform_case import EHR, ct_image, pet_image, write_image
from tests.shared.postprocessing.segmented import certain

MASK: Final = CURRENT.outputs["segmentation"].path
Item = TypeVar("Item")
REGION: Final = Preparation(spacing_mm=4, size_xyz=(16, 16, 16), interpolation="linear")


def make(rng: np.random.Generator, folder: Path) -> FuzzCase:
    """Write a good case, then change it in one way."""
    case = folder / "input"
    compressed = bool(rng.integers(4))
    write_image(ct_image(), case / "images/ct/scan.mha", compressed)
    write_image(pet_image(), case / "images/pet/scan.mha", compressed)
    (case / "ehr.json").write_text(json.dumps(EHR))
    if rng.integers(2):
        change_image = _pick(rng, _metaimage_changes.CHANGES)
        modality = str(rng.choice(_case_changes.FOLDERS))
        what, expected = change_image(rng, _case_changes.image_of(case, modality))
        return FuzzCase(folder=folder, what=f"{modality}: {what}", expected=expected)
    change_case = _pick(rng, _case_changes.CHANGES)
    what, expected = change_case(rng, case)
    return FuzzCase(folder=folder, what=what, expected=expected)


def judge(case: FuzzCase) -> Verdict:
    """Run the algorithm and compare what happens with what must happen."""
    output = case.folder / "output"
    arguments = ["--input", str(case.folder / "input"), "--output", str(output)]
    with tempfile.TemporaryFile() as errors:
        original = os.dup(2)
        os.dup2(errors.fileno(), 2)
        try:
            code = main(lambda _: None, _segment, baked_model=Path("baked"), arguments=arguments)
        finally:
            os.dup2(original, 2)
            os.close(original)
        errors.seek(0)
        printed = errors.read().decode(errors="backslashreplace")
    files = [path for path in output.rglob("*") if not path.is_dir()] if output.exists() else []
    if problem := _problem(code, printed, files, case.folder):
        return Verdict("defect", f"{problem}; stderr: {printed[-1500:]}")
    return Verdict.of(case, "answered" if code == 0 else "refused", printed.strip())


def _pick(rng: np.random.Generator, items: tuple[Item, ...]) -> Item:
    return items[int(rng.integers(len(items)))]


def _segment(_: object, input_dir: Path, output_dir: Path) -> None:
    case = read_case(input_dir, CURRENT)
    prepared = prepare(case, REGION)
    assert np.isfinite(prepared.ct_hu).all(), "the prepared CT must be finite"
    assert np.isfinite(prepared.pet_suv).all(), "the prepared PET must be finite"
    assert prepared.pet_suv.min() >= 0, "no SUV is negative"
    labels = np.zeros(prepared.ct_hu.shape, np.uint8)
    write_segmentation(output_dir, restore(certain(labels), prepared.undo), CURRENT)


def _problem(code: int, printed: str, files: list[Path], folder: Path) -> str:
    """Return what is wrong with an answer or a refusal; empty if nothing is."""
    if code not in (0, 1):
        return f"exit code {code}"
    if code == 1:
        is_one_line = printed.endswith("\n") and printed[:-1].isprintable()
        if not is_one_line or printed.startswith("unexpected"):
            return "not one plain line on stderr"
        return f"files {files} after a refusal" if files else ""
    if printed:
        return "something on stderr of an answered case"
    if files != [folder / "output" / MASK]:
        return f"files {files}"
    mask = open_image(files[0])
    return "" if _is_on_grid(mask.path, folder) else "the mask is not on the CT's grid"


def _is_on_grid(mask: Path, folder: Path) -> bool:
    listing = folder / "input/inputs.json"
    relative = "images/ct"
    if listing.is_file():
        for entry in json.loads(listing.read_bytes()):
            socket = entry.get("socket") or entry.get("interface")
            if socket["slug"] == CURRENT.ct.slug and isinstance(socket.get("relative_path"), str):
                relative = socket["relative_path"] or relative
    images = [p for p in (folder / "input" / relative).iterdir() if not p.name.startswith(".")]
    (ct,) = [path for path in images if path.suffix.lower() in (".mha", ".tif", ".tiff")]
    return open_image(mask).grid == open_image(ct).grid
