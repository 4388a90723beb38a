"""Scores of a label map: DSC of a case, and DSC and F1 aggregated over cases.

What is counted for a case is an `Overlap` or a `Detections`; both are added up over the cases, one
case in memory at a time, and the aggregated score is that of the sum:
`sum((overlap(...) for ... in cases), Overlap()).dice()`. Lesions are connected components; which of
them a prediction finds, invents and misses follows from the `LesionPairs` of a case.

The organisers have not published connectivity, matching rule and the DSC of an absent GTVp; these
are parameters, and the defaults are this project's reading.

Voxels are counted by the confusion matrix of `grand-challenge-metrics`. Its DSC is not used: it has
32 bits and is NaN if neither mask has the label. Its detections are points within a radius; it has
neither an aggregated DSC in mm³ nor matching by IoU.

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
"""How lesions are paired one to one: by falling IoU, or so that as many as possible are found.

Of equal IoUs, "greedy" takes those that leave the most pairs of this IoU, then of the next lower
one, and so on; so the counts do not depend on the order in which lesions are numbered.
"""

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

    def sensitivity(self) -> float:
        """Return the fraction of the true lesions that were found.

        Raises
        ------
        ValueError
            If there is no true lesion.
        """
        lesions = self.true_positives + self.false_negatives
        if lesions == 0:
            raise ValueError("expected at least one true lesion, found none")
        return self.true_positives / lesions


@dataclass(frozen=True)
class LesionPairs:
    """The lesions of one label in a prediction and in the truth, and which of them overlap.

    Attributes
    ----------
    found_voxels, true_voxels : size of each lesion, shapes (found,) and (true,).
    pairs : shape (n, 2), indices into both of each found and true lesion that share a voxel.
    iou : shape (n,), intersection over union of each pair.
    """

    found_voxels: NDArray[np.int64]
    true_voxels: NDArray[np.int64]
    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]

    def matches(
        self, min_iou: float = MIN_IOU, matching: Matching = "greedy"
    ) -> list[tuple[int, int]]:
        """Return the pairs that count, each lesion in at most one of them.

        Parameters
        ----------
        min_iou : what the IoU of a pair must exceed.
        matching : which pairs count where a lesion could be in several.
        """
        able = self.iou > min_iou
        pairs, iou = self.pairs[able], self.iou[able]
        # The larger lesions are matched where the number of pairs leaves a choice.
        sizes = self.found_voxels[pairs[:, 0]] + self.true_voxels[pairs[:, 1]]
        if matching == "most":
            return _best(pairs, [np.ones(len(pairs)), sizes])
        matched: list[tuple[int, int]] = []
        while (first := _surely_first(pairs, iou)).any():
            matched += [(found, true) for found, true in pairs[first].tolist()]
            left = ~(np.isin(pairs[:, 0], pairs[first, 0]) | np.isin(pairs[:, 1], pairs[first, 1]))
            pairs, iou, sizes = pairs[left], iou[left], sizes[left]
        return matched + _best(pairs, [*(iou == level for level in np.unique(iou)[::-1]), sizes])

    def detections(self, min_iou: float = MIN_IOU, matching: Matching = "greedy") -> Detections:
        """Count the lesions that are found, invented and missed; parameters as in `matches`."""
        hits = len(self.matches(min_iou, matching))
        return Detections(hits, len(self.found_voxels) - hits, len(self.true_voxels) - hits)


def _surely_first(pairs: NDArray[np.int64], iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pairs have the one highest IoU of both their lesions."""
    first = np.ones(len(pairs), dtype=bool)
    for lesions in pairs.T:
        for lesion in np.unique(lesions):
            own = np.flatnonzero(lesions == lesion)
            tied = iou[own] == iou[own].max()
            first[own] &= tied & (np.count_nonzero(tied) == 1)
    return first


def _best(
    pairs: NDArray[np.int64], objectives: Sequence[NDArray[np.generic]]
) -> list[tuple[int, int]]:
    """Return pairs, each lesion in at most one, of which the first objective's sum is largest.

    Among these the second objective's sum is largest, and so on. The matchings with the largest sum
    are the corners of a face of a polytope, on which a linear programme finds the next largest.
    """
    if not len(pairs):
        return []
    lesions = np.concatenate([pairs[:, 0], pairs[:, 1] + pairs[:, 0].max() + 1])
    once = csr_array((np.ones(len(lesions)), (lesions, np.tile(np.arange(len(pairs)), 2))))
    fixed: list[NDArray[np.float64]] = []
    sums: list[int] = []
    chosen = np.zeros(len(pairs))
    for objective in objectives:
        weights = objective.astype(np.float64)
        chosen = np.round(
            linprog(
                -weights,
                A_ub=once,
                b_ub=np.ones(once.shape[0]),
                A_eq=fixed or None,
                b_eq=sums or None,
                bounds=(0, 1),
                method="highs-ds",
            ).x
        )
        fixed.append(weights)
        sums.append(round(float(weights @ chosen)))
    return [(found, true) for found, true in pairs[chosen == 1].tolist()]


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
    voxels = calculate_confusion_matrix(true, found, [False, True])
    return Overlap(
        shared_mm3=float(voxels[1, 1] * voxel_volume_mm3),
        prediction_mm3=float(voxels[:, 1].sum() * voxel_volume_mm3),
        truth_mm3=float(voxels[1].sum() * voxel_volume_mm3),
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


def lesion_pairs(
    prediction: LabelVolume, truth: LabelVolume, label: Label, connectivity: Connectivity = 26
) -> LesionPairs:
    """Return the lesions of one label in two label maps on the same grid, and how they overlap.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    found, true = (
        cc3d.connected_components(mask, connectivity=connectivity)
        for mask in _masks(prediction, truth, label)
    )
    found_voxels, true_voxels = np.bincount(found.ravel())[1:], np.bincount(true.ravel())[1:]
    both = (found > 0) & (true > 0)
    pairs, shared = np.unique(
        np.stack([found[both], true[both]], axis=1).astype(np.int64) - 1,
        axis=0,
        return_counts=True,
    )
    iou = shared / (found_voxels[pairs[:, 0]] + true_voxels[pairs[:, 1]] - shared)
    return LesionPairs(found_voxels, true_voxels, pairs, iou)


def detections(
    prediction: LabelVolume,
    truth: LabelVolume,
    label: Label,
    min_iou: float = MIN_IOU,
    connectivity: Connectivity = 26,
    matching: Matching = "greedy",
) -> Detections:
    """Count the lesions of one label that are found, invented and missed.

    A lesion is a connected component. A found and a true lesion match if their intersection over
    union exceeds `min_iou`; each matches at most one, pairs being taken by falling IoU unless
    `matching` says otherwise.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return lesion_pairs(prediction, truth, label, connectivity).detections(min_iou, matching)


def _masks(
    prediction: LabelVolume, truth: LabelVolume, label: Label
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if prediction.shape != truth.shape:
        raise ValueError(
            f"expected prediction and truth on one grid, found shapes {prediction.shape} and "
            f"{truth.shape}"
        )
    return prediction == label, truth == label
