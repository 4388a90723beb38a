"""The head-and-neck region of a drawn head and of phantoms, and all limits of the search."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.errors import InputError
from shared.geometry import Grid
from shared.preprocessing.region import (
    Localisation,
    Preparation,
    find_region,
)
from tests.shared.preprocessing.drawing import (
    CAVITY_END_MM,
    REGION,
    Body,
    axial,
    ct_of,
    oblique,
    orientations,
    reorient,
)
from training.phantom import Kind, make_patient

CT_MM, PET_MM, COARSE_MM = (5.0, 5.0, 5.0), (10.0, 10.0, 10.0), 4.0
TOP_MM = CAVITY_END_MM + 90
"""Upper end of the region of a drawn head."""
PLAIN = Body()
CASES = Path(__file__).parents[2] / "cases"


def blank_pet(low_mm: float, high_mm: float) -> sitk.Image:
    """Return a PET that covers a range of heights."""
    return axial(PET_MM, low_mm, high_mm).filled(1, sitk.sitkFloat32)


@cache
def locate(
    low_mm: float = -320,
    high_mm: float = 100,
    body: Body = PLAIN,
    preparation: Preparation = REGION,
) -> Localisation:
    ct = ct_of(axial(CT_MM, low_mm, high_mm), body)
    return find_region(ct, blank_pet(low_mm - 20, high_mm + 20), preparation)


def extent_mm(localisation: Localisation) -> tuple[np.ndarray, np.ndarray]:
    return localisation.region.extent_mm()


def test_region_is_placed_by_the_skull_base_and_the_neck() -> None:
    localisation = locate(body=Body(neck_xy_mm=(25.0, 10.0)))
    low, high = extent_mm(localisation)
    assert localisation.region.size_xyz == (72, 72, 72)
    assert localisation.region.spacing_mm == (4.0, 4.0, 4.0)
    np.testing.assert_allclose(high - low, 288)
    assert high[2] == pytest.approx(TOP_MM, abs=2 * COARSE_MM)
    # The centre is the centroid of a slab that contains parts of the skull and the neck.
    assert 0 < (low + high)[0] / 2 < 30
    assert (low + high)[1] / 2 == pytest.approx(10, abs=10)
    assert "skull base" in localisation.remark


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_region_has_the_configured_size_and_spacing(interpolation: str) -> None:
    preparation = Preparation.model_validate(
        {"spacing_mm": 3, "size_xyz": (60, 50, 70), "interpolation": interpolation}
    )
    region = locate(preparation=preparation).region
    assert region.size_xyz == (60, 50, 70)
    assert region.spacing_mm == (3.0, 3.0, 3.0)
    assert region.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


@pytest.mark.parametrize("low_mm", [-420, -1000])
def test_whole_body_scan_has_the_region_of_a_head_and_neck_scan(low_mm: float) -> None:
    expected = extent_mm(locate(-320))
    np.testing.assert_allclose(extent_mm(locate(low_mm)), expected, atol=COARSE_MM)


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
def test_surroundings_of_the_head_do_not_move_the_region(body: Body) -> None:
    localisation = locate(-600, body=body)
    low, high = extent_mm(localisation)
    assert high[2] == pytest.approx(TOP_MM, abs=2 * COARSE_MM)
    np.testing.assert_allclose((low + high)[:2] / 2, (0, 10), atol=20)


@pytest.mark.parametrize("high_mm", [100, 40, 0, -20])
def test_part_of_the_skull_is_enough(high_mm: float) -> None:
    localisation = locate(high_mm=high_mm)
    assert "skull base" in localisation.remark
    assert extent_mm(localisation)[1][2] == pytest.approx(min(TOP_MM, high_mm), abs=2 * COARSE_MM)


@pytest.mark.parametrize("high_mm", [-75, -120])
def test_without_a_skull_the_region_is_at_the_upper_end_of_the_scan(high_mm: float) -> None:
    localisation = locate(-500, high_mm)
    assert localisation.remark == "region: no skull in view, placed at the upper end of the scan"
    assert extent_mm(localisation)[1][2] == pytest.approx(high_mm)


def test_region_is_moved_up_if_it_would_leave_the_lower_end_of_the_scan() -> None:
    low, high = extent_mm(locate(low_mm=-220))
    assert low[2] == pytest.approx(-220, abs=1e-6)
    assert high[2] == pytest.approx(68, abs=1e-6)


def test_region_larger_than_the_scan_begins_at_its_upper_end() -> None:
    low, high = extent_mm(locate(-150, 75))
    assert high[2] == pytest.approx(75)
    assert low[2] < -150


def test_search_is_limited_to_the_common_field_of_view() -> None:
    ct = ct_of(axial(CT_MM, -600, 100))
    localisation = find_region(ct, blank_pet(-500, -100), REGION)
    assert extent_mm(localisation)[1][2] == pytest.approx(-100)
    assert "no skull" in localisation.remark


@pytest.mark.parametrize("offset", [(2000.0, 0, 0), (0, -2000.0, 0), (0, 0, 2000.0)])
def test_ct_and_pet_without_overlap_are_rejected(offset: tuple[float, float, float]) -> None:
    ct, pet = ct_of(axial(CT_MM, -100, 100)), blank_pet(-100, 100)
    pet.SetOrigin([a + b for a, b in zip(pet.GetOrigin(), offset, strict=True)])
    with pytest.raises(InputError, match="expected CT and PET to overlap, found CT from "):
        find_region(ct, pet, REGION)


def test_ct_and_pet_that_only_touch_are_rejected() -> None:
    ct, pet = ct_of(axial(CT_MM, -100, 100)), blank_pet(100, 200)
    with pytest.raises(InputError, match="expected CT and PET to overlap"):
        find_region(ct, pet, REGION)


@pytest.mark.parametrize("hu", [-1000, 40, 1500])
def test_image_of_one_value_gives_a_central_region(hu: int) -> None:
    grid = Grid((40, 30, 60), (4.0, 4.0, 4.0), (30.0, -70.0, 2.0))
    ct, pet = grid.filled(hu, sitk.sitkInt16), grid.filled(1, sitk.sitkFloat32)
    localisation = find_region(ct, pet, REGION)
    low, high = extent_mm(localisation)
    np.testing.assert_allclose((low + high)[:2], np.add(*grid.extent_mm())[:2])
    assert localisation.coarse_body.any() == (hu > -500)


def test_single_slice_gives_a_region() -> None:
    grid = axial(CT_MM, -120, -115)
    assert grid.size_xyz[2] == 1
    localisation = find_region(ct_of(grid), blank_pet(-200, 0), REGION)
    assert extent_mm(localisation)[1][2] == pytest.approx(-115)


def test_coarse_body_excludes_the_couch() -> None:
    plain, couch = locate(-300), locate(-300, body=Body(couch=True))
    assert np.mean(plain.coarse_body != couch.coarse_body) < 0.005


def test_body_box_contains_the_body_without_the_couch() -> None:
    localisation = locate(-300, body=Body(couch=True))
    box = localisation.region.cropped(localisation.body_box)
    low, high = box.extent_mm()
    region_low, region_high = extent_mm(localisation)
    # The trunk is 400 mm wide and 240 deep, the couch begins 137 mm behind the axis.
    np.testing.assert_allclose((low[0], high[0]), (region_low[0], region_high[0]))
    assert region_low[1] <= low[1] < -90 - 3
    assert 130 + 3 < high[1] < 165


def test_body_box_without_a_body_is_the_whole_region() -> None:
    ct = axial(CT_MM, -320, 100).filled(-1000, sitk.sitkInt16)
    localisation = find_region(ct, blank_pet(-320, 100), REGION)
    assert localisation.body_box.size_xyz == localisation.region.size_xyz


def test_region_does_not_depend_on_the_order_of_the_image_axes() -> None:
    narrow = 150.0
    ct = ct_of(axial(CT_MM, -300, 60, narrow))
    pet = axial(PET_MM, -320, 50, narrow).filled(1, sitk.sitkFloat32)
    expected = extent_mm(find_region(ct, pet, REGION))
    for order, flips in orientations():
        localisation = find_region(
            reorient(ct, order, flips), reorient(pet, order[::-1], flips), REGION
        )
        np.testing.assert_allclose(extent_mm(localisation), expected, atol=COARSE_MM)


@pytest.mark.parametrize("degrees", [-20, 8])
def test_oblique_scan_has_the_region_of_an_axial_scan(degrees: float) -> None:
    grid = oblique(axial(CT_MM, -400, 100, half_width_mm=260), degrees)
    localisation = find_region(ct_of(grid), blank_pet(-400, 100), REGION)
    np.testing.assert_allclose(
        extent_mm(localisation), extent_mm(locate(-400)), atol=2.5 * COARSE_MM
    )


def assert_contains(region: Grid, labels: sitk.Image) -> None:
    voxels = np.argwhere(sitk.GetArrayViewFromImage(labels) > 0)[:, ::-1].astype(float)
    world = Grid.of(labels).world_mm(voxels)
    low, high = region.extent_mm()
    assert np.mean(np.all((world >= low) & (world <= high), axis=1)) > 0.999


@pytest.mark.parametrize("name", ["whole_body", "oblique_flipped", "no_primary"])
def test_region_contains_the_lesions_of_the_sample_cases(name: str) -> None:
    ct, pet = (
        sitk.ReadImage(str(CASES / name / f"input/images/{modality}/{name}.mha"))
        for modality in ("ct", "pet")
    )
    truth = sitk.ReadImage(str(CASES / name / "truth.nii.gz"))
    assert_contains(find_region(ct, pet, REGION).region, truth)


def test_region_contains_the_lesions_of_a_phantom_without_a_brain() -> None:
    kind = Kind(small=True, spacing_mm=(4.0, 4.0, 4.0), whole_body=False, brain_in_fov=False)
    patient = make_patient(17, 1, kind)
    assert_contains(find_region(patient.ct_hu, patient.pet_suv, REGION).region, patient.labels)


# Limits of the search, on boxes of bone and brain. CT and PET have the coarse grid's voxels, so
# that no interpolation blurs a limit.

SMALL_REGION = Preparation(spacing_mm=4, size_xyz=(16, 16, 16), interpolation="linear")
AIR, BONE, BRAIN = -1000, 151, 1
"""HU of air; the lowest HU of bone and of brain."""


SCAN = Grid((40, 40, 60), (4.0, 4.0, 4.0), (2.0, 2.0, 2.0))
"""The grid of `air()`; it begins at the world's origin."""


