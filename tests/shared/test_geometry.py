"""Grids, boxes, cropping and resampling: examples by hand, then comparison with SimpleITK."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.conventions import AIR_HU
from shared.geometry import Box, Grid, Interpolation, bounding_slices, crop, resample

QUARTER_TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""The image's x axis points along the world's y, its y axis along -x."""


def rotation(degrees_x: float, degrees_z: float) -> tuple[float, ...]:
    cx, sx = math.cos(math.radians(degrees_x)), math.sin(math.radians(degrees_x))
    cz, sz = math.cos(math.radians(degrees_z)), math.sin(math.radians(degrees_z))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return tuple((about_z @ about_x).ravel().tolist())


OBLIQUE = rotation(20, -35)


def image_of(
    array_zyx: object,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    direction: tuple[float, ...] | None = None,
) -> sitk.Image:
    image = sitk.GetImageFromArray(np.asarray(array_zyx))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    return image


def values(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def row(*numbers: float) -> sitk.Image:
    """Return an image with a single row of voxels along x."""
    return image_of(np.array([[numbers]], np.float32))


def noise(size_xyz: tuple[int, int, int], direction: tuple[float, ...]) -> sitk.Image:
    rng = np.random.default_rng(0)
    hu = rng.normal(0, 300, size_xyz[::-1]).astype(np.float32)
    return image_of(hu, (1.2, 0.9, 2.5), (-40.0, 17.0, 300.0), direction)


def test_box_by_hand() -> None:
    box = Box((1, 2, 3), (4, 4, 8))
    assert box.size_xyz == (3, 2, 5)
    assert box.slices_zyx() == (slice(3, 8), slice(2, 4), slice(1, 4))
    assert not box.is_empty


@pytest.mark.parametrize("stop", [(1, 4, 8), (0, 4, 8), (4, 4, 3)])
def test_box_without_voxels_is_empty(stop: tuple[int, int, int]) -> None:
    assert Box((1, 2, 3), stop).is_empty


def test_grid_of_image() -> None:
    image = image_of(np.zeros((4, 3, 2), np.int16), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), QUARTER_TURN)
    grid = Grid.of(image)
    assert grid == Grid((2, 3, 4), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), QUARTER_TURN)
    assert grid.shape_zyx == (4, 3, 2)
    assert grid.voxel_volume_mm3 == pytest.approx(6.0)


def test_voxel_volume_of_a_sheared_grid() -> None:
    sheared = (1.0, 0.6, 0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((2, 3, 4), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), sheared)
    assert grid.voxel_volume_mm3 == pytest.approx(6.0 * 0.8)


def test_world_points_of_turned_grid_by_hand() -> None:
    grid = Grid((9, 9, 9), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), QUARTER_TURN)
    indices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 2]])
    expected = [[10, 20, 30], [10, 22, 30], [7, 20, 30], [10, 21, 38]]
    np.testing.assert_allclose(grid.world_mm(indices), expected)
    np.testing.assert_allclose(grid.index(np.array(expected, float)), indices, atol=1e-12)


def test_world_points_equal_simpleitk() -> None:
    image = image_of(np.zeros((7, 6, 5), np.uint8), (0.98, 1.7, 3.27), (-250, 11, 900), OBLIQUE)
    indices = np.random.default_rng(1).uniform(-3, 9, (20, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in indices]
    np.testing.assert_allclose(Grid.of(image).world_mm(indices), expected, atol=1e-9)


def test_extent_includes_half_a_voxel_beyond_the_centres() -> None:
    low, high = Grid((2, 4, 1), (3.0, 1.0, 5.0), (0.0, 10.0, -5.0)).extent_mm()
    np.testing.assert_allclose(low, [-1.5, 9.5, -7.5])
    np.testing.assert_allclose(high, [4.5, 13.5, -2.5])


def test_corners_are_the_outer_corners_of_the_voxels() -> None:
    corners = Grid((2, 1, 1), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), QUARTER_TURN).corners_mm()
    assert corners.shape == (8, 3)
    np.testing.assert_allclose(corners.min(axis=0), [-1, -1, -1])
    np.testing.assert_allclose(corners.max(axis=0), [1, 3, 1])


GRID = Grid((30, 20, 10), (1.0, 2.0, 4.0), (5.0, 6.0, 7.0))


