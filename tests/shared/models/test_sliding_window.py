from __future__ import annotations

import math
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval, sliding_window_inference
from scipy.ndimage import gaussian_filter

from shared.conventions import IntTriple, Volume
from shared.models.onnx import Network
from shared.models.sliding_window import (
    CERTAIN_LOGIT,
    even_window_starts,
    gaussian_weight,
    nnunet_weight,
    sliding_window,
    window_starts,
)

VOLUMES_AND_WINDOWS = [
    ((20, 23, 31), (16, 16, 16), 0.5),
    ((20, 23, 31), (8, 16, 12), 0.25),
    ((33, 16, 17), (16, 16, 16), 0.0),
    ((16, 16, 16), (16, 16, 16), 0.5),
    ((17, 47, 16), (16, 24, 9), 0.7),
    ((9, 12, 40), (16, 16, 16), 0.5),
    ((5, 3, 2), (16, 8, 8), 0.25),
]


def random_volume(shape_zyx: IntTriple, channels: int = 2) -> Volume:
    rng = np.random.default_rng(0)
    return rng.normal(size=(channels, *shape_zyx)).astype(np.float32)


def position_dependent(window: Volume) -> Volume:
    """Return three outputs that depend on the position in the window, like those of a network."""
    ramp = np.linspace(-1, 1, window[0, 0].size, dtype=np.float32).reshape(window.shape[2:])
    a, b = window[0]
    return np.stack([a + ramp, a * b - ramp, b * ramp])[None]


def monai(predict: object, volume: Volume, window_zyx: IntTriple, overlap: float) -> Volume:
    def on_tensors(window: torch.Tensor) -> torch.Tensor:
        # MONAI writes into the array that the predictor returns.
        return torch.from_numpy(predict(window.numpy()).copy())  # type: ignore[operator]

    result = sliding_window_inference(
        torch.from_numpy(volume[None]), window_zyx, 1, on_tensors, overlap, mode="gaussian"
    )
    assert isinstance(result, torch.Tensor)
    return result[0].numpy()


@pytest.mark.parametrize(("shape_zyx", "window_zyx", "overlap"), VOLUMES_AND_WINDOWS)
def test_equals_monai_on_an_analytic_predictor(
    shape_zyx: IntTriple, window_zyx: IntTriple, overlap: float
) -> None:
    volume = random_volume(shape_zyx)
    ours = sliding_window(
        position_dependent, volume, window_zyx=window_zyx, overlap=overlap, outputs=3
    )
    theirs = monai(position_dependent, volume, window_zyx, overlap)
    assert ours.shape == (3, *shape_zyx)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape_zyx", [(20, 23, 31), (16, 16, 16), (12, 30, 17)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_equals_monai_on_an_exported_network(
    segmentation_folder: Path, shape_zyx: IntTriple, overlap: float
) -> None:
    network = Network(segmentation_folder / "model.onnx")

    def predict(window: Volume) -> Volume:
        return network(image=window)

    volume = random_volume(shape_zyx)
    ours = sliding_window(predict, volume, window_zyx=(16, 16, 16), overlap=overlap, outputs=3)
    np.testing.assert_allclose(ours, monai(predict, volume, (16, 16, 16), overlap), atol=1e-4)


@given(st.integers(1, 300), st.integers(1, 200), st.sampled_from([0, 0.1, 0.25, 0.5, 0.75, 0.99]))
def test_window_starts_equal_those_of_monai(size: int, window: int, overlap: float) -> None:
    assume(window <= size)
    interval = _get_scan_interval((size,), (window,), 1, (overlap,))
    expected = [s.start for (s,) in dense_patch_slices((size,), (window,), interval)]
    assert window_starts(size, window, overlap) == expected


@pytest.mark.parametrize(
    ("size", "window", "expected"),
    [
        (110, 64, [0, 23, 46]),
        (64, 64, [0]),
        (65, 64, [0, 1]),
        (96, 64, [0, 32]),
        (97, 64, [0, 16, 33]),
        (144, 64, [0, 27, 53, 80]),
        (288, 128, [0, 53, 107, 160]),
        (301, 112, [0, 47, 94, 142, 189]),
    ],
)
def test_even_window_starts_equal_those_that_nnunet_2_8_printed(
    size: int, window: int, expected: list[int]
) -> None:
    assert even_window_starts(size, window, 0.5) == expected


@given(st.integers(1, 600), st.integers(1, 300), st.sampled_from([0.25, 0.5, 0.75]))
def test_even_window_starts_equal_nnunets_formula(size: int, window: int, overlap: float) -> None:
    """Steps of half a window are nnU-Net's default; its formula makes all steps equal."""
    assume(window <= size)
    count = int(np.ceil((size - window) / (window * (1 - overlap)))) + 1
    expected = np.round(np.linspace(0, size - window, count)) if count > 1 else [0]
    found = even_window_starts(size, window, overlap)
    assert len(found) == count
    # linspace and a product differ by a rounding error, which matters only at halves.
    np.testing.assert_allclose(found, expected, atol=1)
    halfway = np.abs(np.linspace(0, size - window, count) % 1 - 0.5) < 1e-9
    np.testing.assert_array_equal(np.asarray(found)[~halfway], np.asarray(expected)[~halfway])


