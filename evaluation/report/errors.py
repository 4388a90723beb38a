"""Finds the errors of a label map: which lesions are wrong, how, and where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from evaluation.report.places import LesionPlace, place_of, voxels_of_each
from evaluation.scoring_rules import ScoringRules
from shared.conventions import Label, LabelVolume
from shared.geometry import Grid
from shared.metrics.segmentation import lesion_pairs

MOSTLY: Final = 0.5
"""A lesion counts as confused with the other label if at least this fraction of its voxels has that
label in the other mask."""
WORDS: Final = {Label.GTVP: "primary", Label.GTVN: "node"}
OTHER: Final = {Label.GTVP: Label.GTVN, Label.GTVN: Label.GTVP}


@dataclass(frozen=True, kw_only=True)
class LesionError(LesionPlace):
    """An error of one lesion.

    Attributes
    ----------
    kind : the kind of error in words, such as "missed node".
    """

    kind: str


def find_errors(
    prediction: LabelVolume, truth: LabelVolume, *, grid: Grid, rules: ScoringRules
) -> list[LesionError]:
    """Return the errors of a label map, largest lesion first.

    A true lesion is missed (no predicted voxel of its label overlaps it), has the other label, is
    split (two or more predicted lesions overlap it), or is poorly outlined (overlapped, but not
    matched by the rules). A predicted lesion is false (it overlaps no true lesion of its label) or
    merged (it overlaps two or more true lesions).

    Parameters
    ----------
    prediction, truth : indexed [z, y, x], on `grid`.
    """
    errors: list[LesionError] = []
    for label in (Label.GTVP, Label.GTVN):
        word, other = WORDS[label], WORDS[OTHER[label]]
        predicted, true = (
            voxels_of_each(
                cc3d.connected_components(labels == label, connectivity=rules.connectivity)
            )
            for labels in (prediction, truth)
        )
        pairs = lesion_pairs(prediction, truth, label, connectivity=rules.connectivity)
        matched = {
            index for _, index in pairs.matches(min_iou=rules.min_iou, matching=rules.matching)
        }
        for index in range(len(pairs.truth_voxels)):
            overlaps = np.count_nonzero(pairs.pairs[:, 1] == index)
            if overlaps == 1 and index in matched:
                continue
            voxels = true[index]
            if overlaps >= 2:
                kind = f"split {word}"
            elif overlaps == 1:
                kind = f"poorly outlined {word}"
            elif _share(prediction, voxels, OTHER[label]) >= MOSTLY:
                kind = f"{word} called {other}"
            else:
                kind = f"missed {word}"
            errors.append(_error(kind, voxels, grid))
        for index in range(len(pairs.prediction_voxels)):
            overlaps = np.count_nonzero(pairs.pairs[:, 0] == index)
            if overlaps == 1:
                continue
            voxels = predicted[index]
            if overlaps >= 2:
                kind = "merged nodes" if word == "node" else "merged primaries"
                errors.append(_error(kind, voxels, grid))
            # A lesion with the other label in the truth is an error of the true lesion, see above.
            elif _share(truth, voxels, OTHER[label]) < MOSTLY:
                errors.append(_error(f"false {word}", voxels, grid))
    return sorted(errors, key=lambda error: -error.volume_ml)


def _share(volume: LabelVolume, voxels: NDArray[np.int64], label: Label) -> float:
    """Return the fraction of some voxels that has a label."""
    return float(np.mean(volume[tuple(voxels.T)] == label))


def _error(kind: str, voxels_zyx: NDArray[np.int64], grid: Grid) -> LesionError:
    return LesionError(kind=kind, **asdict(place_of(voxels_zyx, grid)))