def test_distance_of_grids_is_that_of_their_farthest_corners() -> None:
    assert GRID.distance_mm(GRID) == 0
    moved = replace(GRID, origin_mm=(5.0, 6.0 + 3.0, 7.0 + 4.0))
    assert GRID.distance_mm(moved) == pytest.approx(5)
    # The first corner moves by half of 0.1 mm, the last one by 29.5 times as much.
    stretched = replace(GRID, spacing_mm=(1.1, 2.0, 4.0))
    assert GRID.distance_mm(stretched) == pytest.approx(29.5 * 0.1)


@pytest.mark.parametrize(
    ("other", "close"),
    [
        (GRID, True),
        (replace(GRID, origin_mm=(5.0, 6.0, 7.0099)), True),
        (replace(GRID, origin_mm=(5.0, 6.0, 7.0101)), False),
        (replace(GRID, origin_mm=(5.0, 6.0, 7.9)), False),
        # The smallest spacing of both grids counts.
        (replace(GRID, spacing_mm=(0.9999, 2.0, 4.0)), True),
        (replace(GRID, spacing_mm=(0.9995, 2.0, 4.0)), False),
        # Grids of different sizes are not close, even if the corners coincide.
        (replace(GRID, size_xyz=(30, 20, 11)), False),
        (Grid((60, 20, 10), (0.5, 2.0, 4.0), (4.75, 6.0, 7.0)), False),
    ],
)
def test_grids_are_close_up_to_a_hundredth_of_the_smallest_spacing(
    other: Grid, close: bool
) -> None:
    assert GRID.is_close(other) == close
    assert other.is_close(GRID) == close


def test_grids_are_close_at_the_tolerance_itself() -> None:
    grid = Grid((2, 2, 2), (25.0, 25.0, 25.0), (0.0, 0.0, 0.0))
    moved = replace(grid, origin_mm=(0.25, 0.0, 0.0))
    assert grid.distance_mm(moved) == 0.25, "exact in binary"
    assert grid.is_close(moved)


def test_box_around_another_grid_by_hand() -> None:
    grid = Grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    other = Grid((3, 3, 3), (1.0, 1.0, 1.0), (2.0, 3.0, 6.0))  # voxels 2-4, 3-5, 6-8
    # Along x, the other grid covers 1.5 to 4.5, so voxels 1 to 5 are included.
    assert grid.box_around(other) == Box((1, 2, 5), (6, 7, 10))
    assert grid.box_around(other, margin_vox=2) == Box((0, 0, 3), (8, 9, 10))
    assert grid.box_around(grid) == Box((0, 0, 0), (10, 10, 10))


def test_box_around_grids_beyond_either_end_has_no_negative_indices() -> None:
    grid = Grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    before = Grid((3, 3, 3), (1.0, 1.0, 1.0), (-50.0, 0.0, 0.0))
    assert grid.box_around(before) == Box((0, 0, 0), (0, 4, 4))
    behind = Grid((3, 3, 3), (1.0, 1.0, 1.0), (50.0, 0.0, 0.0))
    assert grid.box_around(behind) == Box((10, 0, 0), (10, 4, 4))


@pytest.mark.parametrize("offset", [(40.0, 0, 0), (0, -40.0, 0), (0, 0, 1e6)])
def test_box_is_empty_if_grids_do_not_overlap(offset: tuple[float, float, float]) -> None:
    grid = Grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert grid.box_around(Grid((10, 10, 10), (1.0, 1.0, 1.0), offset), margin_vox=16).is_empty


def test_cropped_grid_equals_grid_of_cropped_image() -> None:
    image = noise((12, 10, 8), OBLIQUE)
    box = Box((2, 3, 1), (9, 10, 5))
    grid, expected = Grid.of(image).cropped(box), Grid.of(crop(image, box))
    assert (grid.size_xyz, grid.spacing_mm) == (expected.size_xyz, expected.spacing_mm)
    np.testing.assert_allclose(grid.origin_mm, expected.origin_mm, atol=1e-9)
    assert np.array_equal(values(crop(image, box)), values(image)[box.slices_zyx()])


def test_bounding_slices_by_hand() -> None:
    mask = np.zeros((5, 6, 7), bool)
    assert bounding_slices(mask) is None
    mask[1, 2, 3] = True
    assert bounding_slices(mask) == (slice(1, 2), slice(2, 3), slice(3, 4))
    mask[4, 0, 6] = True
    assert bounding_slices(mask) == (slice(1, 5), slice(0, 3), slice(3, 7))


