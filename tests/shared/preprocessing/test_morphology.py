"""Opening and closing by a box: by hand, against SimpleITK, and what holds for any mask."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from shared.preprocessing.morphology import closed, opened

MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7))
RADII = st.tuples(*[st.integers(0, 2)] * 3)


def test_opening_removes_what_is_thinner_than_the_box() -> None:
    line = np.array([0, 1, 0, 1, 1, 0, 1, 1, 1, 0], bool).reshape(1, 1, 10)
    kept = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 0], bool).reshape(1, 1, 10)
    np.testing.assert_array_equal(opened(line, (0, 0, 1)), kept)


def test_closing_fills_what_is_thinner_than_the_box() -> None:
    line = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1], bool).reshape(1, 11, 1)
    filled = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1], bool).reshape(1, 11, 1)
    np.testing.assert_array_equal(closed(line, (0, 1, 0)), filled)


def test_an_edge_of_the_array_is_no_edge_of_the_mask() -> None:
    line = np.array([1, 1, 0, 1, 0, 0], bool).reshape(6, 1, 1)
    kept = np.array([1, 1, 0, 0, 0, 0], bool).reshape(6, 1, 1)
    np.testing.assert_array_equal(opened(line, (1, 0, 0)), kept)
    np.testing.assert_array_equal(closed(~line, (1, 0, 0)), ~kept)


@pytest.mark.parametrize("radius_zyx", [(1, 1, 1), (0, 2, 2), (1, 2, 2)])
def test_as_simpleitk(radius_zyx: tuple[int, int, int]) -> None:
    mask = np.random.default_rng(0).random((9, 14, 17)) < 0.85
    image, radius_xyz = sitk.GetImageFromArray(mask.astype(np.uint8)), radius_zyx[::-1]
    eroded = sitk.GrayscaleErode(image, radius_xyz, sitk.sitkBox)
    dilated = sitk.GrayscaleDilate(image, radius_xyz, sitk.sitkBox)
    assert_same(opened(mask, radius_zyx), sitk.GrayscaleDilate(eroded, radius_xyz, sitk.sitkBox))
    assert_same(closed(mask, radius_zyx), sitk.GrayscaleErode(dilated, radius_xyz, sitk.sitkBox))


def assert_same(mask: NDArray[np.bool_], image: sitk.Image) -> None:
    np.testing.assert_array_equal(mask, sitk.GetArrayFromImage(image).astype(bool))


@given(mask=MASKS, radius=RADII)
def test_opening_shrinks_closing_grows_and_doing_it_twice_changes_nothing(
    mask: NDArray[np.bool_], radius: tuple[int, int, int]
) -> None:
    small, large = opened(mask, radius), closed(mask, radius)
    assert not np.any(small & ~mask)
    assert not np.any(mask & ~large)
    np.testing.assert_array_equal(opened(small, radius), small)
    np.testing.assert_array_equal(closed(large, radius), large)
