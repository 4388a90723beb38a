"""Units of a PET: SUV stays; kBq/mL, Bq/mL and counts are scaled and reported."""

from __future__ import annotations

import numpy as np
import pytest

from shared.preprocessing.pet_units import suv_scale

TYPICAL_QUARTILE_SUV = 0.43


def volume(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


ALL = np.ones((1, 1, 4), bool)


def test_suv_stays_without_a_remark() -> None:
    assert suv_scale(volume(0.3, 0.5, 0.9, 15), ALL) == (1.0, None)
    assert suv_scale(volume(0.1, 0.1, 0.1, 0.1), ALL) == (1.0, None)


def test_activity_is_scaled_to_the_typical_quartile() -> None:
    scale, remark = suv_scale(volume(2000, 4000, 6000, 78000), ALL)
    assert scale == pytest.approx(TYPICAL_QUARTILE_SUV / 3500)
    assert remark is not None
    assert remark == (
        "PET: lower quartile of 3.5e+03 in the body is not in SUV; read as Bq/mL and multiplied by "
        "0.000123, which makes the quartile 0.43"
    )


@pytest.mark.parametrize(
    ("quartile", "unit"),
    [
        (0.06, None),
        (0.4, None),
        (0.99, None),
        (1.01, "kBq/mL"),
        (2.0, "kBq/mL"),
        (20.0, "kBq/mL"),
        (100.0, "counts"),
        (2000.0, "Bq/mL"),
        (1e8, "Bq/mL"),
        (0.001, "an unknown unit"),
    ],
)
def test_unit_by_the_lower_quartile_in_the_body(quartile: float, unit: str | None) -> None:
    pet = volume(quartile, quartile, quartile * 2, quartile * 10)
    scale, remark = suv_scale(pet, ALL)
    if unit is None:
        assert (scale, remark) == (1.0, None)
    else:
        assert scale == pytest.approx(TYPICAL_QUARTILE_SUV / quartile)
        assert f"read as {unit} and multiplied" in (remark or "")


def test_brain_in_half_of_the_body_stays_suv() -> None:
    assert suv_scale(volume(0.4, 0.6, 6, 8), ALL) == (1.0, None)


def test_low_uptake_with_hot_lesions_stays_suv() -> None:
    assert suv_scale(volume(0.01, 0.02, 0.02, 8), ALL) == (1.0, None)


def test_voxels_outside_the_body_or_without_uptake_do_not_count() -> None:
    body = np.array([[[True, True, True, False]]])
    scale, _ = suv_scale(volume(0, 3000, 5000, 900000), body)
    assert scale == pytest.approx(TYPICAL_QUARTILE_SUV / 3500)


@pytest.mark.parametrize("pet", [volume(0, 0, 0, 0), volume(-1, 0, -2, 0), volume(*[1e-40] * 4)])
def test_pet_without_uptake_stays_and_is_reported(pet: np.ndarray) -> None:
    assert suv_scale(pet, ALL) == (1.0, "PET: no uptake anywhere in the body")


def test_no_body_counts_as_no_uptake() -> None:
    assert suv_scale(volume(1, 2, 3, 4), ~ALL)[0] == 1.0


def test_hot_bladder_does_not_make_an_suv_image_activity() -> None:
    rng = np.random.default_rng(0)
    pet = rng.gamma(2, 0.4, (20, 20, 20)).astype(np.float32)
    pet[:2, :2, :2] = 2016  # the highest SUV of the challenge's data
    assert suv_scale(pet, np.ones(pet.shape, bool)) == (1.0, None)
