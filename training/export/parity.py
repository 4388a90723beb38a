"""Compares the output of an exported graph with the output of its network in torch.

Logits have no scale of their own. The logits of a trained network are far larger than those of an
untrained one, and their differences grow with their size and with the number of voxels that
instance norm averages over. The comparison therefore uses what the logits mean: probabilities and
labels of a mask, and standardised risks and HPV logits relative to their size.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import Volume
from shared.errors import ExportError
from shared.models.segmentation import softmax

MAX_PROBABILITY_DIFFERENCE: Final = 1e-2
"""Largest difference of a probability in a voxel that agrees."""

TIE: Final = 2e-3
"""If the two highest probabilities in torch differ by less than this, either label is accepted.
This concerns 0.5 % of the voxels of an untrained network, where rounding decides the label."""

MIN_AGREEMENT: Final = 0.9999
"""Least share of voxels that agree in probabilities and label. The largest difference of all voxels
says little: on OpenVINO, one of 7 million voxels of the demo network at 192³ differs by 0.011."""

MAX_RELATIVE_DIFFERENCE: Final = 1e-2
"""Largest difference of a standardised risk or a logit, divided by its size or by 1, whichever is
larger. For a risk of 1, this is a hundredth of the spread between patients. For a logit at the
threshold, it changes the probability by at most 0.0025."""


def compare_masks(logits: Volume, expected: Volume, name: str) -> None:
    """Check the logits of a mask against those of torch, both of shape (K, z, y, x).

    Up to 1 in 10,000 voxels, rounded up, may differ.

    Raises
    ------
    ExportError
        If a value is not finite, or too few voxels agree.
    """
    probabilities, reference = softmax(logits.copy()), softmax(expected.copy())
    difference = np.abs(probabilities - reference).max(axis=0)
    second, first = np.sort(reference, axis=0)[-2:]
    agree = (probabilities.argmax(axis=0) == reference.argmax(axis=0)) | (first - second < TIE)
    agree &= difference <= MAX_PROBABILITY_DIFFERENCE
    allowed = math.ceil((1 - MIN_AGREEMENT) * agree.size)
    if not np.isfinite(difference).all() or np.count_nonzero(~agree) > allowed:
        raise ExportError(
            f"{name} differs from torch: expected the same label and probabilities that differ by "
            f"at most {MAX_PROBABILITY_DIFFERENCE:g} in at least {MIN_AGREEMENT:.2%} of the "
            f"voxels, found agreement in {agree.mean():.3%} and a difference of up to "
            f"{difference.max():.2g}; nothing was written"
        )


def compare_numbers(
    outputs: NDArray[np.float32],
    expected: NDArray[np.float32],
    name: str,
    *,
    mean: float = 0.0,
    std: float = 1.0,
) -> None:
    """Check risks or HPV logits against those of torch, in arrays of the same shape.

    Parameters
    ----------
    mean, std : mean and standard deviation of the model's risks on the training patients, with
        which serving standardises risks.

    Raises
    ------
    ExportError
        If a value is not finite or differs too much.
    """
    values, reference = ((np.float64(each) - mean) / std for each in (outputs, expected))
    difference = float((np.abs(values - reference) / np.maximum(1, np.abs(reference))).max())
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise ExportError(
            f"{name} differs from torch: expected a relative difference of at most "
            f"{MAX_RELATIVE_DIFFERENCE:g}, found {difference:.2g}; nothing was written"
        )
