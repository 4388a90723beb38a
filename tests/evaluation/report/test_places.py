"""Places of lesions: the voxels of each component, in one pass."""

from __future__ import annotations

from typing import Literal

import cc3d
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from evaluation.report.places import voxels_of_each

Masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6))


def test_a_volume_without_components_has_no_voxels() -> None:
    assert voxels_of_each(np.zeros((2, 3, 4), np.uint32)) == []


def test_voxels_by_hand() -> None:
    first, second = voxels_of_each(np.array([[[2, 0, 1], [0, 0, 1]]]))
    assert first.tolist() == [[0, 0, 2], [0, 1, 2]]
    assert second.tolist() == [[0, 0, 0]]


@given(mask=Masks, connectivity=st.sampled_from([6, 18, 26]))
def test_each_component_has_the_voxels_of_its_number(
    mask: NDArray[np.bool_], connectivity: Literal[6, 18, 26]
) -> None:
    components = cc3d.connected_components(np.pad(mask, 1), connectivity=connectivity)
    expected = [np.argwhere(components == n + 1) for n in range(components.max())]
    for voxels, of_number in zip(voxels_of_each(components), expected, strict=True):
        np.testing.assert_array_equal(voxels, of_number)
