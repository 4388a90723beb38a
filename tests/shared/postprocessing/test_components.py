"""Removal of small components: by hand, and properties of any label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.conventions import Label, LabelVolume
from shared.postprocessing.components import remove_small

BOTH = {Label.GTVP: 100.0, Label.GTVN: 100.0}


def cubes(*lesions: tuple[int, tuple[slice, slice, slice]]) -> LabelVolume:
    labels = np.zeros((12, 12, 12), np.uint8)
    for label, box in lesions:
        labels[box] = label
    return labels


SMALL, LARGE = np.s_[0:2, 0:2, 0:2], np.s_[5:9, 5:9, 5:9]  # 8 and 64 voxels


@pytest.mark.parametrize(
    ("voxel_mm3", "small_stays", "large_stays"),
    [
        (1.0, False, False),
        (1.5, False, False),
        (2.0, False, True),
        (12.4, False, True),
        (12.5, True, True),
    ],
)
def test_sizes_are_in_mm3(voxel_mm3: float, small_stays: bool, large_stays: bool) -> None:
    result = remove_small(cubes((1, SMALL), (1, LARGE)), voxel_mm3, BOTH)
    assert bool(result[SMALL].any()) == small_stays
    assert bool(result[LARGE].any()) == large_stays


def test_each_label_has_its_own_limit() -> None:
    labels = cubes((1, SMALL), (2, LARGE), (1, np.s_[10:12, 10:12, 10:12]))
    result = remove_small(labels, 1.0, {Label.GTVP: 9, Label.GTVN: 64})
    assert np.array_equal(result, cubes((2, LARGE)))


def test_label_without_a_limit_keeps_all_components() -> None:
    labels = cubes((1, SMALL), (2, np.s_[3, 3, 3]))
    result = remove_small(labels, 1.0, {Label.GTVP: 100})
    assert np.array_equal(result, cubes((2, np.s_[3, 3, 3])))
    assert np.array_equal(remove_small(labels, 1.0, {}), labels)


def test_voxels_that_share_a_corner_are_connected() -> None:
    labels = cubes((1, np.s_[0, 0, 0]), (1, np.s_[1, 1, 1]))
    assert np.array_equal(remove_small(labels, 1.0, {Label.GTVP: 2}), labels)


def test_voxels_of_different_labels_are_not_connected() -> None:
    labels = cubes((1, np.s_[0, 0, 0:3]), (2, np.s_[0, 0, 3:6]))
    assert not remove_small(labels, 1.0, {Label.GTVP: 4, Label.GTVN: 4}).any()


def test_component_inside_the_other_label_becomes_background() -> None:
    labels = cubes((1, LARGE), (2, np.s_[6, 6, 6]))
    result = remove_small(labels, 1.0, {Label.GTVN: 2})
    assert result[6, 6, 6] == Label.BACKGROUND
    assert (result == 1).sum() == 63


def test_component_that_fills_the_whole_volume_is_removed() -> None:
    assert not remove_small(np.full((2, 2, 2), 1, np.uint8), 1.0, BOTH).any()


def test_empty_label_map_stays_empty() -> None:
    assert not remove_small(cubes(), 1.0, BOTH).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lesions_in_a_single_line_of_voxels(axis: int) -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    second = [1, 0, 0]
    second[axis] += 2
    labels[1, 0, 0] = labels[tuple(second)] = 1
    assert np.array_equal(remove_small(labels, 1.0, {Label.GTVP: 1}), labels)
    assert not remove_small(labels, 1.0, {Label.GTVP: 2}).any()


LABELS = arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 0, 0, 1, 2]))


@given(LABELS, st.floats(0.1, 5), st.floats(0, 60))
def test_removal_adds_nothing_and_is_idempotent(
    labels: LabelVolume, voxel_mm3: float, minimum_mm3: float
) -> None:
    before = labels.copy()
    limits = {Label.GTVP: minimum_mm3, Label.GTVN: minimum_mm3}
    result = remove_small(labels, voxel_mm3, limits)
    assert np.array_equal(labels, before)
    assert result.dtype == np.uint8
    assert np.all((result == labels) | (result == 0))
    assert np.array_equal(remove_small(result, voxel_mm3, limits), result)


@given(LABELS, st.permutations(range(3)), st.sampled_from([(0,), (1, 2), (0, 1, 2)]))
def test_result_does_not_depend_on_the_order_of_the_axes(
    labels: LabelVolume, order: list[int], flipped: tuple[int, ...]
) -> None:
    def turn(volume: LabelVolume) -> LabelVolume:
        return np.flip(volume.transpose(order), flipped)

    limits = {Label.GTVP: 4.0, Label.GTVN: 4.0}
    assert np.array_equal(
        remove_small(np.ascontiguousarray(turn(labels)), 1.0, limits),
        turn(remove_small(labels, 1.0, limits)),
    )
