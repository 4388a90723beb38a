"""The separable B-spline against ITK's interpolator, for every order and sign of the axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from shared.bspline import interpolate
from shared.geometry import Grid, resample

ORIENTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def itk_bspline(image: sitk.Image, grid: Grid, outside: float) -> np.ndarray:
    """Resample with ITK, without cropping."""
    reference = grid.filled(0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(
        sitk.Resample(image, reference, sitk.Transform(), sitk.sitkBSpline, outside)
    )


@pytest.mark.parametrize("direction", ORIENTATIONS, ids=lambda d: str(d.astype(int).tolist()))
def test_equals_itk(direction: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    voxels = rng.normal(scale=300, size=(12, 15, 18)).astype(np.float32)
    source = Grid((18, 15, 12), (1.1, 0.9, 3.0), (5.0, -7.0, 2.0), tuple(direction.ravel()))
    image = source.image(voxels)
    low, high = source.extent_mm()
    size = tuple(int(n) for n in np.ceil(high - low) + 6)
    # With this origin no voxel lies exactly on the border, where rounding would decide.
    target = Grid(size, (1.03, 0.97, 1.01), tuple((low - 2.817).tolist()))
    result = sitk.GetArrayFromImage(
        resample(image, target, interpolation="bspline", outside=-1000.0)
    )
    np.testing.assert_allclose(result, itk_bspline(image, target, -1000.0), atol=2e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_image_ends_half_a_voxel_beyond_the_outermost_centres(axis: int) -> None:
    coefficients = np.full((4, 5, 6), 7, np.float32)
    end = coefficients.shape[axis] - 0.5
    positions = [np.array([1.0])] * 3
    positions[axis] = np.array([-0.51, -0.5, end, end + 0.01])
    result = interpolate(coefficients, tuple(positions), -1000.0)
    assert result.ravel() == pytest.approx([-1000, 7, 7, -1000])


def test_interpolation_at_voxel_centres_returns_the_voxels() -> None:
    voxels = np.random.default_rng(1).normal(size=(5, 6, 7)).astype(np.float32)
    grid = Grid((7, 6, 5), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    result = sitk.GetArrayFromImage(
        resample(grid.image(voxels), grid, interpolation="bspline", outside=0.0)
    )
    np.testing.assert_allclose(result, voxels, atol=1e-5)


def test_single_slice_is_constant_along_its_thickness() -> None:
    grid = Grid((4, 4, 1), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0))
    image = grid.image(np.full((1, 4, 4), 7, np.float32))
    thin = Grid((4, 4, 3), (1.0, 1.0, 1.0), (0.0, 0.0, -1.0))
    result = sitk.GetArrayFromImage(resample(image, thin, interpolation="bspline", outside=0.0))
    np.testing.assert_allclose(result, 7, atol=1e-5)
