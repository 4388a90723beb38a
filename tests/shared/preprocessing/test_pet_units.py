"""Units of a PET: SUV stays, Bq/mL is scaled and reported."""

from __future__ import annotations

import numpy as np
import pytest

from shared.preprocessing.pet_units import suv_scale

TYPICAL_MEDIAN_SUV = 0.6


def volume(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


ALL = np.ones((1, 1, 4), bool)


def test_suv_stays_without_a_remark() -> None:
    assert suv_scale(volume(0.5, 1, 2, 15), ALL) == (1.0, None)
    assert suv_scale(volume(0.1, 0.1, 0.1, 0.1), ALL) == (1.0, None)


def test_activity_is_scaled_to_the_typical_median() -> None:
    scale, remark = suv_scale(volume(2000, 4000, 6000, 78000), ALL)
    assert scale == pytest.approx(TYPICAL_MEDIAN_SUV / 5000)
    assert remark is not None
    assert remark == (
        "PET: mean of 22500 in the body is not in SUV; read as Bq/mL and multiplied by 0.00012, "
        "which gives the body a median SUV of 0.6"
    )


def test_voxels_outside_the_body_or_without_uptake_do_not_count() -> None:
    body = np.array([[[True, True, True, False]]])
    scale, _ = suv_scale(volume(0, 3000, 5000, 900000), body)
    assert scale == pytest.approx(TYPICAL_MEDIAN_SUV / 4000)


@pytest.mark.parametrize("pet", [volume(0, 0, 0, 0), volume(-1, 0, -2, 0)])
def test_pet_without_uptake_stays_and_is_reported(pet: np.ndarray) -> None:
    assert suv_scale(pet, ALL) == (1.0, "PET: no uptake anywhere in the body")


def test_no_body_counts_as_no_uptake() -> None:
    assert suv_scale(volume(1, 2, 3, 4), ~ALL)[0] == 1.0


@pytest.mark.parametrize(("mean", "is_activity"), [(49.9, False), (50.0, False), (50.1, True)])
def test_limit_is_the_mean_in_the_body(mean: float, is_activity: bool) -> None:
    scale, remark = suv_scale(volume(*[mean] * 4), ALL)
    assert (scale != 1.0) == is_activity == (remark is not None)


def test_hot_bladder_does_not_make_an_suv_image_activity() -> None:
    rng = np.random.default_rng(0)
    pet = rng.gamma(2, 0.4, (20, 20, 20)).astype(np.float32)
    pet[:2, :2, :2] = 2016  # the highest SUV of the challenge's data
    assert suv_scale(pet, np.ones(pet.shape, bool)) == (1.0, None)
