"""Lists the places to which a viewer page can jump: the lesions of both masks, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cc3d
import numpy as np

from evaluation.report.errors import find_errors
from evaluation.report.places import LesionPlace, place_of, voxels_of_each
from evaluation.scoring_rules import ScoringRules
from shared.conventions import LESIONS, LabelVolume
from shared.geometry import Box, Grid, bounding_slices

Group = Literal["error", "predicted", "true"]
GROUPS: Final[dict[Group, str]] = {
    "error": "Errors",
    "predicted": "Predicted lesions",
    "true": "True lesions",
}
"""Headings of the groups, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place to jump to.

    Attributes
    ----------
    text : what is there, such as "missed node, 1.25 ml".
    voxel_xyz : voxel of the region; None if the place is outside the region.
    """

    group: Group
    text: str
    voxel_xyz: tuple[int, int, int] | None


def find_places(
    prediction: LabelVolume,
    truth: LabelVolume | None,
    *,
    grid: Grid,
    region: Grid,
    rules: ScoringRules,
) -> list[Place]:
    """Return errors, predicted lesions and true lesions, each from large to small.

    Parameters
    ----------
    prediction, truth : label maps on `grid`, indexed [z, y, x]; without truth there are no errors.
    region : grid of the volumes on the page.
    """
    box = _box_around(prediction if truth is None else prediction | truth, grid)
    grid, prediction = grid.cropped(box), prediction[box.slices_zyx()]
    places = []
    if truth is not None:
        truth = truth[box.slices_zyx()]
        for error in find_errors(prediction, truth, grid=grid, rules=rules):
            places.append(_place("error", error.kind, error, region))
    masks: Sequence[tuple[Group, LabelVolume | None]] = (("predicted", prediction), ("true", truth))
    for group, labels in masks:
        if labels is not None:
            for name, lesion in _lesions(labels, grid, rules):
                places.append(_place(group, name, lesion, region))
    return places


def _lesions(labels: LabelVolume, grid: Grid, rules: ScoringRules) -> list[tuple[str, LesionPlace]]:
    """Return the name of the label and the place of each lesion, primaries first."""
    lesions: list[tuple[str, LesionPlace]] = []
    for name, label in LESIONS.items():
        components = cc3d.connected_components(labels == label, connectivity=rules.connectivity)
        places = [place_of(voxels, grid) for voxels in voxels_of_each(components)]
        lesions += [(name, place) for place in sorted(places, key=lambda place: -place.volume_ml)]
    return lesions


def _box_around(labels: LabelVolume, grid: Grid) -> Box:
    """Return the box around all labels, with a margin of one voxel.

    Without labels, the box is a single voxel.

    The errors of a small box are found much faster than those of a whole scan. The margin is needed
    because cc3d 4.1.1 fails on some masks that are one voxel wide.
    """
    slices = bounding_slices(labels > 0)
    if slices is None:
        return Box((0, 0, 0), (1, 1, 1))
    z, y, x = slices
    start = [max(0, side.start - 1) for side in (x, y, z)]
    stop = [min(n, side.stop + 1) for side, n in zip((x, y, z), grid.size_xyz, strict=True)]
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _place(group: Group, name: str, place: LesionPlace, region: Grid) -> Place:
    index = np.rint(region.index(np.array([place.centre_mm]))[0]).astype(int)
    x, y, z = (int(i) for i in index)
    inside = bool(np.all(index >= 0) and np.all(index < np.asarray(region.size_xyz)))
    return Place(
        group=group,
        text=f"{name}, {place.volume_ml:.2f} ml",
        voxel_xyz=(x, y, z) if inside else None,
    )