@given(st.integers(1, 600), st.integers(1, 300), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_even_windows_cover_the_volume_with_steps_that_differ_by_one(
    size: int, window: int, overlap: float
) -> None:
    assume(window <= size)
    starts = even_window_starts(size, window, overlap)
    assert (starts[0], starts[-1]) == (0, size - window)
    steps = np.diff(starts)
    assert len(steps) == 0 or np.ptp(steps) <= 1
    assert (steps <= math.ceil(window * (1 - overlap))).all()


@pytest.mark.parametrize("window_zyx", [(16, 16, 16), (7, 12, 96), (1, 2, 3), (64, 8, 8)])
def test_nnunet_weights_are_a_gaussian_filter_of_the_central_voxel(window_zyx: IntTriple) -> None:
    centre = np.zeros(window_zyx)
    centre[tuple(side // 2 for side in window_zyx)] = 1
    smooth = gaussian_filter(centre, [side / 8 for side in window_zyx], mode="constant")
    half = (10 * smooth / smooth.max()).astype(np.float16)
    half[half == 0] = half[half > 0].min()
    found = nnunet_weight(window_zyx)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, half, rtol=2e-3, atol=1e-7)
    assert found.min() > 0


def test_nnunet_tiling_has_its_own_windows_and_weights() -> None:
    volume = random_volume((20, 16, 16))
    result = sliding_window(
        position_dependent, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3, tiling="nnunet"
    )
    weight = nnunet_weight((16, 16, 16))
    total, weights = np.zeros((3, 20, 16, 16)), np.zeros((20, 16, 16))
    for start in (0, 4):
        part = slice(start, start + 16)
        total[:, part] += position_dependent(volume[None, :, part])[0] * weight
        weights[part] += weight
    np.testing.assert_allclose(result, total / weights, atol=1e-5)


@pytest.mark.parametrize("window_zyx", [(16, 16, 16), (7, 12, 96), (1, 2, 3), (192, 8, 8)])
def test_weights_equal_those_of_monai(window_zyx: IntTriple) -> None:
    expected = compute_importance_map(window_zyx, mode="gaussian", sigma_scale=0.125).numpy()
    found = gaussian_weight(window_zyx)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_predictor_may_reuse_its_buffer() -> None:
    buffer = np.empty((1, 3, 16, 16, 16), np.float32)

    def reusing(window: Volume) -> Volume:
        buffer[...] = position_dependent(window)
        return buffer

    volume = random_volume((20, 23, 31))
    np.testing.assert_array_equal(
        sliding_window(reusing, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3),
        sliding_window(position_dependent, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3),
    )


def test_windows_without_a_needed_voxel_are_not_run_and_give_background() -> None:
    needed = np.zeros((16, 16, 48), bool)
    needed[3, 4, 5] = True
    seen = []

    def predict(window: Volume) -> Volume:
        seen.append(window)
        return np.zeros((1, 3, 16, 16, 16), np.float32)

    logits = sliding_window(
        predict,
        random_volume((16, 16, 48)),
        window_zyx=(16, 16, 16),
        overlap=0,
        outputs=3,
        needed=needed,
    )
    assert len(seen) == 1
    assert (logits[:, :, :, :16] == 0).all()
    assert (logits[0, :, :, 16:] == CERTAIN_LOGIT).all()
    assert (logits[1:, :, :, 16:] == -CERTAIN_LOGIT).all()


def test_needed_voxels_are_the_same_as_when_all_windows_run() -> None:
    volume = random_volume((40, 23, 31))
    needed = np.zeros(volume.shape[1:], bool)
    needed[30:35, 3:9, 20:28] = True
    everything = sliding_window(
        position_dependent, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3
    )
    part = sliding_window(
        position_dependent, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3, needed=needed
    )
    np.testing.assert_array_equal(part[:, needed], everything[:, needed])
    assert (part[0] == CERTAIN_LOGIT).any()


def test_mask_of_needed_voxels_is_padded_with_the_volume() -> None:
    needed = np.zeros((4, 4, 4), bool)
    needed[0, 0, 0] = True
    volume = random_volume((4, 4, 4))
    np.testing.assert_array_equal(
        sliding_window(
            position_dependent, volume, window_zyx=(8, 8, 8), overlap=0, outputs=3, needed=needed
        ),
        sliding_window(position_dependent, volume, window_zyx=(8, 8, 8), overlap=0, outputs=3),
    )


def test_windows_are_streamed() -> None:
    """Each window is freed before the next, and memory does not grow with their number."""
    windows: list[weakref.ref[Volume]] = []

    def predict(window: Volume) -> Volume:
        assert sum(earlier() is not None for earlier in windows) == 0
        windows.append(weakref.ref(window))
        return np.concatenate([window, window[:, :1]], axis=1)

    volume = random_volume((64, 64, 64))
    sums_bytes = 4 * 64**3 * 4
    window_bytes = 16**3 * 4
    tracemalloc.start()
    try:
        sliding_window(predict, volume, window_zyx=(16, 16, 16), overlap=0.5, outputs=3)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(windows) == 7**3
    assert peak_bytes < sums_bytes + 64**3 + 20 * window_bytes + 10**6
