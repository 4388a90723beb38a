"""The volumes of a page, read by SimpleITK and compared with the arrays."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from evaluation.report.viewer.volumes import (
    CT_STEP_HU,
    SUV_STEP,
    ct_steps,
    encode,
    nifti_bytes,
    pet_grid,
    pet_steps,
)
from shared.geometry import Grid
from shared.grand_challenge.nifti import check_nifti

GRID = Grid((6, 4, 2), (1.5, 1.5, 1.5), (-20.0, 31.5, -400.0))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_library_reads_what_was_written(tmp_path: Path, dtype: type[np.generic]) -> None:
    array = np.arange(48).reshape(GRID.shape_zyx).astype(dtype)
    path = tmp_path / "x.nii"
    path.write_bytes(nifti_bytes(array, GRID, window=(0, 2)))
    image = sitk.ReadImage(path)
    assert check_nifti(path) == GRID.size_xyz
    assert Grid.of(image).is_close(GRID)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)


def test_slope_scales_the_values(tmp_path: Path) -> None:
    array = np.arange(48, dtype=np.int16).reshape(GRID.shape_zyx)
    path = tmp_path / "x.nii"
    path.write_bytes(nifti_bytes(array, GRID, window=(0, 2), slope=0.005))
    values = sitk.GetArrayFromImage(sitk.ReadImage(path))
    np.testing.assert_allclose(values, array * 0.005, rtol=1e-6)


def test_text_inflates_to_the_bytes() -> None:
    content = bytes(range(256)) * 3
    assert gzip.decompress(base64.b64decode(encode(content))) == content
    assert encode(content) == encode(content)


def test_ct_is_rounded_and_clipped() -> None:
    hu = np.array([[[-3000.0, -0.9, 0.9, 1.1, 40.0, 9000.0]]], np.float32)
    assert ct_steps(hu).tolist() == [[[-1024, 0, 0, 2, 40, 3072]]]
    random: NDArray[Any] = np.random.default_rng(1).uniform(-1000, 3000, (4, 4, 4))
    assert np.abs(ct_steps(random) - random).max() <= CT_STEP_HU / 2


def test_pet_voxel_is_the_mean_of_its_block() -> None:
    suv = np.zeros((2, 4, 6), np.float32)
    suv[:, :2, 4:] = 8.0
    suv[1, 3, 0] = 1.6
    steps = pet_steps(suv)
    np.testing.assert_allclose(steps * SUV_STEP, [[[0, 0, 8.0], [0.2, 0, 0]]], atol=SUV_STEP / 2)
    assert pet_steps(np.full((2, 2, 2), 1e6, np.float32)).tolist() == [[[32767]]]


def test_pet_has_the_corners_of_the_region() -> None:
    grid = pet_grid(GRID)
    assert grid.size_xyz == (3, 2, 1)
    for ours, theirs in zip(grid.extent_mm(), GRID.extent_mm(), strict=True):
        np.testing.assert_allclose(ours, theirs)