def test_image_has_the_geometry_of_its_grid_and_the_voxels_of_the_array() -> None:
    grid = Grid((4, 3, 2), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), QUARTER_TURN)
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image = grid.image(array)
    assert Grid.of(image) == grid
    assert np.array_equal(values(image), array)
    with pytest.raises(ValueError, match=r"expected shape \(2, 3, 4\), found \(4, 3, 2\)"):
        grid.image(array.reshape(4, 3, 2))


@pytest.mark.parametrize(
    ("value", "kind"),
    [(0.0, sitk.sitkUInt8), (AIR_HU, sitk.sitkFloat32), (-1000.0, sitk.sitkInt16)],
)
def test_filled_image(value: float, kind: int) -> None:
    image = Grid((4, 3, 2), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0)).filled(value, kind)
    assert image.GetPixelID() == kind
    assert np.all(values(image) == value)
    assert image.GetOrigin() == (5.0, 6.0, 7.0)


def test_halfway_between_two_voxels_by_hand() -> None:
    between = Grid((2, 1, 1), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0))
    assert values(
        resample(row(0, 10, 30), between, interpolation="linear", outside=-1)
    ).ravel().tolist() == [5, 20]


def test_nearest_keeps_labels_and_their_type() -> None:
    labels = image_of(np.array([[[0, 1, 2, 2]]], np.uint8))
    fine = Grid((8, 1, 1), (0.5, 1.0, 1.0), (-0.25, 0.0, 0.0))
    result = resample(labels, fine, interpolation="nearest", outside=0)
    assert result.GetPixelID() == sitk.sitkUInt8
    assert values(result).ravel().tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "bspline"])
@pytest.mark.parametrize("direction", [None, QUARTER_TURN, OBLIQUE])
def test_resampling_onto_the_same_grid_changes_nothing(
    interpolation: Interpolation, direction: tuple[float, ...] | None
) -> None:
    image = noise((9, 8, 7), direction or (1, 0, 0, 0, 1, 0, 0, 0, 1))
    again = resample(image, Grid.of(image), interpolation=interpolation, outside=AIR_HU)
    assert Grid.of(again) == Grid.of(image)
    np.testing.assert_allclose(values(again), values(image), atol=2e-3)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_intensities_become_float32(interpolation: Interpolation) -> None:
    image = image_of(np.zeros((6, 6, 6), np.int16))
    assert (
        resample(image, Grid.of(image), interpolation=interpolation, outside=0).GetPixelID()
        == sitk.sitkFloat32
    )


def test_voxels_outside_the_image_get_the_outside_value() -> None:
    wide = Grid((7, 1, 1), (1.0, 1.0, 1.0), (-2.0, 0.0, 0.0))
    result = values(resample(row(10, 20, 30), wide, interpolation="linear", outside=-1000)).ravel()
    assert result.tolist() == [-1000, -1000, 10, 20, 30, -1000, -1000]


@pytest.mark.parametrize(
    ("interpolation", "kind"),
    [("nearest", sitk.sitkInt16), ("linear", sitk.sitkFloat32), ("bspline", sitk.sitkFloat32)],
)
def test_grid_without_overlap_gets_the_outside_value_everywhere(
    interpolation: Interpolation, kind: int
) -> None:
    image = image_of(np.full((5, 5, 5), 70, np.int16))
    grid = Grid((3, 4, 5), (2.0, 2.0, 2.0), (500.0, 0.0, 0.0), OBLIQUE)
    result = resample(image, grid, interpolation=interpolation, outside=-1000)
    assert result.GetPixelID() == kind
    assert Grid.of(result) == grid
    assert np.all(values(result) == -1000)


def test_clamp_by_hand() -> None:
    between = Grid((2, 1, 1), (1.0, 1.0, 1.0), (0.5, 0.0, 0.0))
    result = resample(
        row(-3024, 1000, 27000),
        between,
        interpolation="linear",
        outside=AIR_HU,
        clamp=(-1024, 3071),
    )
    assert values(result).ravel().tolist() == [(-1024 + 1000) / 2, (1000 + 3071) / 2]


