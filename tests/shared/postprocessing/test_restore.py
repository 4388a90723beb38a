"""Label maps on the CT's own grid; the round trips are in tests/shared/preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from shared.geometry import Grid
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import Undo

TURNED_AND_FLIPPED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def cube(grid: Grid, first: int, stop: int) -> np.ndarray:
    labels = np.zeros(grid.shape_zyx, np.uint8)
    labels[first:stop, first:stop, first:stop] = 2
    return labels


def test_each_voxel_takes_the_nearest_label() -> None:
    region = Grid((2, 1, 1), (4.0, 4.0, 4.0), (10.0, 0.0, 0.0))  # from 8 to 16 mm
    ct = Grid((10, 1, 1), (2.0, 2.0, 2.0), (1.0, 0.0, 0.0))  # centres at 1, 3, … 19 mm
    restored = restore(np.array([[[1, 2]]], np.uint8), Undo(region, ct))
    assert sitk.GetArrayFromImage(restored).ravel().tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), TURNED_AND_FLIPPED])
def test_mask_has_the_geometry_of_the_ct_and_the_position_of_the_region(
    direction: tuple[float, ...],
) -> None:
    ct = Grid((40, 36, 30), (1.5, 2.0, 2.5), (-20.0, 5.0, 70.0), direction)
    middle = ct.world_mm(np.array([[20.0, 18.0, 15.0]]))[0]
    region = Grid((16, 16, 16), (2.0, 2.0, 2.0), tuple((middle - 15).tolist()))
    restored = restore(cube(region, 4, 12), Undo(region, ct))
    assert Grid.of(restored) == ct
    assert restored.GetPixelID() == sitk.sitkUInt8
    lesion = np.argwhere(sitk.GetArrayFromImage(restored) == 2)[:, ::-1].astype(float)
    np.testing.assert_allclose(lesion.mean(axis=0), (20, 18, 15), atol=0.5)
    assert len(lesion) * ct.voxel_volume_mm3 == pytest.approx(16**3, rel=0.15)


def test_restoring_onto_the_same_grid_changes_nothing() -> None:
    grid = Grid((9, 8, 7), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))
    labels = np.random.default_rng(0).integers(0, 3, grid.shape_zyx).astype(np.uint8)
    assert np.array_equal(sitk.GetArrayFromImage(restore(labels, Undo(grid, grid))), labels)


def test_region_larger_than_the_ct_is_cropped() -> None:
    ct = Grid((5, 5, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    region = Grid((20, 20, 20), (2.0, 2.0, 2.0), (-16.0, -16.0, -16.0))
    assert sitk.GetArrayFromImage(restore(cube(region, 0, 20), Undo(region, ct))).all()


def test_region_outside_the_ct_gives_background() -> None:
    ct = Grid((5, 6, 7), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    region = Grid((3, 3, 3), (2.0, 2.0, 2.0), (500.0, 0.0, 0.0))
    restored = restore(cube(region, 0, 3), Undo(region, ct))
    assert Grid.of(restored) == ct
    assert not sitk.GetArrayFromImage(restored).any()
