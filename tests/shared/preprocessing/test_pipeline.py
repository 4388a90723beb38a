"""A case is mapped to its region and back without loss of values, geometry or remarks."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import AIR_HU, LESIONS, LabelVolume
from shared.geometry import Grid, resample
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import CT_RANGE_HU, Prepared, prepare
from shared.preprocessing.region import BODY_HU
from tests.shared.postprocessing.segmented import certain
from tests.shared.preprocessing.drawing import (
    FINE_REGION,
    REGION,
    Body,
    axial,
    ct_of,
    labels_of,
    oblique,
    orientations,
    pet_of,
    reorient,
)

CT_MM, PET_MM = (4.0, 4.0, 5.0), (8.0, 8.0, 6.0)
LOW_MM, HIGH_MM, NARROW_MM = -280, 60, 150


def case_of(ct: sitk.Image, pet: sitk.Image, remarks: tuple[str, ...] = ()) -> Case:
    return Case(ct_hu=ct, pet=pet, clinical=ClinicalRecord(), remarks=remarks)


def drawn_case(body: Body | None = None) -> Case:
    ct = ct_of(axial(CT_MM, LOW_MM, HIGH_MM, NARROW_MM), body or Body())
    return case_of(ct, pet_of(axial(PET_MM, LOW_MM - 30, HIGH_MM + 30)))


def at_world(volume: np.ndarray, prepared: Prepared, *point_mm: float) -> float:
    x, y, z = np.rint(prepared.undo.region.index(np.array([point_mm]))[0]).astype(int)
    return float(volume[z, y, x])


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(drawn_case(), REGION)


def test_prepared_volumes_have_the_shape_of_the_region(prepared: Prepared) -> None:
    shape = prepared.undo.region.shape_zyx
    assert shape == (72, 72, 72)
    assert prepared.ct_hu.shape == prepared.pet_suv.shape == prepared.body.shape == shape
    assert prepared.ct_hu.dtype == prepared.pet_suv.dtype == np.float32
    assert prepared.body.dtype == bool


def test_undo_has_the_grid_of_the_ct(prepared: Prepared) -> None:
    assert prepared.undo.ct == Grid.of(drawn_case().ct_hu)


def test_values_are_at_the_positions_of_the_drawing(prepared: Prepared) -> None:
    assert at_world(prepared.ct_hu, prepared, 0, 0, 10) == pytest.approx(35, abs=1)  # brain
    assert at_world(prepared.ct_hu, prepared, 0, 40, -120) == pytest.approx(700, abs=1)  # spine
    assert at_world(prepared.ct_hu, prepared, 100, -100, -60) == pytest.approx(AIR_HU, abs=1)
    assert at_world(prepared.pet_suv, prepared, 0, 0, 10) == pytest.approx(6, abs=0.1)
    assert at_world(prepared.pet_suv, prepared, 12, -10, -110) == pytest.approx(12, abs=0.1)
    assert at_world(prepared.pet_suv, prepared, 100, -100, -60) == 0


def test_body_is_everything_but_air(prepared: Prepared) -> None:
    assert at_world(prepared.body, prepared, 0, 0, 10)
    assert not at_world(prepared.body, prepared, 100, -100, -60)
    assert np.array_equal(prepared.body, prepared.ct_hu > -500)


def test_body_threshold_itself_is_air() -> None:
    case = drawn_case()
    ct = sitk.GetArrayFromImage(case.ct_hu)
    ct[40:48, 30:40, 30:40] = BODY_HU
    patched = Grid.of(case.ct_hu).image(ct)
    x_mm, y_mm, z_mm = patched.TransformIndexToPhysicalPoint((35, 35, 44))
    prepared = prepare(case_of(patched, case.pet), REGION)
    assert at_world(prepared.ct_hu, prepared, x_mm, y_mm, z_mm) == BODY_HU
    assert not at_world(prepared.body, prepared, x_mm, y_mm, z_mm)


def test_ct_range_is_that_of_twelve_bits() -> None:
    assert CT_RANGE_HU == (-(2**10), 2**12 - 2**10 - 1)


def test_remarks_of_the_reader_come_first(prepared: Prepared) -> None:
    assert len(prepared.remarks) == 1
    ct, pet = drawn_case().ct_hu, drawn_case().pet
    first, *others = prepare(case_of(ct, pet, ("ct-image: read",)), REGION).remarks
    assert first == "ct-image: read"
    assert tuple(others) == prepared.remarks


def test_air_without_uptake_fills_the_region_outside_the_scan() -> None:
    ct = ct_of(axial(CT_MM, -150, HIGH_MM, NARROW_MM))
    short = prepare(case_of(ct, pet_of(axial(PET_MM, -150, HIGH_MM))), REGION)
    z_mm = short.undo.region.origin_mm[2] + 4 * np.arange(72)
    below = z_mm < -155
    assert below.sum() > 10
    assert np.all(short.ct_hu[below] == AIR_HU)
    assert np.all(short.pet_suv[below] == 0)
    assert not short.body[below].any()


def test_region_outside_a_smaller_pet_has_no_uptake() -> None:
    ct = ct_of(axial(CT_MM, LOW_MM, HIGH_MM, NARROW_MM))
    part = prepare(case_of(ct, pet_of(axial(PET_MM, -200, 0, half_width_mm=60))), REGION)
    assert at_world(part.pet_suv, part, 12, -10, -110) == pytest.approx(12, abs=0.1)
    assert at_world(part.pet_suv, part, 90, 10, -100) == 0
    assert at_world(part.ct_hu, part, 0, 40, -120) == pytest.approx(700, abs=1)


def test_air_without_uptake_fills_the_region_outside_the_body_box() -> None:
    case = drawn_case()
    ct = sitk.GetArrayFromImage(case.ct_hu)
    ct[:, 2:5, 10:60] = 60  # a bottle in front of the patient
    full = prepare(case_of(Grid.of(case.ct_hu).image(ct), case.pet * 0 + 1.0), REGION)
    assert at_world(full.ct_hu, full, 0, -138, -20) == AIR_HU
    assert at_world(full.pet_suv, full, 0, -138, -20) == 0
    assert at_world(full.pet_suv, full, 0, 0, 0) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize("padding_hu", [-3024, -10504])
def test_padding_and_metal_stay_in_the_range_of_a_ct(interpolation: str, padding_hu: float) -> None:
    preparation = REGION.model_copy(update={"interpolation": interpolation})
    ct_grid = axial(CT_MM, LOW_MM, HIGH_MM)
    pet = pet_of(axial(PET_MM, LOW_MM, HIGH_MM))
    plain = prepare(case_of(ct_of(ct_grid), pet), preparation)
    disturbed = prepare(
        case_of(ct_of(ct_grid, Body(padding_hu=padding_hu, metal=True)), pet), preparation
    )
    low, high = CT_RANGE_HU
    overshoot = 0 if interpolation == "linear" else 0.3 * (high - low)
    assert disturbed.ct_hu.min() >= low - overshoot
    assert disturbed.ct_hu.max() <= high + overshoot
    np.testing.assert_allclose(disturbed.undo.region.origin_mm, plain.undo.region.origin_mm, atol=4)
    # 3 cm away from padding and metal nothing changes.
    assert at_world(disturbed.ct_hu, disturbed, 0, 0, 10) == pytest.approx(35, abs=1)
    assert at_world(disturbed.ct_hu, disturbed, 30, -20, -120) == pytest.approx(40, abs=1)


def test_activity_is_recognised_reported_and_scaled(prepared: Prepared) -> None:
    case = drawn_case()
    activity = prepare(case_of(case.ct_hu, case.pet * 4321.0), REGION)
    assert any("read as Bq/mL" in remark for remark in activity.remarks)
    # The ratio is constant; the scale is an estimate, correct to a factor of two.
    ratio = activity.pet_suv[prepared.pet_suv > 0.1] / prepared.pet_suv[prepared.pet_suv > 0.1]
    assert np.ptp(ratio) < 1e-3
    assert 0.5 < ratio.mean() < 2


def test_negative_uptake_becomes_zero() -> None:
    case = drawn_case()
    assert prepare(case_of(case.ct_hu, case.pet - 0.5), REGION).pet_suv.min() == 0


def test_pet_without_uptake_gives_a_remark() -> None:
    case = drawn_case()
    blank = prepare(case_of(case.ct_hu, case.pet * 0.0), REGION)
    assert not blank.pet_suv.any()
    assert "PET: no uptake anywhere in the body" in blank.remarks


@pytest.mark.parametrize("kind", [sitk.sitkInt32, sitk.sitkFloat32, sitk.sitkFloat64])
def test_result_does_not_depend_on_the_pixel_type(prepared: Prepared, kind: int) -> None:
    case = drawn_case()
    same = prepare(
        case_of(sitk.Cast(case.ct_hu, kind), sitk.Cast(case.pet, sitk.sitkFloat64)), REGION
    )
    assert np.array_equal(same.ct_hu, prepared.ct_hu)
    assert np.array_equal(same.pet_suv, prepared.pet_suv)


# Round trips


def overlap(labels: LabelVolume, truth: LabelVolume, label: int) -> float:
    one, other = labels == label, truth == label
    return float(2 * np.sum(one & other) / (one.sum() + other.sum()))


def centroid_vox(labels: LabelVolume, label: int) -> np.ndarray:
    return np.argwhere(labels == label).mean(axis=0)


def assert_round_trip(ct: sitk.Image, pet: sitk.Image, truth: sitk.Image) -> None:
    """Resample the labels of a case onto the region and back, and compare."""
    undo = prepare(case_of(ct, pet), FINE_REGION).undo
    on_region = sitk.GetArrayFromImage(
        resample(truth, undo.region, interpolation="nearest", outside=0)
    )
    restored = restore(certain(on_region), undo)
    assert restored.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(restored) == Grid.of(ct)
    result, expected = sitk.GetArrayFromImage(restored), sitk.GetArrayFromImage(truth)
    for label in LESIONS.values():
        assert overlap(result, expected, label) >= 0.95
        shift = centroid_vox(result, label) - centroid_vox(expected, label)
        assert np.all(np.abs(shift) <= 0.5)


def test_round_trip_in_all_48_orientations() -> None:
    grid = axial((3.0, 2.5, 4.0), LOW_MM, HIGH_MM, NARROW_MM)
    ct, truth = ct_of(grid), labels_of(grid)
    pet = pet_of(axial(PET_MM, LOW_MM - 30, HIGH_MM + 30))
    count = 0
    for order, flips in orientations():
        turned_pet = reorient(pet, order[::-1], flips[::-1])
        assert_round_trip(reorient(ct, order, flips), turned_pet, reorient(truth, order, flips))
        count += 1
    assert count == 48


@pytest.mark.parametrize("degrees", [-25, 10])
def test_round_trip_of_an_oblique_scan(degrees: float) -> None:
    grid = oblique(axial((3.0, 2.5, 4.0), LOW_MM, HIGH_MM, NARROW_MM + 50), degrees)
    pet = pet_of(oblique(axial(PET_MM, LOW_MM, HIGH_MM), degrees / 3))
    assert_round_trip(ct_of(grid), pet, labels_of(grid))


def test_round_trip_of_a_scan_smaller_than_the_region() -> None:
    grid = axial((2.0, 2.0, 3.0), -190, -70, half_width_mm=80)
    assert_round_trip(ct_of(grid), pet_of(axial(PET_MM, -200, -60)), labels_of(grid))
