"""Opening and closing by a box: by hand, against SimpleITK, and properties of any mask."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from shared.preprocessing.morphology import close_mask, open_mask

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7))
RADII = st.tuples(*[st.integers(0, 2)] * 3)


def test_opening_removes_parts_thinner_than_the_box() -> None:
    line = np.array([0, 1, 0, 1, 1, 0, 1, 1, 1, 0], bool).reshape(1, 1, 10)
    expected = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 0], bool).reshape(1, 1, 10)
    np.testing.assert_array_equal(open_mask(line, (0, 0, 1)), expected)


def test_closing_fills_gaps_thinner_than_the_box() -> None:
    line = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1], bool).reshape(1, 11, 1)
    expected = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1], bool).reshape(1, 11, 1)
    np.testing.assert_array_equal(close_mask(line, (0, 1, 0)), expected)


def test_edge_of_the_array_is_not_an_edge_of_the_mask() -> None:
    line = np.array([1, 1, 0, 1, 0, 0], bool).reshape(6, 1, 1)
    expected = np.array([1, 1, 0, 0, 0, 0], bool).reshape(6, 1, 1)
    np.testing.assert_array_equal(open_mask(line, (1, 0, 0)), expected)
    np.testing.assert_array_equal(close_mask(~line, (1, 0, 0)), ~expected)


@pytest.mark.parametrize("radius_zyx", [(1, 1, 1), (0, 2, 2), (1, 2, 2)])
def test_equals_simpleitk(radius_zyx: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(0).random((9, 14, 17)) < 0.85
    image, radius_xyz = sitk.GetImageFromArray(mask.astype(np.uint8)), radius_zyx[::-1]
    eroded = sitk.GrayscaleErode(image, radius_xyz, sitk.sitkBox)
    dilated = sitk.GrayscaleDilate(image, radius_xyz, sitk.sitkBox)
    assert_same(open_mask(mask, radius_zyx), sitk.GrayscaleDilate(eroded, radius_xyz, sitk.sitkBox))
    assert_same(
        close_mask(mask, radius_zyx), sitk.GrayscaleErode(dilated, radius_xyz, sitk.sitkBox)
    )


def assert_same(mask: NDArray[np.bool_], image: sitk.Image) -> None:
    np.testing.assert_array_equal(mask, sitk.GetArrayFromImage(image).astype(bool))


@given(mask=MASKS, radius=RADII)
def test_opening_shrinks_closing_grows_and_both_are_idempotent(
    mask: NDArray[np.bool_], radius: tuple[int, int, int]
) -> None:
    small, large = open_mask(mask, radius), close_mask(mask, radius)
    assert not np.any(small & ~mask)
    assert not np.any(mask & ~large)
    np.testing.assert_array_equal(open_mask(small, radius), small)
    np.testing.assert_array_equal(close_mask(large, radius), large)
