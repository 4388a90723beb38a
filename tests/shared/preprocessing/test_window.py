"""Windows inside a volume, and the centre of the lesions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.preprocessing.window import lesion_centre, window_box


def test_window_without_a_centre_is_central() -> None:
    assert window_box((10, 8, 6), (4, 8, 3)) == (slice(3, 7), slice(0, 8), slice(2, 5))


@pytest.mark.parametrize(("centre", "start"), [(0, 0), (2, 0), (5, 3), (8, 6), (9, 6), (50, 6)])
def test_window_is_shifted_to_stay_in_the_volume(centre: int, start: int) -> None:
    z, _, _ = window_box((10, 10, 10), (4, 4, 4), (centre, 5, 5))
    assert z == slice(start, start + 4)


def test_window_larger_than_the_volume_is_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"window that fits .* \(10, 10, 10\) .* found \(4, 11, 4\)"
    ):
        window_box((10, 10, 10), (4, 11, 4))


@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.integers(-9, 49)] * 3), st.data())
def test_window_is_in_the_volume_and_contains_its_centre(
    shape: tuple[int, int, int], centre: tuple[int, int, int], data: st.DataObject
) -> None:
    window = tuple(data.draw(st.integers(1, size)) for size in shape)
    for box, c, w, size in zip(
        window_box(shape, window, centre), centre, window, shape, strict=True
    ):
        assert box.start >= 0
        assert box.stop - box.start == w
        assert box.stop <= size
        assert box.start <= c < box.stop or not 0 <= c < size


def test_lesion_centre_is_the_centre_of_the_box_around_all_lesions() -> None:
    labels = np.zeros((10, 20, 30), np.uint8)
    labels[2, 5, 7] = 1
    labels[6, 15, 9] = 2
    assert lesion_centre(labels) == (4, 10, 8)


def test_without_lesions_there_is_no_centre() -> None:
    assert lesion_centre(np.zeros((2, 3, 4), np.uint8)) is None
