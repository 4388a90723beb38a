"""Almost orthonormal directions become the nearest orthonormal ones; others are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.directions import (
    EXACT,
    deviation,
    nearest_orthonormal,
    straighten,
    straighten_grid,
)
from shared.geometry import IDENTITY_DIRECTION, Grid
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation
from tests.shared.postprocessing.segmented import certain

FLIPPED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def test_identity_and_reflections_are_exact() -> None:
    for direction in (IDENTITY_DIRECTION, FLIPPED):
        assert nearest_orthonormal(direction) == pytest.approx(direction, abs=1e-15)
        assert deviation(direction) < 1e-15


def test_scaled_axis_is_shortened() -> None:
    scaled = (1.001, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    assert nearest_orthonormal(scaled) == pytest.approx(FLIPPED)
    assert deviation(scaled) == pytest.approx(0.001)


def test_shear_is_shared_between_both_axes() -> None:
    """By hand: a shear of 2e becomes a rotation by e, up to e squared."""
    sheared = (1.0, 0.002, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    expected = (1.0, 0.001, 0.0, -0.001, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert nearest_orthonormal(sheared) == pytest.approx(expected, abs=2e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), disturbance=st.floats(0, 1e-3))
def test_nearest_is_orthonormal_with_the_same_handedness(seed: int, disturbance: float) -> None:
    rng = default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    matrix = rotation + rng.uniform(-disturbance, disturbance, (3, 3))
    nearest = np.reshape(nearest_orthonormal(tuple(matrix.ravel().tolist())), (3, 3))
    assert nearest @ nearest.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.sign(np.linalg.det(nearest)) == np.sign(np.linalg.det(rotation))
    assert np.linalg.norm(matrix - nearest) <= np.linalg.norm(matrix - rotation) + 1e-12


def test_rounding_is_left_alone() -> None:
    rounded = (1.0, EXACT / 2, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), rounded)
    image = grid.filled(0, sitk.sitkInt16)
    assert straighten_grid(grid) is grid
    assert straighten(image, "CT") == (image, ())


def test_mask_is_written_on_the_grid_as_the_file_states_it() -> None:
    turned = (0.707, -0.707, 0.0, 0.707, 0.707, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((24, 24, 24), (4.0, 4.0, 4.0), (-40.0, -40.0, 0.0), turned)
    exact = straighten_grid(grid)
    preparation = Preparation(spacing_mm=4, size_xyz=(16, 16, 16), interpolation="linear")

    def prepared_on(ct_grid: Grid) -> tuple[sitk.Image, list[str]]:
        ct = ct_grid.filled(30, sitk.sitkInt16)
        pet = ct_grid.filled(1, sitk.sitkFloat32)
        prepared = prepare(Case(ct_hu=ct, pet=pet, clinical=ClinicalRecord()), preparation)
        labels = (prepared.ct_hu > 0).astype(np.uint8)
        return restore(certain(labels), prepared.undo), list(prepared.remarks)

    mask, remarks = prepared_on(grid)
    assert Grid.of(mask) == grid
    expected, others = prepared_on(exact)
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected))
    assert sitk.GetArrayViewFromImage(mask).any()
    about = "the directions of the axes deviate by 0.0001 from orthonormal ones; the nearest"
    assert [remark for remark in remarks if remark not in others] == [
        f"{name}: {about} orthonormal ones are used" for name in ("CT", "PET")
    ]
