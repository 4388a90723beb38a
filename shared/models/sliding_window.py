"""Runs a network on a volume larger than its input, in overlapping windows with Gaussian weights.

The windows, their order, their weights and the padding are, depending on `tiling`, those of MONAI's
`sliding_window_inference` with mode "gaussian" or of nnU-Net's predictor. The code uses only NumPy
and float32. Memory holds only the volume, one window, the sum of the weighted outputs and the sum
of the weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.conventions import IntTriple, Volume

Tiling: TypeAlias = Literal["monai", "nnunet"]
"""The software whose windows and weights are used. The overlap defines the longest step between
windows. MONAI uses this step, but the last window ends at the border. nnU-Net uses equal steps, as
few as possible."""

SIGMA_SCALE: Final = 0.125
"""Sigma of the Gaussian as a fraction of the window's side (MONAI, nnU-Net)."""

LEAST_WEIGHT: Final = 1e-3
"""Lower bound of the weights, so that a window's corner still counts (MONAI)."""

CERTAIN_LOGIT: Final = 20.0
"""Logit of the background in voxels outside all windows that were run; the other classes get the
negative of this value. In float32, the probability of the background is then 1."""


def sliding_window(
    predict: Callable[[Volume], Volume],
    volume: Volume,
    *,
    window_zyx: IntTriple,
    overlap: float,
    outputs: int,
    needed: NDArray[np.bool_] | None = None,
    tiling: Tiling = "monai",
) -> Volume:
    """Run a network over a volume.

    Parameters
    ----------
    predict : maps a window, shape (1, C, *window_zyx), to logits, shape (1, K, *window_zyx). It may
        return the same buffer each time.
    volume : shape (C, z, y, x). If it is smaller than the window, it is padded with 0 on both
        sides and the result is cropped.
    window_zyx : shape of the network's input.
    overlap : fraction of a window's side that it shares with the next window, 0 <= overlap < 1.
    outputs : K, the number of classes, background first.
    needed : bool, shape (z, y, x); windows in which it is False everywhere are not run. None runs
        all windows.
    tiling : the software whose windows and weights are used.

    Returns
    -------
    Logits, shape (K, z, y, x): the weighted mean over the windows that cover a voxel, or certain
    background if no such window was run.
    """
    shape = volume.shape[1:]
    padding = [_padding(size, window) for size, window in zip(shape, window_zyx, strict=True)]
    if any(before or after for before, after in padding):
        volume = np.pad(volume, [(0, 0), *padding])
        needed = None if needed is None else np.pad(needed, padding)
    starts_along = window_starts if tiling == "monai" else even_window_starts
    axes = [
        starts_along(size, window, overlap)
        for size, window in zip(volume.shape[1:], window_zyx, strict=True)
    ]
    weight = gaussian_weight(window_zyx) if tiling == "monai" else nnunet_weight(window_zyx)
    total = np.zeros((outputs, *volume.shape[1:]), np.float32)
    total_weight = np.zeros(volume.shape[1:], np.float32)
    for starts in itertools.product(*axes):
        box = tuple(slice(a, a + w) for a, w in zip(starts, window_zyx, strict=True))
        if needed is not None and not needed[box].any():
            continue
        total[:, *box] += predict(np.ascontiguousarray(volume[None, :, *box]))[0] * weight
        total_weight[box] += weight
    not_run = total_weight == 0
    total_weight[not_run] = 1
    total /= total_weight
    total[:, not_run] = -CERTAIN_LOGIT
    total[0, not_run] = CERTAIN_LOGIT
    inner = (slice(before, before + s) for (before, _), s in zip(padding, shape, strict=True))
    return total[:, *inner]


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return the first voxel of each window along an axis that is not shorter than the window.

    The step is the window without the overlap, rounded down; the last window ends at the border.
    """
    step = max(int(window * (1 - overlap)), 1)
    last = size - window
    return [*range(0, last, step), last]


def even_window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return the first voxel of each window along an axis as nnU-Net does, with equal steps.

    There are as few windows as possible, with steps no longer than the window without the overlap.
    Starts are rounded to whole voxels.
    """
    last = size - window
    steps = math.ceil(last / (window * (1 - overlap)))
    return [round(last / steps * i) for i in range(steps + 1)] if steps else [0]


def gaussian_weight(window_zyx: Sequence[int]) -> Volume:
    """Return the weight of each voxel of a window: 1 at its centre, lowest in the corners."""
    weight = np.ones((), np.float32)
    for size in window_zyx:
        distance = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        along = np.exp(distance**2 / np.float32(-2 * (size * SIGMA_SCALE) ** 2))
        weight = weight[..., None] * along
    return np.maximum(weight, LEAST_WEIGHT).astype(np.float32)


def nnunet_weight(window_zyx: Sequence[int]) -> Volume:
    """Return nnU-Net's weight of each voxel of a window: 10 at its centre, in float16 precision.

    The centre is the voxel `size // 2`. Weights that float16 rounds to 0 get the lowest positive
    weight.
    """
    weight = np.full((), 10.0)
    for size in window_zyx:
        distance = np.arange(size) - size // 2
        weight = weight[..., None] * np.exp(distance**2 / (-2 * (size * SIGMA_SCALE) ** 2))
    half = weight.astype(np.float16)
    half[half == 0] = half[half > 0].min()
    return half.astype(np.float32)


def _padding(size: int, window: int) -> tuple[int, int]:
    missing = max(window - size, 0)
    return missing // 2, missing - missing // 2
