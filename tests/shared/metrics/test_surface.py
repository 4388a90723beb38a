"""Surface distances: by hand, and comparison with surface-distance and SimpleITK."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.conventions import Triple
from shared.metrics.surface import surface_distances

Mask = NDArray[np.bool_]
SPACING: Triple = (3.0, 1.0, 0.5)


def cube(start_zyx: tuple[int, int, int], edge: int = 4) -> Mask:
    mask = np.zeros((16, 16, 16), dtype=bool)
    mask[tuple(slice(at, at + edge) for at in start_zyx)] = True
    return mask


def random_mask(seed: int) -> Mask:
    """Return a mask of blobs; some reach the border."""
    noise = np.random.default_rng(seed).normal(size=(10, 12, 14))
    for axis in range(3):
        noise = noise + np.roll(noise, 1, axis)
    return noise > 1.5


def test_mask_has_no_distance_to_itself() -> None:
    same = surface_distances(cube((2, 2, 2)), cube((2, 2, 2)), SPACING)
    assert (same.hd95_mm(), same.surface_dice()) == (0, 1)


def test_slabs_of_different_thickness_by_hand() -> None:
    # 120 by 120 mm, 18 and 24 mm thick. The lower faces coincide; the upper ones are 6 mm apart.
    low, high = np.zeros((2, 20, 120, 240), dtype=bool)
    low[2:8], high[2:10] = True, True
    distances = surface_distances(high, low, SPACING)
    assert distances.hd95_mm() == 6
    assert distances.surface_dice(tolerance_mm=6) == 1
    # Beyond 4.5 mm: the upper face of the thick slab, that of the thin slab except for its rim, and
    # the upper 1.5 mm of the sides.
    beyond = 120**2 + (120 - 2 * 4.5) ** 2 + 4 * 120 * 1.5
    area = 4 * 120**2 + 4 * 120 * (18 + 24)
    assert distances.surface_dice(tolerance_mm=4.5) == pytest.approx(1 - beyond / area, abs=0.005)


def test_default_tolerance_is_2_mm() -> None:
    high, low = random_mask(0), random_mask(1)
    distances = surface_distances(high, low, SPACING)
    assert distances.surface_dice() == distances.surface_dice(2.0)
    assert distances.surface_dice(1.0) < distances.surface_dice(2.0) < distances.surface_dice(3.0)


def test_spacing_is_in_the_order_of_the_axes() -> None:
    for axis, spacing_mm in enumerate(SPACING):
        moved = np.roll(cube((4, 4, 4)), 8, axis)
        apart = surface_distances(moved, cube((4, 4, 4)), SPACING)
        assert apart.truth_to_prediction_mm.max() == 8 * spacing_mm
        assert apart.prediction_to_truth_mm.max() == 8 * spacing_mm


def test_cropping_changes_nothing() -> None:
    box = np.s_[3:12, 4:13, 2:9]
    a, b = cube((3, 4, 2)), cube((8, 9, 5))
    whole, cropped = surface_distances(a, b, SPACING), surface_distances(a[box], b[box], SPACING)
    assert np.array_equal(whole.prediction_to_truth_mm, cropped.prediction_to_truth_mm)
    assert np.array_equal(whole.truth_areas_mm2, cropped.truth_areas_mm2)


@pytest.mark.parametrize("empty", [0, 1])
def test_empty_mask_is_rejected(empty: int) -> None:
    masks = [cube((2, 2, 2)), cube((2, 2, 2))]
    masks[empty][:] = False
    with pytest.raises(ValueError, match="neither empty"):
        surface_distances(masks[0], masks[1], SPACING)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(16, 16, 16\) and \(15, 16, 16\)"):
        surface_distances(cube((2, 2, 2)), cube((2, 2, 2))[1:], SPACING)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_surface_distance_package(seed: int) -> None:
    prediction, truth = random_mask(seed), random_mask(seed + 50)
    ours = surface_distances(prediction, truth, SPACING)
    with warnings.catch_warnings():
        # The package uses a deprecated name of SciPy.
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = surface_distance.compute_surface_distances(truth, prediction, SPACING)
    assert ours.hd95_mm() == pytest.approx(
        surface_distance.compute_robust_hausdorff(theirs, 95), abs=1e-6
    )
    for tolerance in (0.4, 1.0, 2.0, 5.0):
        assert ours.surface_dice(tolerance) == pytest.approx(
            surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance), abs=1e-6
        )


@pytest.mark.parametrize("seed", range(4))
def test_largest_distance_is_close_to_simpleitks_hausdorff_distance(seed: int) -> None:
    # SimpleITK measures between voxel centres, this project between voxel corners, which are half a
    # diagonal away.
    prediction, truth = random_mask(seed), random_mask(seed + 50)
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (prediction, truth)]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    distance = sitk.HausdorffDistanceImageFilter()
    distance.Execute(*images)
    ours = surface_distances(prediction, truth, SPACING)
    largest = max(ours.prediction_to_truth_mm.max(), ours.truth_to_prediction_mm.max())
    assert abs(largest - distance.GetHausdorffDistance()) <= np.linalg.norm(SPACING)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 10))
def test_scores_are_symmetric_and_bounded(seed_a: int, seed_b: int, tolerance_mm: float) -> None:
    a, b = random_mask(seed_a), random_mask(seed_b)
    forth, back = surface_distances(a, b, SPACING), surface_distances(b, a, SPACING)
    assert forth.hd95_mm() == back.hd95_mm()
    assert forth.surface_dice(tolerance_mm) == pytest.approx(back.surface_dice(tolerance_mm))
    assert 0 <= forth.surface_dice(tolerance_mm) <= 1
    assert (
        forth.surface_dice(forth.prediction_to_truth_mm.max() + forth.truth_to_prediction_mm.max())
        == 1
    )
    assert 0 <= forth.hd95_mm() <= np.linalg.norm(np.multiply(a.shape, SPACING))
