"""Scores of a label map: DSC of a case, and DSC and F1 aggregated over cases.

An `Overlap` or a `Detections` holds the counts of a case. An aggregated score is the score of the
summed counts: `sum((overlap(...) for ... in cases), Overlap()).dice()`. So only one case at a time
has to be in memory. Lesions are connected components. The `LesionPairs` of a case decide which
lesions are detected, missed or false.

The organisers have not published the connectivity, the matching rule or the DSC of an absent GTVp.
All three are parameters here; the defaults are this project's interpretation.

The confusion matrix of `grand-challenge-metrics` counts the voxels. The DSC of that package is not
used, because it is computed in 32 bits and is NaN if neither mask has the label. The package
matches detections as points within a radius; it has neither an aggregated DSC in mm³ nor matching
by IoU.

References
----------
Andrearczyk et al. 2023, Overview of the HECKTOR challenge at MICCAI 2022 (aggregated DSC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cc3d
import numpy as np
from grand_challenge_metrics.stats import calculate_confusion_matrix
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

from shared.conventions import Label, LabelVolume

Connectivity: TypeAlias = Literal[6, 18, 26]
Matching: TypeAlias = Literal["greedy", "most"]
"""How lesions are paired one to one: "greedy" pairs them in descending order of IoU; "most" makes
as many pairs as possible.

If several pairs have the same IoU, "greedy" keeps as many of them as possible. If there are several
ways to do so, it takes the one that leaves the most pairs at the next lower IoU, and so on. The
counts therefore do not depend on the numbering of the lesions.
"""

MIN_IOU: Final = 0.30
"""IoU that a pair must exceed for the lesion to count as detected (HECKTOR 2025)."""


@dataclass(frozen=True)
class Overlap:
    """Volumes of one label in a prediction and in the truth; overlaps of several cases add up.

    Attributes
    ----------
    shared_mm3 : volume of the intersection.
    prediction_mm3, truth_mm3 : volume in each label map.
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
        both_empty : result if neither prediction nor truth has the label.
        one_empty : result if exactly one of them has the label.
        """
        if self.prediction_mm3 == 0 and self.truth_mm3 == 0:
            return both_empty
        if self.prediction_mm3 == 0 or self.truth_mm3 == 0:
            return one_empty
        return 2 * self.shared_mm3 / (self.prediction_mm3 + self.truth_mm3)


@dataclass(frozen=True)
class Detections:
    """Counts of lesions; detections of several cases add up.

    Attributes
    ----------
    true_positives : detected lesions.
    false_positives : lesions of the prediction without a match in the truth.
    false_negatives : missed lesions.
    """

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
        """Return 2 TP / (2 TP + FP + FN), or `no_lesions` if all counts are 0."""
        denominator = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / denominator if denominator else no_lesions

    def sensitivity(self) -> float:
        """Return the fraction of the true lesions that are detected.

        Raises
        ------
        ValueError
            If there is no true lesion.
        """
        lesions = self.true_positives + self.false_negatives
        if lesions == 0:
            raise ValueError("expected at least one true lesion, found none")
        return self.true_positives / lesions


@dataclass(frozen=True, kw_only=True)
class LesionPairs:
    """The lesions of one label in a prediction and in the truth, and their overlaps.

    Attributes
    ----------
    prediction_voxels, truth_voxels : size of each lesion of the prediction and of the truth.
    pairs : shape (n, 2), the indices (prediction, truth) of lesions that share a voxel.
    iou : shape (n,), intersection over union of each pair.
    """

    prediction_voxels: NDArray[np.int64]
    truth_voxels: NDArray[np.int64]
    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]

    def matches(
        self, min_iou: float = MIN_IOU, matching: Matching = "greedy"
    ) -> list[tuple[int, int]]:
        """Return the pairs that match, with each lesion in at most one of them.

        Parameters
        ----------
        min_iou : value that the IoU of a pair must exceed.
        matching : decides which pairs match if a lesion is in several eligible pairs.
        """
        eligible = self.iou > min_iou
        pairs, iou = self.pairs[eligible], self.iou[eligible]
        # Among equally good matchings, the one with the largest lesions is chosen.
        sizes = self.prediction_voxels[pairs[:, 0]] + self.truth_voxels[pairs[:, 1]]
        if matching == "most":
            return _best_matching(pairs, [np.ones(len(pairs)), sizes])
        matches: list[tuple[int, int]] = []
        while (certain := _is_certain(pairs, iou)).any():
            matches += [(prediction, truth) for prediction, truth in pairs[certain].tolist()]
            in_use = [np.isin(pairs[:, side], pairs[certain, side]) for side in (0, 1)]
            rest = ~(in_use[0] | in_use[1])
            pairs, iou, sizes = pairs[rest], iou[rest], sizes[rest]
        levels = np.unique(iou)[::-1]
        return matches + _best_matching(pairs, [*(iou == level for level in levels), sizes])

    def detections(self, min_iou: float = MIN_IOU, matching: Matching = "greedy") -> Detections:
        """Count detected, false and missed lesions; the parameters are those of `matches`."""
        hits = len(self.matches(min_iou, matching))
        return Detections(hits, len(self.prediction_voxels) - hits, len(self.truth_voxels) - hits)


def _is_certain(pairs: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pairs have a higher IoU than every other pair with one of their two lesions."""
    certain = np.ones(len(pairs), dtype=bool)
    for lesions in pairs.T:
        for lesion in np.unique(lesions):
            rows = np.flatnonzero(lesions == lesion)
            is_best = iou[rows] == iou[rows].max()
            certain[rows] &= is_best & (np.count_nonzero(is_best) == 1)
    return certain


