"""Reads one predicted label map, and scores its labels and lesions against the truth."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TypeAlias, get_args

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt

from evaluation.images import grid_difference, read_grid, read_labels
from evaluation.job_folder import find_inside
from evaluation.scoring_rules import Fraction, ScoringRules
from shared.conventions import LESIONS, Label, LabelVolume
from shared.editions import Edition
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import images_in
from shared.metrics.segmentation import (
    Connectivity,
    Detections,
    LesionPairs,
    Matching,
    Overlap,
    lesion_pairs,
    overlap,
)
from shared.metrics.surface import surface_distances
from shared.schema import Strict

LesionCounts: TypeAlias = dict[str, Detections]
"""The counts of GTVn lesions of a case under each alternative rule."""


class Lesion(Strict):
    """One true lesion.

    Attributes
    ----------
    iou : the highest intersection over union with a predicted lesion; 0 if none overlaps.
    found : whether a predicted lesion is matched to it, one to one.
    """

    volume_mm3: NonNegativeFloat
    iou: Fraction
    found: bool


class LabelScores(Strict):
    """The scores of one label of one case.

    Attributes
    ----------
    dice : the DSC; if a mask is empty, the rules define it.
    shared_mm3, prediction_mm3, truth_mm3 : volumes of the overlap, the prediction and the truth,
        whose sums over the cases give the aggregated DSC.
    true_positives, false_positives, false_negatives : numbers of lesions, whose sums over the cases
        give the aggregated F1.
    hd95_mm, surface_dice : null unless both masks have the label.
    lesions : the true lesions, largest first.
    false_positives_mm3 : volumes of the predicted lesions without a match, largest first.
    """

    dice: Fraction
    shared_mm3: NonNegativeFloat
    prediction_mm3: NonNegativeFloat
    truth_mm3: NonNegativeFloat
    true_positives: NonNegativeInt
    false_positives: NonNegativeInt
    false_negatives: NonNegativeInt
    hd95_mm: NonNegativeFloat | None
    surface_dice: Fraction | None
    lesions: tuple[Lesion, ...]
    false_positives_mm3: tuple[NonNegativeFloat, ...]


def read_mask(output: Path, edition: Edition, truth: Grid) -> LabelVolume:
    """Return the label map of a job, indexed [z, y, x].

    The label map is not resampled. As the challenge states, it must be on the grid of the truth.

    Parameters
    ----------
    output : folder of the job's outputs.
    truth : the grid that the label map must be on.

    Raises
    ------
    InputError
        If there is not exactly one image, or the image cannot be read, is not on that grid, or has
        values other than the whole numbers from 0 to 2.
    """
    relative = PurePosixPath(edition.outputs["segmentation"].path).parent
    names = [path.name for path in images_in(find_inside(output, str(relative)))]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise InputError(f"expected one label map in {relative}, found {found}")
    path = find_inside(output, str(relative / names[0]))
    # Checked before the voxels are read, because a huge grid might not fit into memory.
    if problem := grid_difference(read_grid(path), truth):
        raise InputError(f"expected the label map on the CT's grid, found {problem}")
    return read_labels(path)


def score_masks(
    prediction: LabelVolume,
    truth: LabelVolume,
    *,
    grid: Grid,
    rules: ScoringRules,
    failed: bool = False,
) -> tuple[dict[str, LabelScores], LesionCounts]:
    """Return the scores of a label map, and the counts of GTVn lesions under alternative rules.

    Parameters
    ----------
    prediction, truth : indexed [z, y, x], on `grid`. A failed case has an empty prediction.
    failed : whether the case counts as failed.
    """
    box = _box_around(prediction, truth)
    prediction, truth = prediction[box], truth[box]
    labels = {
        name: _score_label(prediction, truth, label=label, grid=grid, rules=rules, failed=failed)
        for name, label in LESIONS.items()
    }
    return labels, _counts_by_other_rules(prediction, truth, rules)


def dice_under(scores: LabelScores, failed: bool, *, both_empty: float, one_empty: float) -> float:
    """Return the DSC of a label under a rule on empty masks; 0 if the case failed."""
    volumes = Overlap(
        shared_mm3=scores.shared_mm3,
        prediction_mm3=scores.prediction_mm3,
        truth_mm3=scores.truth_mm3,
    )
    return 0.0 if failed else volumes.dice(both_empty=both_empty, one_empty=one_empty)


def _score_label(
    prediction: LabelVolume,
    truth: LabelVolume,
    *,
    label: Label,
    grid: Grid,
    rules: ScoringRules,
    failed: bool,
) -> LabelScores:
    pairs = lesion_pairs(prediction, truth, label, connectivity=rules.connectivity)
    volumes = overlap(prediction, truth, label, voxel_volume_mm3=grid.voxel_volume_mm3)
    counts = pairs.detections(min_iou=rules.min_iou, matching=rules.matching)
    matches = pairs.matches(min_iou=rules.min_iou, matching=rules.matching)
    surfaces = None
    if volumes.prediction_mm3 > 0 and volumes.truth_mm3 > 0:
        surfaces = surface_distances(prediction == label, truth == label, grid.spacing_mm[::-1])
    dice = volumes.dice(both_empty=rules.both_empty, one_empty=rules.one_empty)
    return LabelScores(
        dice=0.0 if failed else dice,
        shared_mm3=volumes.shared_mm3,
        prediction_mm3=volumes.prediction_mm3,
        truth_mm3=volumes.truth_mm3,
        true_positives=counts.true_positives,
        false_positives=counts.false_positives,
        false_negatives=counts.false_negatives,
        hd95_mm=None if surfaces is None else surfaces.hd95_mm(),
        surface_dice=None if surfaces is None else surfaces.surface_dice(rules.tolerance_mm),
        lesions=_lesions(pairs, {true for _, true in matches}, grid.voxel_volume_mm3),
        false_positives_mm3=_false_lesions(
            pairs, {predicted for predicted, _ in matches}, grid.voxel_volume_mm3
        ),
    )


def _lesions(pairs: LesionPairs, matched: set[int], voxel_mm3: float) -> tuple[Lesion, ...]:
    best = np.zeros(len(pairs.truth_voxels))
    np.maximum.at(best, pairs.pairs[:, 1], pairs.iou)
    lesions = [
        Lesion(volume_mm3=size * voxel_mm3, iou=float(best[i]), found=i in matched)
        for i, size in enumerate(pairs.truth_voxels.tolist())
    ]
    return tuple(sorted(lesions, key=lambda lesion: (-lesion.volume_mm3, -lesion.iou)))


def _false_lesions(pairs: LesionPairs, matched: set[int], voxel_mm3: float) -> tuple[float, ...]:
    sizes = [s for i, s in enumerate(pairs.prediction_voxels.tolist()) if i not in matched]
    return tuple(size * voxel_mm3 for size in sorted(sizes, reverse=True))


def _counts_by_other_rules(
    prediction: LabelVolume, truth: LabelVolume, rules: ScoringRules
) -> LesionCounts:
    counts: LesionCounts = {}
    connectivities: tuple[Connectivity, ...] = get_args(Connectivity)
    matchings: tuple[Matching, ...] = get_args(Matching)
    for connectivity in connectivities:
        pairs = lesion_pairs(prediction, truth, Label.GTVN, connectivity=connectivity)
        for matching in matchings:
            if (connectivity, matching) != (rules.connectivity, rules.matching):
                rule = f"connectivity {connectivity}, matching {matching}"
                counts[rule] = pairs.detections(min_iou=rules.min_iou, matching=matching)
    return counts


def _box_around(prediction: LabelVolume, truth: LabelVolume) -> tuple[slice, ...]:
    """Return the slices around the labels of both masks; usually a small part of the scan."""
    if prediction.shape != truth.shape:
        raise ValueError(f"expected one grid, found shapes {prediction.shape} and {truth.shape}")
    labelled = (prediction | truth) > 0
    slices = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero(labelled.any(axis=others))
        slices.append(slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 1))
        labelled = labelled[tuple(slice(None) if a != axis else slices[-1] for a in range(3))]
    return tuple(slices)
