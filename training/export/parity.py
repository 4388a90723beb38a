"""Whether an exported graph gives what its network gives in torch.

Logits have no scale of their own: those of a trained network are far larger than those of a fresh
one, and their difference grows with them and with the voxels that instance norm averages over. What
counts is the answer. Masks are compared by probabilities and labels. Risks and HPV logits are
compared on the scale on which they are used, relative to their size.
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
"""Two labels whose probabilities in torch differ by less are tied, and either is right: 0.5 % of
the voxels of a fresh network, so the order of rounding would decide whether it can be exported."""

MIN_AGREEMENT: Final = 0.9999
"""Least share of voxels that agree in probabilities and label. The largest difference of all voxels
says little: the demo network at 192³ differs by 0.011 in one of 7 million on OpenVINO."""

MAX_RELATIVE_DIFFERENCE: Final = 1e-2
"""Largest difference of a standardised risk or a logit, relative to its size, or to 1 if it is
smaller. At a risk's size of 1 this is a hundredth of the spread between patients; a logit at the
threshold changes its probability by at most 0.0025."""


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
            f"voxels, found that in {agree.mean():.3%} and a difference of up to "
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
    """Check risks or HPV logits against those of torch, both of one shape.

    Parameters
    ----------
    mean, std : of a model's risks on the patients trained on, which standardise them in serving.

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
