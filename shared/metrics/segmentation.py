"""Scores of a label map: DSC of a case, and DSC and F1 aggregated over cases.

What is counted for a case is an `Overlap` or a `Detections`; both are added up over the cases, one
case in memory at a time, and the aggregated score is that of the sum:
`sum((overlap(...) for ... in cases), Overlap()).dice()`.

The organisers have not published connectivity, matching rule and the DSC of an absent GTVp; these
are parameters, and the defaults are this project's reading.

References
----------
Andrearczyk et al. 2023, Overview of the HECKTOR challenge at MICCAI 2022 (aggregated DSC).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume

MIN_IOU: Final = 0.30
"""IoU that a found lesion must exceed to count as detected (HECKTOR 2025)."""


@dataclass(frozen=True)
class Overlap:
    """How far a label of a prediction and of the truth coincide; the sum of two is of both cases.

    Attributes
    ----------
    shared_mm3 : volume of what both have.
    prediction_mm3, truth_mm3 : volume of each.
    """

    shared_mm3: float = 0.0
    prediction_mm3: float = 0.0
    truth_mm3: float = 0.0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.shared_mm3 + other.shared_mm3,
            self.prediction_mm3 + other.prediction_mm3,
            self.truth_mm3 + other.truth_mm3,
        )

    def dice(self, both_empty: float = 1.0, one_empty: float = 0.0) -> float:
        """Return the Dice similarity coefficient, 2 |A ∩ B| / (|A| + |B|), between 0 and 1.

        Parameters
        ----------
        both_empty : returned where neither prediction nor truth has the label.
        one_empty : returned where exactly one of them has it.
        """
        if self.prediction_mm3 == 0 and self.truth_mm3 == 0:
            return both_empty
        if self.prediction_mm3 == 0 or self.truth_mm3 == 0:
            return one_empty
        return 2 * self.shared_mm3 / (self.prediction_mm3 + self.truth_mm3)


@dataclass(frozen=True)
class Detections:
    """Lesions found, invented and missed; the sum of two is of both cases."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: Detections) -> Detections:
        return Detections(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    def f1(self, no_lesions: float = 1.0) -> float:
        """Return 2 TP / (2 TP + FP + FN), or `no_lesions` where there are none to count."""
        counted = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / counted if counted else no_lesions


def overlap(
    prediction: LabelVolume, truth: LabelVolume, label: Label, voxel_volume_mm3: float
) -> Overlap:
    """Return how far one label coincides in two label maps on the same grid.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found, true = _masks(prediction, truth, label)
    return Overlap(
        float(np.count_nonzero(found & true) * voxel_volume_mm3),
        float(np.count_nonzero(found) * voxel_volume_mm3),
        float(np.count_nonzero(true) * voxel_volume_mm3),
    )


def dice(
    prediction: LabelVolume,
    truth: LabelVolume,
    label: Label,
    both_empty: float = 1.0,
    one_empty: float = 0.0,
) -> float:
    """Return the DSC of one label in one case; see `Overlap.dice` for the empty cases.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return overlap(prediction, truth, label, 1.0).dice(both_empty, one_empty)


def detections(
    prediction: LabelVolume,
    truth: LabelVolume,
    label: Label,
    min_iou: float = MIN_IOU,
    connectivity: Literal[6, 18, 26] = 26,
) -> Detections:
    """Count the lesions of one label that are found, invented and missed.

    A lesion is a connected component. A found and a true lesion match if their intersection over
    union exceeds `min_iou`; each matches at most one, pairs being taken by falling IoU.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found, true = (
        cc3d.connected_components(mask, connectivity=connectivity)
        for mask in _masks(prediction, truth, label)
    )
    found_sizes, true_sizes = np.bincount(found.ravel()), np.bincount(true.ravel())
    both = (found > 0) & (true > 0)
    pairs, shared = np.unique(
        np.stack([found[both], true[both]], axis=1).astype(np.int64), axis=0, return_counts=True
    )
    iou = shared / (found_sizes[pairs[:, 0]] + true_sizes[pairs[:, 1]] - shared)
    matched_found: set[int] = set()
    matched_true: set[int] = set()
    for pair in np.argsort(-iou, kind="stable"):
        a, b = pairs[pair].tolist()
        if iou[pair] > min_iou and a not in matched_found and b not in matched_true:
            matched_found.add(a)
            matched_true.add(b)
    hits = len(matched_true)
    return Detections(hits, len(found_sizes) - 1 - hits, len(true_sizes) - 1 - hits)


def _masks(
    prediction: LabelVolume, truth: LabelVolume, label: Label
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if prediction.shape != truth.shape:
        raise ValueError(
            f"expected prediction and truth on one grid, found shapes {prediction.shape} and "
            f"{truth.shape}"
        )
    return prediction == label, truth == label