def air(z: int = 60, y: int = 40, x: int = 40) -> np.ndarray:
    return np.full((z, y, x), AIR, np.int16)


def draw_skull(
    ct: np.ndarray,
    size_zyx: tuple[int, int, int],
    *,
    start_zyx: tuple[int, int, int] = (30, 10, 10),
    bone: int = BONE,
    brain: int = BRAIN,
) -> None:
    """Draw a box of brain, at `start_zyx`, with walls of two voxels of bone."""
    wall, cavity = (
        tuple(slice(a - w, a + n + w) for a, n in zip(start_zyx, size_zyx, strict=True))
        for w in (2, 0)
    )
    ct[wall], ct[cavity] = bone, brain


def locate_in(ct: np.ndarray, preparation: Preparation = SMALL_REGION) -> Localisation:
    grid = replace(SCAN, size_xyz=ct.shape[::-1])
    return find_region(grid.image(ct), grid.filled(1, sitk.sitkFloat32), preparation)


def skull_base_mm(ct: np.ndarray) -> float | None:
    match = re.search(r"skull base at z = (\d+) mm", locate_in(ct).remark)
    return float(match[1]) if match else None


def test_region_begins_90_mm_above_the_skull_base() -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20))
    assert skull_base_mm(ct) == 30 * 4
    assert extent_mm(locate_in(ct))[1][2] == 120 + 90


