"""PET units: what is SUV stays, what cannot be is scaled and said."""

from __future__ import annotations

import numpy as np
import pytest

from shared.preprocessing.uptake import HIGHEST_MEAN_SUV, TYPICAL_MEDIAN_SUV, suv_scale


def volume(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, 1, -1)


ALL = np.ones((1, 1, 4), bool)


def test_suv_stays_without_a_remark() -> None:
    assert suv_scale(volume(0.5, 1, 2, 15), ALL) == (1.0, None)


def test_activity_is_scaled_so_that_the_bodys_median_is_typical() -> None:
    scale, remark = suv_scale(volume(2000, 4000, 6000, 78000), ALL)
    assert scale == pytest.approx(TYPICAL_MEDIAN_SUV / 5000)
    assert remark is not None
    assert "mean of 22500 in the body" in remark
    assert "Bq/mL" in remark
    assert "0.00012" in remark


def test_voxels_outside_the_body_or_without_uptake_do_not_count() -> None:
    body = np.array([[[True, True, True, False]]])
    scale, _ = suv_scale(volume(0, 3000, 5000, 900000), body)
    assert scale == pytest.approx(TYPICAL_MEDIAN_SUV / 4000)


@pytest.mark.parametrize("pet", [volume(0, 0, 0, 0), volume(-1, 0, -2, 0)])
def test_no_uptake_is_said_and_left(pet: np.ndarray) -> None:
    assert suv_scale(pet, ALL) == (1.0, "PET: no uptake anywhere in the body")


def test_no_body_counts_as_no_uptake() -> None:
    assert suv_scale(volume(1, 2, 3, 4), ~ALL)[0] == 1.0


@pytest.mark.parametrize(("factor", "scaled"), [(0.99, False), (1.01, True)])
def test_the_bound_is_the_mean_in_the_body(factor: float, scaled: bool) -> None:
    scale, remark = suv_scale(volume(*[factor * HIGHEST_MEAN_SUV] * 4), ALL)
    assert (scale != 1.0) == scaled == (remark is not None)


def test_a_hot_bladder_alone_does_not_make_an_suv_image_activity() -> None:
    rng = np.random.default_rng(0)
    pet = rng.gamma(2, 0.4, (20, 20, 20)).astype(np.float32)
    pet[:2, :2, :2] = 2016  # the highest SUV of the challenge's data
    assert suv_scale(pet, np.ones(pet.shape, bool)) == (1.0, None)
