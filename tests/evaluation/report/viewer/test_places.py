"""The places to which a page can jump, by hand."""

from __future__ import annotations

import numpy as np

from evaluation.report.viewer.places import find_places
from evaluation.scoring_rules import ScoringRules
from shared.conventions import LabelVolume
from shared.geometry import Grid

GRID = Grid((30, 20, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
REGION = Grid((32, 32, 32), (1.0, 1.0, 1.0), (-2.0, -2.0, -2.0))


def labels(*blocks: tuple[int, int]) -> LabelVolume:
    """Return a label map with a block of 2 x 2 x 2 voxels, starting at x, for each (x, label)."""
    volume = np.zeros(GRID.shape_zyx, np.uint8)
    for x, label in blocks:
        volume[3:5, 4:6, x : x + 2] = label
    return volume


def test_errors_then_lesions_of_both_masks() -> None:
    places = find_places(
        labels((2, 1), (8, 2)), labels((2, 1), (12, 2)),
        grid=GRID, region=REGION, rules=ScoringRules(),
    )  # fmt: skip
    assert [(place.group, place.text) for place in places] == [
        ("error", "missed node, 0.06 ml"),
        ("error", "false node, 0.06 ml"),
        ("predicted", "GTVp, 0.06 ml"),
        ("predicted", "GTVn, 0.06 ml"),
        ("true", "GTVp, 0.06 ml"),
        ("true", "GTVn, 0.06 ml"),
    ]
    # The block is centred at x = 2.5·2 = 5 mm and y = 4.5·2 = 9 mm; its planes are at z = 6 and
    # 8 mm. The region has an offset of 2 mm.
    x, y, z = places[2].voxel_xyz or (0, 0, 0)
    assert (x, y) == (7, 11)
    assert z in (8, 10)


def test_lesion_outside_the_region_has_no_voxel() -> None:
    places = find_places(
        labels((2, 1), (25, 2)), None, grid=GRID, region=REGION, rules=ScoringRules()
    )
    assert [place.voxel_xyz is None for place in places] == [False, True]


def test_without_truth_there_are_no_errors() -> None:
    places = find_places(labels((2, 2)), None, grid=GRID, region=REGION, rules=ScoringRules())
    assert [place.group for place in places] == ["predicted"]


def test_empty_masks_have_no_places() -> None:
    assert find_places(labels(), labels(), grid=GRID, region=REGION, rules=ScoringRules()) == []


def test_lesion_at_the_corner_of_the_scan() -> None:
    volume = np.zeros(GRID.shape_zyx, np.uint8)
    volume[0, 0, 0] = volume[-1, -1, -1] = 2
    places = find_places(volume, volume, grid=GRID, region=REGION, rules=ScoringRules())
    assert [place.group for place in places] == ["predicted"] * 2 + ["true"] * 2