def test_coarse_images_have_voxels_of_4_mm() -> None:
    localisation = locate_in(air(12, 10, 11))
    assert localisation.coarse_body.shape == localisation.coarse_pet.shape == (12, 10, 11)
    assert locate_in(air(1, 10, 11)).coarse_body.shape == (1, 10, 11)


@pytest.mark.parametrize(("hu", "is_body"), [(-500, False), (-499, True)])
def test_body_is_above_minus_500_hu(hu: int, is_body: bool) -> None:
    ct = air()
    ct[20:40, 10:30, 10:30] = hu
    assert locate_in(ct).coarse_body.any() == is_body


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("thickness", "is_body"), [(2, False), (3, True)])
def test_body_is_at_least_three_coarse_voxels_thick(
    axis: int, thickness: int, is_body: bool
) -> None:
    ct = air()
    box = [slice(10, 30)] * 3
    box[axis] = slice(10, 10 + thickness)
    ct[tuple(box)] = 40
    assert locate_in(ct).coarse_body.any() == is_body


def test_only_the_largest_object_is_the_body() -> None:
    ct = air()
    ct[20:40, 10:30, 10:20] = ct[20:40, 10:30, 25:34] = 40
    assert np.array_equal(
        np.any(locate_in(ct).coarse_body, axis=(0, 1)).nonzero()[0], range(10, 20)
    )