def test_clamp_reduces_ringing_next_to_padding() -> None:
    water = np.zeros((20, 20, 20), np.int16)
    water[:, :, :8] = -3024
    water[10, 10, 14] = 27000
    fine = Grid((30, 5, 5), (0.5, 1.0, 1.0), (9.0, 8.0, 8.0))
    free = values(resample(image_of(water), fine, interpolation="bspline", outside=AIR_HU))
    clamped = values(
        resample(
            image_of(water), fine, interpolation="bspline", outside=AIR_HU, clamp=(-1024.0, 3071.0)
        )
    )
    assert np.abs(clamped).max() < 3500
    assert np.abs(free).max() > 20000
    assert np.abs(clamped[:, :, :4]).max() < np.abs(free[:, :, :4]).max() / 2


REGIONS = {
    "axis-aligned, inside": Grid((24, 24, 24), (1.0, 1.0, 1.0), (5.0, 50.0, 370.0)),
    "axis-aligned, over an edge": Grid((40, 40, 30), (2.0, 2.0, 2.0), (-60.0, 0.0, 280.0)),
    "oblique": Grid((20, 20, 20), (1.5, 1.0, 2.0), (0.0, 50.0, 360.0), rotation(-10, 15)),
}


@pytest.mark.parametrize("direction", [QUARTER_TURN, OBLIQUE], ids=["turned", "oblique"])
@pytest.mark.parametrize("region", list(REGIONS.values()), ids=list(REGIONS))
def test_bspline_of_cropped_image_equals_bspline_of_whole_image(
    region: Grid, direction: tuple[float, ...]
) -> None:
    whole = noise((90, 80, 60), direction)
    # Move the region to the middle of the image.
    middle = Grid.of(whole).world_mm(np.array([[44.5, 39.5, 29.5]]))[0]
    offset = tuple((np.array(region.origin_mm) - (17, 62, 380) + middle).tolist())
    region = Grid(region.size_xyz, region.spacing_mm, offset, region.direction)
    expected = sitk.Resample(
        whole,
        region.size_xyz,
        sitk.Transform(),
        sitk.sitkBSpline,
        region.origin_mm,
        region.spacing_mm,
        region.direction,
        AIR_HU,
    )
    result = resample(whole, region, interpolation="bspline", outside=AIR_HU)
    assert np.ptp(values(expected)) > 500
    np.testing.assert_allclose(values(result), values(expected), atol=1e-3)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), QUARTER_TURN])
def test_bspline_of_parallel_grids_does_not_use_the_slow_resampler(
    monkeypatch: pytest.MonkeyPatch, direction: tuple[float, ...]
) -> None:
    monkeypatch.delattr(sitk, "ResampleImageFilter")
    image = noise((9, 8, 7), direction)
    grid = replace(Grid.of(image), size_xyz=(5, 4, 3))
    result = resample(image, grid, interpolation="bspline", outside=AIR_HU)
    np.testing.assert_allclose(values(result), values(image)[:3, :4, :5], atol=2e-3)


@settings(max_examples=40)
@given(
    st.tuples(*[st.integers(-180, 180)] * 2),
    st.tuples(*[st.integers(-180, 180)] * 2),
    st.tuples(*[st.floats(-2, 2)] * 3),
)
def test_linear_interpolation_keeps_a_linear_field(
    source: tuple[int, int], target: tuple[int, int], slope: tuple[float, float, float]
) -> None:
    blank = image_of(np.zeros((30, 28, 26)), (1.5, 2.0, 1.2), (7.0, -9.0, 4.0), rotation(*source))
    grid = Grid.of(blank)
    zyx = np.indices(grid.shape_zyx).reshape(3, -1)[::-1].T.astype(float)
    field = (grid.world_mm(zyx) @ slope).reshape(grid.shape_zyx).astype(np.float32)
    middle = grid.world_mm(np.array([[12.5, 13.5, 14.5]]))[0]
    small = Grid((4, 5, 6), (1.0, 2.0, 0.7), tuple((middle - 2).tolist()), rotation(*target))
    points = small.world_mm(np.indices(small.shape_zyx).reshape(3, -1)[::-1].T.astype(float))
    result = values(
        resample(grid.image(field), small, interpolation="linear", outside=AIR_HU)
    ).ravel()
    np.testing.assert_allclose(result, points @ slope, atol=1e-3)
