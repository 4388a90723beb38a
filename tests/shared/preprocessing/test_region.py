"""The head-and-neck region: where a drawn head and phantoms have it, however they are stored."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.errors import InputError
from shared.geometry import Grid
from shared.preprocessing.region import (
    COARSE_MM,
    REGION_ABOVE_SKULL_BASE_MM,
    Found,
    Preparation,
    find_region,
)
from tests.shared.preprocessing.drawn import (
    CAVITY_END_MM,
    REGION,
    Body,
    axial,
    ct_of,
    oblique,
    orientations,
    stored,
)
from training.phantom import Kind, make_patient

CT_MM, PET_MM = (5.0, 5.0, 5.0), (10.0, 10.0, 10.0)
TOP_MM = CAVITY_END_MM + REGION_ABOVE_SKULL_BASE_MM
"""Where the region of a drawn head ends."""
PLAIN = Body()
CASES = Path(__file__).parents[2] / "cases"


def blank_pet(low_mm: float, high_mm: float) -> sitk.Image:
    """Return a PET that covers a range of heights; what it shows places no region."""
    return axial(PET_MM, low_mm, high_mm).filled(1, sitk.sitkFloat32)


@cache
def found_in(
    low_mm: float = -320,
    high_mm: float = 100,
    body: Body = PLAIN,
    preparation: Preparation = REGION,
) -> Found:
    ct = ct_of(axial(CT_MM, low_mm, high_mm), body)
    return find_region(ct, blank_pet(low_mm - 20, high_mm + 20), preparation)


def ends_mm(found: Found) -> tuple[np.ndarray, np.ndarray]:
    return found.region.extent_mm()


def test_region_is_placed_by_the_skull_base_and_the_neck() -> None:
    found = found_in(body=Body(neck_xy_mm=(25.0, 10.0)))
    low, high = ends_mm(found)
    assert found.region.size_xyz == (72, 72, 72)
    assert found.region.spacing_mm == (4.0, 4.0, 4.0)
    np.testing.assert_allclose(high - low, 288)
    assert high[2] == pytest.approx(TOP_MM, abs=2 * COARSE_MM)
    # Skull and neck are both in the slab whose centroid counts.
    assert 0 < (low + high)[0] / 2 < 30
    assert (low + high)[1] / 2 == pytest.approx(10, abs=10)
    assert "skull base" in found.remark


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_region_has_the_size_and_spacing_asked_for(interpolation: str) -> None:
    preparation = Preparation.model_validate(
        {"spacing_mm": 3, "size_xyz": (60, 50, 70), "interpolation": interpolation}
    )
    region = found_in(preparation=preparation).region
    assert region.size_xyz == (60, 50, 70)
    assert region.spacing_mm == (3.0, 3.0, 3.0)
    assert region.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize("low_mm", [-420, -1000])
def test_whole_body_scan_has_the_region_of_a_head_and_neck_scan(low_mm: float) -> None:
    expected = ends_mm(found_in(-320))
    np.testing.assert_allclose(ends_mm(found_in(low_mm)), expected, atol=COARSE_MM)


@pytest.mark.parametrize(
    "body",
    [
        Body(arms_up=True),
        Body(couch=True),
        Body(padding_hu=-3024),
        Body(padding_hu=-10504),
        Body(metal=True),
        Body(arms_up=True, couch=True, padding_hu=-3024, metal=True),
    ],
    ids=["arms up", "couch", "padding", "deep padding", "metal", "all"],
)
def test_what_surrounds_the_head_does_not_move_the_region(body: Body) -> None:
    found = found_in(-600, body=body)
    low, high = ends_mm(found)
    assert high[2] == pytest.approx(TOP_MM, abs=2 * COARSE_MM)
    np.testing.assert_allclose((low + high)[:2] / 2, (0, 10), atol=20)


@pytest.mark.parametrize("high_mm", [100, 40, 0, -20])
def test_a_part_of_the_skull_is_enough(high_mm: float) -> None:
    found = found_in(high_mm=high_mm)
    assert "skull base" in found.remark
    assert ends_mm(found)[1][2] == pytest.approx(min(TOP_MM, high_mm), abs=2 * COARSE_MM)


@pytest.mark.parametrize("high_mm", [-75, -120])
def test_without_a_skull_the_region_hangs_from_the_upper_end_of_the_scan(high_mm: float) -> None:
    found = found_in(-500, high_mm)
    assert found.remark == "region: no skull in view, placed at the upper end of the scan"
    assert ends_mm(found)[1][2] == pytest.approx(high_mm)


def test_region_is_moved_up_rather_than_below_the_scan() -> None:
    low, high = ends_mm(found_in(low_mm=-220))
    assert low[2] == pytest.approx(-220, abs=1e-6)
    assert high[2] == pytest.approx(68, abs=1e-6)


def test_region_larger_than_the_scan_begins_at_the_scans_upper_end() -> None:
    low, high = ends_mm(found_in(-150, 75))
    assert high[2] == pytest.approx(75)
    assert low[2] < -150


def test_only_what_ct_and_pet_share_counts() -> None:
    ct = ct_of(axial(CT_MM, -600, 100))
    found = find_region(ct, blank_pet(-500, -100), REGION)
    assert ends_mm(found)[1][2] == pytest.approx(-100)
    assert "no skull" in found.remark


@pytest.mark.parametrize("offset", [(2000.0, 0, 0), (0, -2000.0, 0), (0, 0, 2000.0)])
def test_ct_and_pet_apart_are_refused(offset: tuple[float, float, float]) -> None:
    ct, pet = ct_of(axial(CT_MM, -100, 100)), blank_pet(-100, 100)
    pet.SetOrigin([a + b for a, b in zip(pet.GetOrigin(), offset, strict=True)])
    with pytest.raises(InputError, match="expected CT and PET to overlap, found CT from "):
        find_region(ct, pet, REGION)


@pytest.mark.parametrize("hu", [-1000, 40, 1500])
def test_an_image_of_one_value_gives_a_central_region(hu: int) -> None:
    ct = axial(CT_MM, -320, 100).filled(hu, sitk.sitkInt16)
    found = find_region(ct, blank_pet(-320, 100), REGION)
    low, high = ends_mm(found)
    np.testing.assert_allclose((low + high)[:2] / 2, (0, 0), atol=COARSE_MM)
    assert found.coarse_body.any() == (hu > -500)


def test_a_single_slice_is_no_reason_to_stop() -> None:
    grid = axial(CT_MM, -120, -115)
    assert grid.size_xyz[2] == 1
    found = find_region(ct_of(grid), blank_pet(-200, 0), REGION)
    assert ends_mm(found)[1][2] == pytest.approx(-115)


def test_coarse_body_is_without_couch() -> None:
    plain, couch = found_in(-300), found_in(-300, body=Body(couch=True))
    assert np.mean(plain.coarse_body != couch.coarse_body) < 0.005


def test_box_of_the_body_holds_the_body_and_not_the_couch() -> None:
    found = found_in(-300, body=Body(couch=True))
    box = found.region.cropped(found.body_box)
    low, high = box.extent_mm()
    region_low, region_high = ends_mm(found)
    # The trunk is 400 mm wide and 240 deep, the couch begins 137 mm behind the axis.
    np.testing.assert_allclose((low[0], high[0]), (region_low[0], region_high[0]))
    assert region_low[1] <= low[1] < -90 - 3
    assert 130 + 3 < high[1] < 165


def test_box_of_no_body_is_the_whole_region() -> None:
    ct = axial(CT_MM, -320, 100).filled(-1000, sitk.sitkInt16)
    found = find_region(ct, blank_pet(-320, 100), REGION)
    assert found.body_box.size_xyz == found.region.size_xyz


def test_region_does_not_depend_on_how_the_file_stores_its_axes() -> None:
    narrow = 150.0
    ct = ct_of(axial(CT_MM, -300, 60, narrow))
    pet = axial(PET_MM, -320, 50, narrow).filled(1, sitk.sitkFloat32)
    expected = ends_mm(find_region(ct, pet, REGION))
    for order, flips in orientations():
        found = find_region(stored(ct, order, flips), stored(pet, order[::-1], flips), REGION)
        np.testing.assert_allclose(ends_mm(found), expected, atol=COARSE_MM)


@pytest.mark.parametrize("degrees", [-20, 8])
def test_region_of_an_oblique_scan_is_that_of_a_straight_one(degrees: float) -> None:
    grid = oblique(axial(CT_MM, -400, 100, half_width_mm=260), degrees)
    found = find_region(ct_of(grid), blank_pet(-400, 100), REGION)
    np.testing.assert_allclose(ends_mm(found), ends_mm(found_in(-400)), atol=2.5 * COARSE_MM)


def assert_holds(region: Grid, labels: sitk.Image) -> None:
    voxels = np.argwhere(sitk.GetArrayViewFromImage(labels) > 0)[:, ::-1].astype(float)
    world = Grid.of(labels).world_mm(voxels)
    low, high = region.extent_mm()
    assert np.mean(np.all((world >= low) & (world <= high), axis=1)) > 0.999


@pytest.mark.parametrize("name", ["whole_body", "oblique_flipped", "no_primary"])
def test_lesions_of_the_sample_cases_lie_in_the_region(name: str) -> None:
    ct, pet = (
        sitk.ReadImage(str(CASES / name / f"input/images/{modality}/{name}.mha"))
        for modality in ("ct", "pet")
    )
    truth = sitk.ReadImage(str(CASES / name / "truth.nii.gz"))
    assert_holds(find_region(ct, pet, REGION).region, truth)


def test_lesions_of_a_phantom_without_a_brain_lie_in_the_region() -> None:
    kind = Kind(small=True, spacing_mm=(4.0, 4.0, 4.0), whole_body=False, brain_in_fov=False)
    patient = make_patient(17, 1, kind)
    assert_holds(find_region(patient.ct_hu, patient.pet_suv, REGION).region, patient.labels)
