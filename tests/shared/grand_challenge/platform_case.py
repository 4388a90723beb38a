"""A case in the platform's layout, and a job on it that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from shared.case import Case
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import main
from shared.grand_challenge.outputs import write_segmentation
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation

SIZE_XYZ = (12, 10, 8)
EHR = {"Age": 61, "M-stage": "M0", "CenterID": 5}
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def ct_image(kind: type = np.int16) -> sitk.Image:
    rng = np.random.default_rng(0)
    ct = sitk.GetImageFromArray(rng.integers(-1000, 1000, SIZE_XYZ[::-1]).astype(kind))
    ct.SetSpacing((2.5, 3.0, 4.0))
    ct.SetOrigin((-30.0, 12.5, 100.0))
    ct.SetDirection(OBLIQUE)
    return ct


def pet_image() -> sitk.Image:
    pet = sitk.GetImageFromArray(np.ones((6, 6, 6), np.float32))
    pet.SetSpacing((6.0, 6.0, 6.0))
    pet.SetOrigin((-40.0, 10.0, 70.0))
    return pet


def write_image(image: sitk.Image, path: Path, compressed: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=compressed)


def the_ct(case: Path) -> Path:
    return case / "images/ct/scan.mha"


def listed(socket_key: str = "socket", **changes: Any) -> list[dict[str, Any]]:
    """Return an `inputs.json` as the platform writes it."""
    paths = {
        "ct-image": "images/ct",
        "pet-image": "images/pet",
        "electronic-health-record": "ehr.json",
        **changes,
    }
    return [
        {
            "file": None,
            "image": {"name": "scan.mha"} if "image" in slug else None,
            "value": None,
            socket_key: {"slug": slug, "relative_path": path, "kind": "Image"},
        }
        for slug, path in paths.items()
    ]


def assert_is_the_case(found: Case) -> None:
    assert np.array_equal(sitk.GetArrayFromImage(found.ct_hu), sitk.GetArrayFromImage(ct_image()))
    assert Grid.of(found.ct_hu) == Grid.of(ct_image())
    assert Grid.of(found.pet) == Grid.of(pet_image())
    assert (found.clinical.age, found.clinical.m_stage, found.clinical.centre_id) == (61, 0, 5)


def segment_nothing(model: object, input_dir: Path, output_dir: Path) -> None:
    """Do the same as Task 1 without its network; the mask is empty."""
    case = read_case(input_dir, CURRENT)
    prepare(case, Preparation(spacing_mm=4, size_xyz=(16, 16, 16), interpolation="linear"))
    mask = Grid.of(case.ct_hu).filled(0, sitk.sitkUInt8)
    write_segmentation(output_dir, mask, CURRENT)


def run_job(
    case: Path, output: Path, run: Callable[..., None] = segment_nothing, *more: str
) -> int:
    arguments = ["--input", str(case), "--output", str(output), *more]
    return main(lambda _: None, run, baked_model=Path("baked"), arguments=arguments)


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []
