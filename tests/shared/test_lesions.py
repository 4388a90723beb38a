"""Lesion measures: by hand, invariances, and comparison with SciPy."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from shared.conventions import LabelVolume, Volume
from shared.geometry import Grid
from shared.lesions import MEASURES, LesionMeasures, largest_distance, measure_lesions

SHAPE = (6, 7, 8)
GRID = Grid((8, 7, 6), (2.0, 3.0, 5.0), (-40.0, 7.0, 100.0))
"""Voxels of 30 mm³."""
SMALL = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 0, 1, 2]))


RNG = np.random.default_rng(0)
SUV: Volume = RNG.uniform(0, 12, SHAPE).astype(np.float32)
CT: Volume = RNG.uniform(-60, 90, SHAPE).astype(np.float32)


NOT_PLACES = [name for name in MEASURES if not name.endswith(("posterior_mm", "superior_mm"))]
"""Measures that stay the same if a patient is mirrored along any axis."""


def is_close(measures: LesionMeasures, expected: LesionMeasures, names: list[str]) -> bool:
    """Return whether the named measures are equal up to rounding."""
    return all(
        getattr(measures, name) == pytest.approx(getattr(expected, name), rel=1e-6, abs=1e-5)
        for name in names
    )


def test_by_hand() -> None:
    labels, suv = np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.float32)
    labels[1, 1, 1:3] = 1  # 2 voxels, centre at x 1.5
    labels[4, 5, 1:3] = 2  # 2 voxels: 3 voxels of 5 mm and 4 of 3 mm away
    labels[5, 6, 0] = 2  # the same node, connected at a corner
    labels[1, 1, 7] = 2  # 1 voxel, 5.5 voxels of 2 mm away
    suv[1, 1, 1:3] = 4
    suv[1, 1, 7] = 9
    suv[0, 0, 0] = 50  # brain, not a lesion
    measures = measure_lesions(labels, CT, suv, GRID)
    assert measures.mtv_ml == pytest.approx(6 * 0.03)
    assert measures.tlg_suv_ml == pytest.approx((4 + 4 + 1 + 1 + 1 + 9) * 0.03)
    assert measures.suv_max == 9
    assert measures.primary_ml == pytest.approx(2 * 0.03)
    assert measures.nodes == 2
    assert measures.largest_node_ml == pytest.approx(3 * 0.03)
    first, second = np.array([7, 1, 1]), np.array([1, (5 + 5 + 6) / 3, (4 + 4 + 5) / 3])
    assert measures.spread_mm == pytest.approx(np.linalg.norm((first - second) * (2, 3, 5)))
    assert measures.vector()[:9] == pytest.approx(
        np.log1p([0.18, 0.6, 9, 0.06, 2, 0.09, measures.spread_mm, 0, 0]), abs=1e-9
    )


def test_places_by_hand() -> None:
    """The middle of the grid is at x 3.5, y 3, z 2.5 in voxels of 2 x 3 x 5 mm."""
    labels, suv = np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.float32)
    labels[4, 1, 2:4] = 1  # 1.5 and 0.5 voxels right, 2 in front, 1.5 above
    labels[1, 5, 6:8] = 2  # 2.5 and 3.5 voxels left, 2 behind, 1.5 below
    labels[1, 5, 0] = 2  # 3.5 voxels right
    suv[4, 1, 2], suv[1, 5, 6] = 3, 7
    measures = measure_lesions(labels, CT, suv, GRID)
    assert (measures.primary_suv, measures.node_suv) == (2, 3)
    assert measures.primary_lateral_mm == pytest.approx(2)
    assert measures.primary_posterior_mm == pytest.approx(-6)
    assert measures.primary_superior_mm == pytest.approx(7.5)
    assert measures.node_lateral_mm == pytest.approx(2 * (2.5 + 3.5 + 3.5) / 3)
    assert measures.node_posterior_mm == pytest.approx(6)
    assert measures.node_superior_mm == pytest.approx(-7.5)
    assert measures.lesser_side_ml == pytest.approx(0.03)
    assert measures.node_laterality == pytest.approx(1 / 3)
    vector = dict(zip(MEASURES, measures.vector(), strict=True))
    assert vector["node_suv"] == pytest.approx(np.log1p(3))
    assert vector["lesser_side_ml"] == pytest.approx(np.log1p(0.03))
    assert vector["node_superior_mm"] == pytest.approx(-7.5)
    assert vector["node_laterality"] == pytest.approx(1 / 3)


def test_nodes_on_the_midplane_are_on_neither_side() -> None:
    shape = (5, 5, 5)
    labels, zeros = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    labels[1, 1, 2] = 2
    cosine, sine = np.cos(0.3), np.sin(0.3)
    turned = Grid(
        shape, (2.0, 2.0, 2.0), (9.0, 5.0, 1.0), (1, 0, 0, 0, cosine, -sine, 0, sine, cosine)
    )
    measures = measure_lesions(labels, zeros, zeros, turned)
    assert (measures.lesser_side_ml, measures.node_laterality) == (0, 0)
    labels[1, 1, 3] = 2
    measures = measure_lesions(labels, zeros, zeros, turned)
    assert (measures.lesser_side_ml, measures.node_laterality) == (0, 1)


def test_places_of_an_absent_class_are_zero() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = 1
    measures = measure_lesions(labels, CT, SUV, GRID)
    of_nodes = [name for name in MEASURES if name.startswith(("node", "lesser"))]
    assert [getattr(measures, name) for name in of_nodes] == [0] * len(of_nodes)
    assert measures.primary_superior_mm == pytest.approx(-12.5)


def test_fluid_excludes_the_rim_of_a_lesion() -> None:
    shape = (11, 11, 11)
    labels, ct_hu = np.zeros(shape, np.uint8), np.full(shape, 60, np.float32)
    labels[1:10, 1:10, 1:10] = 2
    ct_hu[1:10, 1:10, 1:10] = 20  # a cyst without a wall
    ct_hu[5, 5, 5] = -100  # fat in the middle

    def node_fluid_ml(spacing_mm: tuple[float, float, float]) -> float:
        grid = Grid(shape, spacing_mm, (0.0, 0.0, 0.0))
        measures = measure_lesions(labels, ct_hu, np.ones(shape, np.float32), grid)
        assert measures.primary_fluid_ml == 0
        return measures.node_fluid_ml

    assert node_fluid_ml((1, 1, 1)) == 0, (
        "nine voxels wide, with a rim of four on each side of the fat"
    )
    assert node_fluid_ml((2, 2, 2)) == pytest.approx((5**3 - 1) * 0.008), "two voxels of rim"
    assert node_fluid_ml((4, 4, 4)) == pytest.approx((7**3 - 1) * 0.064), "one voxel of rim"
    assert node_fluid_ml((4, 2, 1)) == pytest.approx((7 * 5 * 1 - 1) * 0.008), (
        "by the spacing of each axis"
    )


def test_edge_of_the_image_counts_as_rim() -> None:
    labels, water = np.ones((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.float32)
    grid = Grid((5, 5, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    measures = measure_lesions(labels, water, water, grid)
    assert measures.primary_fluid_ml == pytest.approx(27 * 0.064)


@pytest.mark.parametrize("hu", [-20, 0, 35])
def test_limits_of_fluid_are_inclusive(hu: float) -> None:
    labels, ct_hu = np.ones((5, 5, 5), np.uint8), np.full((5, 5, 5), hu, np.float32)
    grid = Grid((5, 5, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    assert measure_lesions(labels, ct_hu, ct_hu, grid).primary_fluid_ml == pytest.approx(27 * 0.064)


@pytest.mark.parametrize("hu", [-20.5, 35.5])
def test_fat_and_soft_tissue_are_not_fluid(hu: float) -> None:
    labels, ct_hu = np.ones((5, 5, 5), np.uint8), np.full((5, 5, 5), hu, np.float32)
    grid = Grid((5, 5, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    assert measure_lesions(labels, ct_hu, ct_hu, grid).primary_fluid_ml == 0


def test_single_primary_has_no_spread_and_no_nodes() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[2, 2, 4] = 1
    measures = measure_lesions(labels, CT, SUV, GRID)
    assert (measures.nodes, measures.largest_node_ml, measures.spread_mm) == (0, 0, 0)
    assert measures.mtv_ml == pytest.approx(9 * 0.03)


def test_node_touching_the_primary_is_a_separate_lesion() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 2, 2:5] = (1, 1, 2)
    assert measure_lesions(labels, CT, SUV, GRID).spread_mm == pytest.approx(1.5 * 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lesions_in_a_single_line_of_voxels_are_separate(axis: int) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    second = [1, 1, 1]
    second[axis] += 2
    labels[1, 1, 1] = labels[tuple(second)] = 2
    assert measure_lesions(labels, CT, SUV, GRID).nodes == 2


@given(
    points=st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 3), min_size=1, max_size=30).map(np.array)
)
def test_largest_distance_equals_that_of_all_pairs(points: NDArray[np.float64]) -> None:
    pairs = pdist(points)
    assert largest_distance(points) == pytest.approx(pairs.max(initial=0.0), rel=1e-12)


@pytest.mark.parametrize("shape", ["cube", "ball"])
def test_largest_distance_of_ten_thousands_of_lesions(shape: str) -> None:
    points = np.random.default_rng(0).uniform(-100, 100, (50_000, 3))
    if shape == "ball":
        points = points[np.linalg.norm(points, axis=1) < 100]
    started = time.process_time()
    found = largest_distance(points)
    assert time.process_time() - started < 5
    hull = points[ConvexHull(points).vertices]
    assert found == pytest.approx(pdist(hull).max(), rel=1e-12)


def test_measures_without_lesions_are_zero() -> None:
    measures = measure_lesions(np.zeros(SHAPE, np.uint8), CT, SUV, GRID)
    assert measures == LesionMeasures()
    assert not measures.vector().any()


def test_volumes_of_different_shapes_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"grid's shape \(6, 7, 8\) .* found \(6, 7, 7\)"):
        measure_lesions(np.zeros((6, 7, 7), np.uint8), CT, SUV, GRID)


@given(SMALL, st.lists(st.booleans(), min_size=3, max_size=3))
def test_measures_do_not_depend_on_position_and_orientation(
    labels: LabelVolume, flipped: list[bool]
) -> None:
    expected = measure_lesions(labels, CT, SUV, GRID)
    axes = [axis for axis, flip in enumerate(flipped) if flip]
    mirrored = measure_lesions(*(np.flip(v, axes) for v in (labels, CT, SUV)), GRID)
    assert is_close(mirrored, expected, NOT_PLACES)
    # The same patient, stored in another order of axes and directions.
    stored = Grid((6, 7, 8), (5.0, 3.0, 2.0), (0.0, 0.0, 0.0), (0, 0, 1, 0, 1, 0, 1, 0, 0))
    assert is_close(measure_lesions(labels.T, CT.T, SUV.T, stored), expected, list(MEASURES))
    backwards = replace(GRID, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    turned = [np.flip(volume, (1, 2)) for volume in (labels, CT, SUV)]
    assert is_close(measure_lesions(*turned, backwards), expected, list(MEASURES))
    moved = replace(GRID, origin_mm=(3.0, -90.0, 12.0))
    assert is_close(measure_lesions(labels, CT, SUV, moved), expected, list(MEASURES))
    larger = replace(GRID, size_xyz=(13, 12, 11))
    padded = [np.pad(volume, ((2, 3), (1, 4), (5, 0))) for volume in (labels, CT, SUV)]
    not_relative = [name for name in NOT_PLACES if "later" not in name and "lesser" not in name]
    assert is_close(measure_lesions(*padded, larger), expected, not_relative)


@given(SMALL, st.floats(0.2, 5), st.floats(0.2, 5))
def test_measures_scale_with_voxel_size_and_uptake(
    labels: LabelVolume, size: float, uptake: float
) -> None:
    measures = measure_lesions(labels, CT, SUV, GRID)
    x, y, z = GRID.spacing_mm
    grid = replace(GRID, spacing_mm=(size * x, size * y, size * z))
    other = measure_lesions(labels, CT, (uptake * SUV).astype(np.float32), grid)
    assert other.mtv_ml == pytest.approx(size**3 * measures.mtv_ml)
    assert other.tlg_suv_ml == pytest.approx(size**3 * uptake * measures.tlg_suv_ml, rel=1e-5)
    assert other.suv_max == pytest.approx(uptake * measures.suv_max, rel=1e-5)
    assert other.nodes == measures.nodes
    assert other.largest_node_ml == pytest.approx(size**3 * measures.largest_node_ml)
    assert other.spread_mm == pytest.approx(size * measures.spread_mm)


@given(SMALL)
def test_nodes_equal_scipy(labels: LabelVolume) -> None:
    measures = measure_lesions(labels, CT, SUV, GRID)
    components, count = ndimage.label(labels == 2, np.ones((3, 3, 3)))
    sizes: NDArray[np.int_] = np.bincount(components.ravel())[1:]
    assert measures.nodes == count
    assert measures.largest_node_ml == pytest.approx(sizes.max(initial=0) * 0.03)


@given(SMALL)
def test_background_does_not_count(labels: LabelVolume) -> None:
    hotter, wetter = (
        np.where(labels == 0, v, w).astype(np.float32) for v, w in ((100, SUV), (0, CT))
    )
    assert measure_lesions(labels, wetter, hotter, GRID) == measure_lesions(labels, CT, SUV, GRID)