@pytest.mark.parametrize("spacing_mm", [1, 5])
def test_body_box_has_a_margin_of_12_mm(spacing_mm: int) -> None:
    ct = air()
    ct[10:60, 15:25, 15:25] = 40
    region = Preparation(
        spacing_mm=spacing_mm, size_xyz=(100 // spacing_mm,) * 3, interpolation="linear"
    )
    localisation = locate_in(ct, region)
    low, high = localisation.region.cropped(localisation.body_box).extent_mm()
    # The margin is rounded up to whole voxels, plus the one that the body touches.
    margin_mm = {1: 12 + 1, 5: 15 + 5}[spacing_mm]
    np.testing.assert_allclose((low[:2], high[:2]), ([60 - margin_mm] * 2, [100 + margin_mm] * 2))


@pytest.mark.parametrize(("bone", "is_skull"), [(150, False), (151, True)])
def test_bone_is_above_150_hu(bone: int, is_skull: bool) -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20), bone=bone)
    assert (skull_base_mm(ct) is not None) == is_skull


@pytest.mark.parametrize(("brain", "is_skull"), [(0, False), (1, True), (89, True), (90, False)])
def test_brain_is_between_0_and_90_hu(brain: int, is_skull: bool) -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20), brain=brain)
    assert (skull_base_mm(ct) is not None) == is_skull


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_brain_is_recognised_by_its_mean_over_three_voxels(axis: int) -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20))
    # The mean of three voxels is 63 HU; the mean of one or of five may be out of range.
    line = np.resize([-100, 145, 145], 20)
    cavity = ct[30:50, 10:30, 10:30]
    np.moveaxis(cavity, axis, -1)[...] = line
    assert skull_base_mm(ct) is not None


@pytest.mark.parametrize(
    ("size_zyx", "is_skull"),
    [((7, 9, 15), False), ((8, 10, 12), True), ((15, 7, 9), False), ((12, 8, 10), True)],
)
def test_cavity_has_at_least_60_ml(size_zyx: tuple[int, int, int], is_skull: bool) -> None:
    # The eight corners do not count, because their mean is that of bone. This leaves 937 and 952
    # voxels of 0.064 ml.
    ct = air()
    draw_skull(ct, size_zyx)
    assert (skull_base_mm(ct) is not None) == is_skull


@pytest.mark.parametrize(
    ("size_zyx", "is_skull"),
    [
        ((3, 20, 20), True), ((2, 24, 24), False),
        ((20, 5, 20), True), ((20, 4, 20), False),
        ((20, 20, 5), True), ((20, 20, 4), False),
    ],
)  # fmt: skip
def test_cavity_is_at_least_3_by_5_by_5_voxels_thick(
    size_zyx: tuple[int, int, int], is_skull: bool
) -> None:
    ct = air()
    draw_skull(ct, size_zyx)
    assert (skull_base_mm(ct) is not None) == is_skull


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(("width", "is_skull"), [(4, True), (5, False)])
def test_holes_in_the_skull_narrower_than_5_voxels_are_closed(
    axis: int, width: int, is_skull: bool
) -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20))
    hole = [slice(30, 50), slice(8, 10), slice(8, 10)]
    hole[axis] = slice(18, 18 + width)
    ct[tuple(hole)] = 40
    assert (skull_base_mm(ct) is not None) == is_skull


