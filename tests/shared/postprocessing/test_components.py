"""Small components: by hand, then what must hold for any label map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.conventions import Label, LabelVolume
from shared.postprocessing.components import remove_small

BOTH = {Label.GTVP: 100.0, Label.GTVN: 100.0}


def cubes(*placed: tuple[int, tuple[slice, slice, slice]]) -> LabelVolume:
    labels = np.zeros((12, 12, 12), np.uint8)
    for label, box in placed:
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
    kept = remove_small(cubes((1, SMALL), (1, LARGE)), voxel_mm3, BOTH)
    assert bool(kept[SMALL].any()) == small_stays
    assert bool(kept[LARGE].any()) == large_stays


def test_each_label_has_its_own_rule() -> None:
    labels = cubes((1, SMALL), (2, LARGE), (1, np.s_[10:12, 10:12, 10:12]))
    kept = remove_small(labels, 1.0, {Label.GTVP: 9, Label.GTVN: 64})
    assert np.array_equal(kept, cubes((2, LARGE)))


def test_a_label_without_a_rule_keeps_all() -> None:
    labels = cubes((1, SMALL), (2, np.s_[3, 3, 3]))
    kept = remove_small(labels, 1.0, {Label.GTVP: 100})
    assert np.array_equal(kept, cubes((2, np.s_[3, 3, 3])))
    assert np.array_equal(remove_small(labels, 1.0, {}), labels)


def test_a_corner_connects() -> None:
    labels = cubes((1, np.s_[0, 0, 0]), (1, np.s_[1, 1, 1]))
    assert np.array_equal(remove_small(labels, 1.0, {Label.GTVP: 2}), labels)


def test_labels_do_not_connect_with_each_other() -> None:
    labels = cubes((1, np.s_[0, 0, 0:3]), (2, np.s_[0, 0, 3:6]))
    assert not remove_small(labels, 1.0, {Label.GTVP: 4, Label.GTVN: 4}).any()


def test_what_is_removed_becomes_background_even_inside_the_other_label() -> None:
    labels = cubes((1, LARGE), (2, np.s_[6, 6, 6]))
    kept = remove_small(labels, 1.0, {Label.GTVN: 2})
    assert kept[6, 6, 6] == Label.BACKGROUND
    assert (kept == 1).sum() == 63


def test_an_empty_map_stays_empty() -> None:
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


@settings(derandomize=True, deadline=None)
@given(LABELS, st.floats(0.1, 5), st.floats(0, 60))
def test_nothing_appears_and_doing_it_twice_changes_nothing(
    labels: LabelVolume, voxel_mm3: float, minimum_mm3: float
) -> None:
    before = labels.copy()
    rule = {Label.GTVP: minimum_mm3, Label.GTVN: minimum_mm3}
    kept = remove_small(labels, voxel_mm3, rule)
    assert np.array_equal(labels, before)
    assert kept.dtype == np.uint8
    assert np.all((kept == labels) | (kept == 0))
    assert np.array_equal(remove_small(kept, voxel_mm3, rule), kept)


@settings(derandomize=True, deadline=None)
@given(LABELS, st.permutations(range(3)), st.sampled_from([(0,), (1, 2), (0, 1, 2)]))
def test_how_the_axes_are_stored_changes_nothing(
    labels: LabelVolume, order: list[int], flipped: tuple[int, ...]
) -> None:
    def turn(volume: LabelVolume) -> LabelVolume:
        return np.flip(volume.transpose(order), flipped)

    rule = {Label.GTVP: 4.0, Label.GTVN: 4.0}
    assert np.array_equal(
        remove_small(np.ascontiguousarray(turn(labels)), 1.0, rule),
        turn(remove_small(labels, 1.0, rule)),
    )
