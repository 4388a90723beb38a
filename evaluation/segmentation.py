"""Scores of segmentation: mean GTVp DSC, aggregated GTVn DSC and F1, and what explains them.

A failed or missing case scores as if its mask were empty, and DSC 0 also for a label that the truth
does not have: giving no answer never pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, get_args

import numpy as np

from evaluation.schema import LabelScores, Lesion, LesionGroup, SegmentationCase
from evaluation.scoring import GroupOf, Scores, Scoring, mean, of_columns
from evaluation.scoring_rules import ScoringRules
from shared.conventions import LESIONS, Label, LabelVolume
from shared.geometry import Grid
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

VOLUME_EDGES_ML: Final = (5.0, 20.0)
"""Limits between small, medium and large, for all lesions of a patient together: spheres of 2.1 and
3.4 cm."""
LESION_EDGES_ML: Final = (1.0, *VOLUME_EDGES_ML)
"""The same limits for a single lesion, and a sphere of 1.2 cm: many nodes are smaller."""

LesionCounts: TypeAlias = dict[str, Detections]
"""Counts of GTVn lesions of a case under other rules, by the rule."""


def score_masks(
    prediction: LabelVolume,
    truth: LabelVolume,
    *,
    grid: Grid,
    rules: ScoringRules,
    failed: bool = False,
) -> tuple[dict[str, LabelScores], LesionCounts]:
    """Return the scores of a label map, and the counts of GTVn lesions under other rules.

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


def scores_of(results: Sequence[SegmentationCase]) -> Scores:
    """Return the scores for each label."""
    return {
        f"{name.lower()}_{score}": value
        for name in LESIONS
        for score, value in _label_scores([result.labels[name] for result in results]).items()
    }


def alternatives(
    results: Sequence[SegmentationCase], counts: Sequence[LesionCounts], rules: ScoringRules
) -> dict[str, dict[str, float | None]]:
    """Return the scores under the other choices that the organisers have left open.

    Parameters
    ----------
    counts : lesion counts of each case under other rules.
    rules : the rules of the main scores; they are not repeated here.
    """
    totals = {rule: sum((each[rule] for each in counts), Detections()) for rule in counts[0]}
    gtvp = [(result.labels["GTVp"], result.failure is not None) for result in results]

    def dice(both_empty: float, one_empty: float) -> float | None:
        scores = [
            _dice(s, failed, both_empty=both_empty, one_empty=one_empty) for s, failed in gtvp
        ]
        return mean(scores).value()

    # A failed case with two empty masks has scored 0, and is not left out.
    not_empty = [s.dice for s, failed in gtvp if failed or s.truth_mm3 or s.prediction_mm3]
    in_truth = [s.dice for s, _ in gtvp if s.truth_mm3]
    return {
        "gtvp_dice": {
            **{
                f"absent in both masks: {value}": dice(value, rules.one_empty)
                for value in (0, 1)
                if value != rules.both_empty
            },
            **({"absent in one mask: 0": dice(rules.both_empty, 0)} if rules.one_empty else {}),
            "absent in both masks: left out": mean(not_empty).value(),
            "absent in the truth: left out": mean(in_truth).value(),
        },
        "gtvn_aggregated_f1": {rule: total.f1() for rule, total in totals.items()},
    }


def lesions_by_volume(
    results: Sequence[SegmentationCase], rules: ScoringRules
) -> dict[str, dict[str, LesionGroup]]:
    """Return by label how many true lesions are detected, by the volume of the single lesion."""
    volumes = [_volume_name(lowest_ml, LESION_EDGES_ML) for lowest_ml in (0.0, *LESION_EDGES_ML)]
    groups = {}
    for name in LESIONS:
        counts: dict[str, list[tuple[int, int]]] = {volume: [] for volume in volumes}
        for result in results:
            detected: dict[str, list[bool]] = {}
            for lesion in result.labels[name].lesions:
                volume = _volume_name(lesion.volume_mm3 / 1000, LESION_EDGES_ML)
                detected.setdefault(volume, []).append(lesion.found)
            for volume, each in detected.items():
                counts[volume].append((sum(each), len(each)))
        groups[name] = {
            volume: LesionGroup(
                lesions=sum(lesions for _, lesions in patients),
                sensitivity=of_columns(
                    lambda detected, lesions: float(detected.sum() / lesions.sum()), patients
                ).estimate(rules.bootstrap_samples),
            )
            for volume, patients in counts.items()
            if patients
        }
    return groups


def _dice(scores: LabelScores, failed: bool, *, both_empty: float, one_empty: float) -> float:
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


def _label_scores(labels: Sequence[LabelScores]) -> Scores:
    volumes = [(s.shared_mm3, s.prediction_mm3, s.truth_mm3) for s in labels]
    counts = [(s.true_positives, s.false_positives, s.false_negatives) for s in labels]
    return {
        "dice": mean([s.dice for s in labels]),
        "aggregated_dice": of_columns(lambda *mm3: Overlap(*map(np.sum, mm3)).dice(), volumes),
        "aggregated_f1": of_columns(lambda *n: Detections(*map(np.sum, n)).f1(), counts),
        "sensitivity": of_columns(lambda *n: Detections(*map(np.sum, n)).sensitivity(), counts),
        "false_positives_per_case": mean([s.false_positives for s in labels]),
        "hd95_mm": mean([s.hd95_mm for s in labels]),
        "surface_dice": mean([s.surface_dice for s in labels]),
    }


def _by_volume(name: str) -> GroupOf[SegmentationCase]:
    def group_of(result: SegmentationCase) -> str:
        volume_mm3 = result.labels[name].truth_mm3
        return _volume_name(volume_mm3 / 1000, VOLUME_EDGES_ML) if volume_mm3 else "0"

    return group_of


def _volume_name(volume_ml: float, edges_ml: Sequence[float]) -> str:
    """Return the name of the range that holds a volume; a range includes its lower end."""
    above = [edge for edge in edges_ml if edge > volume_ml]
    lower = edges_ml[len(edges_ml) - len(above) - 1] if len(above) < len(edges_ml) else 0
    return f"{lower:g}-{above[0]:g}" if above else f"{lower:g}+"


def _box_around(prediction: LabelVolume, truth: LabelVolume) -> tuple[slice, ...]:
    """Return the slices around all labels of both masks: lesions fill a hundredth of a scan."""
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


SCORING: Final = Scoring(
    ranked=("gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1"),
    failure_rule="as if nothing had been outlined; DSC 0 also of a label that the truth has not",
    scores_of=scores_of,
    group_kinds={f"{name.lower()}_volume_ml": _by_volume(name) for name in LESIONS},
)
