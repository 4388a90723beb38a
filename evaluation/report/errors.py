"""What is wrong with a label map, lesion by lesion, and where: what a reader wants to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from evaluation.schema import Rules
from shared.conventions import Label, LabelVolume
from shared.geometry import Grid
from shared.metrics.segmentation import lesion_pairs

PLACE_MM: Final = 2.0
"""Thickness of the planes of which the one with most of the lesion is shown."""
MOSTLY: Final = 0.5
"""Part of a lesion that must have the other label for it to be called mistaken for the other."""
WORDS: Final = {Label.GTVP: "primary", Label.GTVN: "node"}
OTHER: Final = {Label.GTVP: Label.GTVN, Label.GTVN: Label.GTVP}


@dataclass(frozen=True)
class LesionError:
    """One error.

    Attributes
    ----------
    kind : in words, such as "missed node".
    volume_ml : of the lesion that is missed, split or false.
    centre_mm : a world point (LPS) in the axial plane that shows most of it.
    radius_mm : of the sphere of that volume.
    """

    kind: str
    volume_ml: float
    centre_mm: tuple[float, float, float]
    radius_mm: float


def find_errors(
    prediction: LabelVolume, truth: LabelVolume, grid: Grid, rules: Rules
) -> list[LesionError]:
    """Return the errors of a label map, largest lesion first.

    True lesions: missed (nothing of their label touches them), taken for the other label, split
    (two or more found lesions share them), or poorly outlined (touched, but not matched by the
    rules). Found lesions: false (they touch no true lesion of their label), or merged (they share
    two or more true ones).

    Parameters
    ----------
    prediction, truth : indexed [z, y, x], on `grid`.
    """
    errors: list[LesionError] = []
    for label in (Label.GTVP, Label.GTVN):
        word, other = WORDS[label], WORDS[OTHER[label]]
        found = cc3d.connected_components(prediction == label, connectivity=rules.connectivity)
        true = cc3d.connected_components(truth == label, connectivity=rules.connectivity)
        pairs = lesion_pairs(prediction, truth, label, connectivity=rules.connectivity)
        matched = {index for _, index in pairs.matches(rules.min_iou, rules.matching)}
        for index in range(len(pairs.truth_voxels)):
            sharing = np.count_nonzero(pairs.pairs[:, 1] == index)
            if sharing == 1 and index in matched:
                continue
            voxels = np.argwhere(true == index + 1)
            if sharing >= 2:
                kind = f"split {word}"
            elif sharing == 1:
                kind = f"poorly outlined {word}"
            elif _share(prediction, voxels, OTHER[label]) >= MOSTLY:
                kind = f"{word} called {other}"
            else:
                kind = f"missed {word}"
            errors.append(_error(kind, voxels, grid))
        for index in range(len(pairs.prediction_voxels)):
            sharing = np.count_nonzero(pairs.pairs[:, 0] == index)
            if sharing == 1:
                continue
            voxels = np.argwhere(found == index + 1)
            if sharing >= 2:
                errors.append(_error(f"merged {word}s" if word == "node" else "merged primaries",
                                     voxels, grid))  # fmt: skip
            elif _share(truth, voxels, OTHER[label]) < MOSTLY:  # else told of the true lesion
                errors.append(_error(f"false {word}", voxels, grid))
    return sorted(errors, key=lambda error: -error.volume_ml)


def _share(volume: LabelVolume, voxels: NDArray[np.int64], label: Label) -> float:
    """Return the part of some voxels that has a label."""
    return float(np.mean(volume[tuple(voxels.T)] == label))


def _error(kind: str, voxels_zyx: NDArray[np.int64], grid: Grid) -> LesionError:
    """Return an error of a lesion, placed in its fullest axial plane of the world."""
    world = grid.world_mm(voxels_zyx[:, ::-1].astype(np.float64))
    planes = np.round(world[:, 2] / PLACE_MM).astype(int)
    values, counts = np.unique(planes, return_counts=True)
    inside = world[planes == values[np.argmax(counts)]]
    x, y, z = inside.mean(axis=0).tolist()
    volume_mm3 = len(voxels_zyx) * grid.voxel_volume_mm3
    return LesionError(
        kind, volume_mm3 / 1000, (x, y, z), float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3))
    )