def test_slices_without_a_skull_are_not_closed_by_their_neighbours() -> None:
    ct = air()
    draw_skull(ct, (13, 9, 9))
    ct[36, 8, 8:21] = ct[36, 9, 8:21] = 40  # an open slice halves the cavity
    assert skull_base_mm(ct) is None


@pytest.mark.parametrize(("gap", "base_mm"), [(10, 10 * 4), (11, (20 + 11) * 4)])
def test_parts_of_the_cavity_up_to_40_mm_apart_belong_together(gap: int, base_mm: float) -> None:
    ct = air()
    draw_skull(ct, (10, 20, 20), start_zyx=(10, 10, 10))
    draw_skull(ct, (20, 10, 12), start_zyx=(20 + gap, 10, 10))
    ct[20 : 20 + gap, 8:32, 8:32] = BONE
    assert skull_base_mm(ct) == base_mm


def test_centre_is_that_of_the_neck_100_mm_below_the_skull_base() -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20))  # base at 120 mm
    ct[5:30, 10:20, 4:12] = 40  # neck, from 20 mm
    ct[:5, 4:36, 20:40] = 40  # trunk
    low, high = extent_mm(locate_in(ct))
    _, y, x = np.argwhere(ct[5:30] > AIR).mean(axis=0) * 4 + 2
    np.testing.assert_allclose((low + high)[:2] / 2, (x, y))


def test_centre_without_a_skull_is_that_of_the_body_in_the_region() -> None:
    ct = air()
    region = Preparation(spacing_mm=2, size_xyz=(7, 9, 11), interpolation="linear")
    # The region covers the upper 22 mm: five slices, and the centres of the sixth.
    ct[:54, 4:36, 4:10] = ct[55:, 4:36, 10:20] = ct[54, 4:36, 4:20] = 40
    low, high = extent_mm(locate_in(ct, region))
    slices_mm = [60.0] * 5 + [48.0]
    voxels = [10] * 5 + [16]
    assert (low + high)[0] / 2 == pytest.approx(np.average(slices_mm, weights=voxels))
    assert (low + high)[1] / 2 == pytest.approx(80)
    assert high[2] == pytest.approx(240)


def test_a_slice_at_the_very_end_of_the_field_of_view_counts() -> None:
    """The PET ends at the middle of the last coarse slice, 238 mm."""
    ct = air()
    ct[:58, 4:36, 4:10] = ct[58:, 4:36, 4:20] = 40
    pet = Grid((40, 40, 119), (4.0, 4.0, 2.0), (2.0, 2.0, 1.0)).filled(1, sitk.sitkFloat32)
    region = Preparation(spacing_mm=2, size_xyz=(7, 9, 4), interpolation="linear")
    low, high = extent_mm(find_region(SCAN.image(ct), pet, region))
    assert high[2] == 238
    voxels = [6, 16, 16]
    assert (low + high)[0] / 2 == pytest.approx(np.average([28.0, 48.0, 48.0], weights=voxels))


def test_the_region_moves_with_the_scan() -> None:
    ct = air()
    draw_skull(ct, (20, 20, 20))
    ct[5:30, 10:20, 4:12] = 40  # neck
    ct[:5, 4:36, 20:40] = 40  # trunk
    shift = np.array([30.0, -500.0, 900.0])
    moved = replace(SCAN, origin_mm=tuple((np.array(SCAN.origin_mm) + shift).tolist()))
    still, shifted = (
        find_region(grid.image(ct), grid.filled(1, sitk.sitkFloat32), SMALL_REGION)
        for grid in (SCAN, moved)
    )
    np.testing.assert_allclose(extent_mm(shifted), extent_mm(still) + shift)
