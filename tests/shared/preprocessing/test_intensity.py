"""HU, SUV and labels become the channels of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from shared.preprocessing.intensity import (
    IMAGE_CHANNELS,
    Channel,
    Intensity,
    NnunetIntensity,
    network_channels,
    nonzero_box,
    scale_ct,
    scale_images,
    scale_pet,
)

INTENSITY = Intensity(ct_window_hu=(-250, 250), pet_max_suv=25, pet_unit_suv=5)
LABELS = np.array([[[0, 1, 2, 1]]], np.uint8)


CT_HU = np.array([[[-1000, 0, 125, 3000]]], np.float32)
PET_SUV = np.array([[[0, 5, 10, 100]]], np.float32)


def test_ct_by_hand() -> None:
    hu = np.array([-1000, -250, 0, 125, 250, 3000], np.float32)
    assert scale_ct(hu, INTENSITY) == pytest.approx([-1, -1, 0, 0.5, 1, 1], abs=1e-6)
    shifted = INTENSITY.model_copy(update={"ct_window_hu": (-100.0, 300.0)})
    assert scale_ct(hu, shifted) == pytest.approx([-1, -1, -0.5, 0.125, 0.75, 1], abs=1e-6)


def test_pet_by_hand() -> None:
    suv = np.array([-1, 0, 2.5, 5, 25, 2016], np.float32)
    assert scale_pet(suv, INTENSITY).tolist() == [0, 0, 0.5, 1, 5, 5]


def test_scaling_does_not_change_its_argument_and_returns_float32() -> None:
    for scale in (scale_ct, scale_pet):
        values = np.linspace(-2000, 4000, 50, dtype=np.float32)
        before = values.copy()
        assert scale(values, INTENSITY).dtype == np.float32
        assert np.array_equal(values, before)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (("CT", "PET"), [[-1, 0, 0.5, 1], [0, 1, 2, 5]]),
        (("PET", "CT"), [[0, 1, 2, 5], [-1, 0, 0.5, 1]]),
        (("GTVn", "PET", "GTVp"), [[0, 0, 1, 0], [0, 1, 2, 5], [0, 1, 0, 1]]),
    ],
)
def test_channels_are_in_the_given_order(
    channels: Sequence[Channel], expected: list[list[float]]
) -> None:
    image = network_channels(scale_images(CT_HU, PET_SUV, INTENSITY), channels, LABELS)
    assert image.shape == (len(channels), 1, 1, 4)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[:, 0, 0], expected, atol=1e-6)


def test_scaled_images_are_in_the_order_of_the_image_channels() -> None:
    images = scale_images(CT_HU, PET_SUV, INTENSITY)
    assert tuple(images) == IMAGE_CHANNELS
    np.testing.assert_array_equal(images["CT"], scale_ct(CT_HU, INTENSITY))
    np.testing.assert_array_equal(images["PET"], scale_pet(PET_SUV, INTENSITY))


def test_lesion_channels_need_labels() -> None:
    with pytest.raises(ValueError, match="the channel GTVp needs a label map"):
        network_channels(scale_images(CT_HU, PET_SUV, INTENSITY), ("CT", "GTVp"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"pet_max_suv": 0},
        {"pet_unit_suv": -1},
        {"ct_window_hu": (250, -250)},
        {"ct_window_hu": (100, 100)},
        {"gain": 2},
    ],
)
def test_impossible_scales_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Intensity.model_validate({**INTENSITY.model_dump(), **wrong})


NNUNET = NnunetIntensity(
    kind="nnunet", ct_range_hu=(-100, 300), ct_mean_hu=50, ct_std_hu=25, pet_nonzero_only=False
)


def test_nnunet_scales_ct_by_its_plans_and_pet_by_the_case() -> None:
    images = scale_images(CT_HU, PET_SUV, NNUNET)
    assert images["CT"][0, 0].tolist() == [-6, -2, 3, 10]
    mean, variance = 115 / 4, (25 + 100 + 10_000) / 4 - (115 / 4) ** 2
    expected = (np.array([0, 5, 10, 100]) - mean) / np.sqrt(variance)
    np.testing.assert_allclose(images["PET"][0, 0], expected, rtol=1e-6)
    assert {image.dtype for image in images.values()} == {np.dtype(np.float32)}


def test_nnunet_scaling_does_not_change_its_arguments() -> None:
    for intensity in (NNUNET, NNUNET.model_copy(update={"pet_nonzero_only": True})):
        ct, pet = CT_HU.copy(), PET_SUV.copy()
        scale_images(ct, pet, intensity)
        np.testing.assert_array_equal(ct, CT_HU)
        np.testing.assert_array_equal(pet, PET_SUV)


def test_uniform_pet_becomes_zero() -> None:
    pet = np.full((2, 2, 2), 3, np.float32)
    assert not scale_images(pet, pet, NNUNET)["PET"].any()


def test_nnunet_may_scale_pet_only_where_an_image_is_not_zero() -> None:
    """A hole that non-zero voxels enclose counts too; the voxels outside keep the value 0."""
    ct, pet = np.zeros((2, 5, 5, 5), np.float32)
    pet[1:4, 1:4, 1:4] = 4
    pet[2, 2, 2] = 0
    masked = NNUNET.model_copy(update={"pet_nonzero_only": True})
    scaled = scale_images(ct, pet, masked)["PET"]
    mean = 4 * 26 / 27
    std = np.sqrt(16 * 26 / 27 - mean**2)
    assert scaled[0, 0, 0] == 0
    assert scaled[1, 1, 1] == pytest.approx((4 - mean) / std, rel=1e-5)
    assert scaled[2, 2, 2] == pytest.approx(-mean / std, rel=1e-5)


def test_images_that_are_zero_everywhere_stay_so() -> None:
    zeros = np.zeros((2, 2, 2), np.float32)
    masked = NNUNET.model_copy(update={"pet_nonzero_only": True})
    assert not scale_images(zeros, zeros, masked)["PET"].any()
    assert zeros[nonzero_box(zeros, zeros)].shape == (2, 2, 2)


def test_nonzero_box_holds_every_voxel_that_is_not_zero_in_ct_or_pet() -> None:
    ct, pet = np.zeros((2, 6, 7, 8), np.float32)
    ct[1, 2, 3] = -1000
    pet[4, 2, 5] = 1
    assert nonzero_box(ct, pet) == (slice(1, 5), slice(2, 3), slice(3, 6))


@pytest.mark.parametrize(
    "wrong", [{"ct_std_hu": 0}, {"ct_range_hu": (1, 0)}, {"kind": "window"}, {"gain": 1}]
)
def test_impossible_scales_of_nnunet_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NnunetIntensity.model_validate({**NNUNET.model_dump(), **wrong})
