"""The input checks: no doubt about the untouched sample cases, one about each injected fault."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import Label, LabelVolume
from shared.doubts.displacement import measure_displacement
from shared.doubts.field_of_view import skull_base_mm
from shared.doubts.find import find_doubts
from shared.geometry import Grid, resample
from shared.preprocessing.pipeline import Prepared, Undo, prepare
from shared.preprocessing.region import Preparation

CASES = Path(__file__).resolve().parents[2] / "cases"
REGION = Preparation(spacing_mm=2.0, size_xyz=(144, 144, 144), interpolation="linear")
NAMES = ("whole_body", "oblique_flipped", "no_primary")


@cache
def sample(name: str) -> tuple[Case, sitk.Image]:
    """Return a sample case and its true lesions, which stand in for predicted ones."""
    images = CASES / name / "input/images"
    ct = sitk.ReadImage(str(images / "ct" / f"{name}.mha"))
    pet = sitk.ReadImage(str(images / "pet" / f"{name}.mha"))
    truth = sitk.ReadImage(str(CASES / name / "truth.nii.gz"), sitk.sitkUInt8)
    return Case(ct_hu=ct, pet=pet, clinical=ClinicalRecord()), truth


def doubts_of(case: Case, truth: sitk.Image) -> dict[str, str]:
    prepared = prepare(case, REGION)
    labels = resample(truth, prepared.undo.region, interpolation="nearest", outside=0)
    doubts = find_doubts(prepared, Grid.of(case.pet), sitk.GetArrayFromImage(labels))
    return {doubt.check: doubt.reason for doubt in doubts}


def with_images(case: Case, ct: sitk.Image, pet: sitk.Image) -> Case:
    return Case(ct_hu=ct, pet=pet, clinical=case.clinical)


def moved(image: sitk.Image, *offset_mm: float) -> sitk.Image:
    copy = sitk.Image(image)
    copy.SetOrigin(tuple(np.add(image.GetOrigin(), offset_mm)))
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_untouched_sample_cases_raise_no_doubt(name: str) -> None:
    assert doubts_of(*sample(name)) == {}


@pytest.mark.parametrize("offset_mm", [(18, 0, 0), (0, -18, 0), (0, 0, 18), (0, 0, -18)])
def test_displaced_pet_is_found_with_its_offset(offset_mm: tuple[float, float, float]) -> None:
    case, truth = sample("no_primary")
    displaced = with_images(case, case.ct_hu, moved(case.pet, *offset_mm))
    assert "displacement" in doubts_of(displaced, truth)
    displacement = measure_displacement(prepare(displaced, REGION), Grid.of(displaced.pet))
    assert displacement is not None
    assert displacement.offset_mm == pytest.approx(offset_mm, abs=4)


def test_small_displacement_is_no_doubt() -> None:
    case, truth = sample("no_primary")
    assert doubts_of(with_images(case, case.ct_hu, moved(case.pet, 3, 0, 0)), truth) == {}


def test_other_unit_is_a_doubt_with_the_remark_about_it() -> None:
    case, truth = sample("no_primary")
    reason = doubts_of(with_images(case, case.ct_hu, case.pet * 1000.0), truth)["SUV scale"]
    assert "not in SUV" in reason
    empty = doubts_of(with_images(case, case.ct_hu, case.pet * 0.0), truth)["SUV scale"]
    assert "no uptake" in empty


def test_halved_dose_is_a_doubt() -> None:
    case, truth = sample("no_primary")
    reason = doubts_of(with_images(case, case.ct_hu, case.pet * 2.0), truth)["SUV scale"]
    assert reason.startswith("the lower quartile of the uptake of the body in the region is")


def cut(image: sitk.Image, low_mm: float, high_mm: float) -> sitk.Image:
    """Return the slices between two heights of an image along the axes of the world."""
    z = image.GetOrigin()[2] + np.arange(image.GetSize()[2]) * image.GetSpacing()[2]
    kept = np.flatnonzero((z >= low_mm) & (z <= high_mm))
    return image[:, :, int(kept[0]) : int(kept[-1]) + 1]


@pytest.mark.parametrize(
    ("below_mm", "above_mm", "words"),
    [(-500, 20, "inside the head"), (-110, 500, "inside the neck"), (-500, -40, "no skull")],
)
def test_cut_field_of_view_is_found(below_mm: float, above_mm: float, words: str) -> None:
    case, truth = sample("no_primary")
    base = skull_base_mm(prepare(case, REGION))
    assert base is not None
    ct, pet = (cut(image, base + below_mm, base + above_mm) for image in (case.ct_hu, case.pet))
    assert words in doubts_of(with_images(case, ct, pet), truth)["field of view"]


def test_lesion_at_the_cut_is_found() -> None:
    case, truth = sample("no_primary")
    heights = np.flatnonzero((sitk.GetArrayViewFromImage(truth) > 0).any(axis=(1, 2)))
    lowest_mm = truth.GetOrigin()[2] + heights[0] * truth.GetSpacing()[2]
    ct = cut(case.ct_hu, lowest_mm, np.inf)
    assert "lesion at the edge" in doubts_of(with_images(case, ct, case.pet), truth)


def test_same_doubts_for_any_order_of_the_axes() -> None:
    case, truth = sample("no_primary")
    pet = moved(case.pet, 0, 18, 0)
    expected = doubts_of(with_images(case, case.ct_hu, pet), truth)
    permuted = sitk.Flip(sitk.PermuteAxes(case.ct_hu, [2, 0, 1]), [True, False, True])
    turned = sitk.Flip(sitk.PermuteAxes(pet, [1, 2, 0]), [False, True, False])
    assert doubts_of(with_images(case, permuted, turned), truth) == expected
    assert set(expected) == {"displacement"}


SIDE = 40


def drawn(*, metal: bool = False) -> Prepared:
    """Return a cube of muscle in air, voxels of 3 mm; the metal is 9 mm wide, near the middle."""
    grid = Grid((SIDE,) * 3, (3.0,) * 3, (0.0, 0.0, 0.0))
    ct = np.full(grid.shape_zyx, -1000, np.float32)
    ct[5:-5, 5:-5, 5:-5] = 40
    if metal:
        ct[20:23, 20:23, 23:26] = 3000
    suv = np.where(ct > -500, 0.5, 0).astype(np.float32)
    return Prepared(ct_hu=ct, pet_suv=suv, body=ct > -500, undo=Undo(grid, grid), remarks=())


def lesion(*, start: int = 20) -> LabelVolume:
    labels = np.zeros((SIDE,) * 3, np.uint8)
    labels[start : start + 3, 20:23, 20:23] = Label.GTVN
    return labels


def checks(prepared: Prepared, labels: LabelVolume | None) -> list[str]:
    return [doubt.line for doubt in find_doubts(prepared, prepared.undo.region, labels)]


def test_drawn_cube_raises_no_doubt() -> None:
    assert checks(drawn(), lesion()) == []
    assert checks(drawn(), None) == []


def test_metal_near_a_lesion_is_found_and_far_from_it_is_not() -> None:
    near = checks(drawn(metal=True), lesion())
    assert near == [
        "doubt: metal: 0.73 ml with more than 2500 HU within 10 mm of a lesion; streaks may cover "
        "it"
    ]
    assert checks(drawn(metal=True), lesion(start=10)) == []


def test_lesion_at_the_end_of_the_region_is_found() -> None:
    assert checks(drawn(), lesion(start=0)) == [
        "doubt: lesion at the edge: a lesion comes within 4 mm of the end of the region and the CT "
        "and the PET"
    ]


def test_case_without_lesions_is_a_doubt() -> None:
    assert checks(drawn(), np.zeros((SIDE,) * 3, np.uint8)) == [
        "doubt: no lesion: none was found, but every patient of the challenge has a primary or a "
        "node"
    ]


def test_scan_without_body_or_uptake_has_no_displacement() -> None:
    prepared = drawn()
    empty = Prepared(
        ct_hu=np.full_like(prepared.ct_hu, -1000),
        pet_suv=prepared.pet_suv * 0,
        body=np.zeros_like(prepared.body),
        undo=prepared.undo,
        remarks=(),
    )
    assert measure_displacement(empty, prepared.undo.region) is None