def _best_matching(
    pairs: NDArray[np.int64], objectives: Sequence[NDArray[np.generic]]
) -> list[tuple[int, int]]:
    """Return the matching that maximises the first objective; each lesion is in at most one pair.

    An objective is a sum over the pairs. If several matchings have the same sum, the second
    objective decides, and so on. Matchings are the corners of a polytope, and the best ones are the
    corners of one of its faces. A linear programme optimises the next objective on this face.
    """
    if not len(pairs):
        return []
    lesions = np.concatenate([pairs[:, 0], pairs[:, 1] + pairs[:, 0].max() + 1])
    columns = np.tile(np.arange(len(pairs)), 2)
    pairs_of_lesion = csr_array((np.ones(len(lesions)), (lesions, columns)))
    constraints: list[NDArray[np.float64]] = []
    sums: list[int] = []
    selection = np.zeros(len(pairs))
    for objective in objectives:
        weights = objective.astype(np.float64)
        selection = np.round(
            linprog(
                -weights,
                A_ub=pairs_of_lesion,
                b_ub=np.ones(pairs_of_lesion.shape[0]),
                A_eq=constraints or None,
                b_eq=sums or None,
                bounds=(0, 1),
                method="highs-ds",
            ).x
        )
        constraints.append(weights)
        sums.append(round(float(weights @ selection)))
    return [(prediction, truth) for prediction, truth in pairs[selection == 1].tolist()]


def overlap(
    prediction: LabelVolume, truth: LabelVolume, label: Label, *, voxel_volume_mm3: float
) -> Overlap:
    """Return the overlap of one label in two label maps on the same grid.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    prediction_mask, truth_mask = _masks(prediction, truth, label)
    voxels = calculate_confusion_matrix(truth_mask, prediction_mask, [False, True])
    return Overlap(
        shared_mm3=float(voxels[1, 1] * voxel_volume_mm3),
        prediction_mm3=float(voxels[:, 1].sum() * voxel_volume_mm3),
        truth_mm3=float(voxels[1].sum() * voxel_volume_mm3),
    )


def dice(
    prediction: LabelVolume,
    truth: LabelVolume,
    label: Label,
    *,
    both_empty: float = 1.0,
    one_empty: float = 0.0,
) -> float:
    """Return the DSC of one label in one case; see `Overlap.dice` for the empty cases.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return overlap(prediction, truth, label, voxel_volume_mm3=1.0).dice(both_empty, one_empty)


def lesion_pairs(
    prediction: LabelVolume, truth: LabelVolume, label: Label, *, connectivity: Connectivity = 26
) -> LesionPairs:
    """Return the lesions of one label in two label maps on the same grid, and their overlaps.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    components = [
        cc3d.connected_components(mask, connectivity=connectivity)
        for mask in _masks(prediction, truth, label)
    ]
    prediction_voxels, truth_voxels = (np.bincount(part.ravel())[1:] for part in components)
    intersection = (components[0] > 0) & (components[1] > 0)
    pairs, shared = np.unique(
        np.stack([part[intersection] for part in components], axis=1).astype(np.int64) - 1,
        axis=0,
        return_counts=True,
    )
    iou = shared / (prediction_voxels[pairs[:, 0]] + truth_voxels[pairs[:, 1]] - shared)
    return LesionPairs(
        prediction_voxels=prediction_voxels, truth_voxels=truth_voxels, pairs=pairs, iou=iou
    )


def detections(
    prediction: LabelVolume,
    truth: LabelVolume,
    label: Label,
    *,
    min_iou: float = MIN_IOU,
    connectivity: Connectivity = 26,
    matching: Matching = "greedy",
) -> Detections:
    """Count the detected, false and missed lesions of one label.

    A lesion is a connected component. A predicted and a true lesion may match if their intersection
    over union exceeds `min_iou`. Each lesion has at most one match, which `matching` selects.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    pairs = lesion_pairs(prediction, truth, label, connectivity=connectivity)
    return pairs.detections(min_iou, matching)


def _masks(
    prediction: LabelVolume, truth: LabelVolume, label: Label
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if prediction.shape != truth.shape:
        raise ValueError(
            f"expected prediction and truth on the same grid, found shapes {prediction.shape} and "
            f"{truth.shape}"
        )
    return prediction == label, truth == label
