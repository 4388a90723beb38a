"""Errors of label maps that are small enough to draw on paper."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.report.errors import find_errors
from evaluation.scoring_rules import ScoringRules
from shared.conventions import LabelVolume
from shared.geometry import Grid

GRID = Grid((20, 20, 10), (1.0, 2.0, 5.0), (-10.0, 50.0, 0.0))
"""Voxels of 10 mm³."""
P, N = 1, 2


def volume(*boxes: tuple[int, slice, slice, slice]) -> LabelVolume:
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    for label, z, y, x in boxes:
        labels[z, y, x] = label
    return labels


def box(z: int, y: int, x: int, size: int = 3) -> tuple[slice, slice, slice]:
    return slice(z, z + size), slice(y, y + size), slice(x, x + size)


def column(start: int, stop: int) -> tuple[slice, slice, slice]:
    return slice(1, 4), slice(start, stop), slice(1, 4)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ([], [], []),
        ([(P, *box(1, 1, 1))], [(P, *box(1, 1, 1))], []),
        ([], [(P, *box(1, 1, 1))], [("missed primary", 0.27)]),
        ([], [(N, *box(1, 1, 1))], [("missed node", 0.27)]),
        ([(P, *box(1, 1, 1))], [], [("false primary", 0.27)]),
        ([(P, *box(1, 1, 1))], [(N, *box(1, 1, 1))], [("node called primary", 0.27)]),
        ([(N, *box(1, 1, 1))], [(P, *box(1, 1, 1))], [("primary called node", 0.27)]),
        # The predicted primary touches no node, and the node is predicted too: still false.
        (
            [(P, *box(1, 1, 1)), (N, *box(1, 9, 9))],
            [(N, *box(1, 9, 9))],
            [("false primary", 0.27)],
        ),
        (
            [(N, *column(1, 3)), (N, *column(4, 7))],
            [(N, *column(1, 7))],
            [("split node", 0.54)],
        ),
        (
            [(N, *column(1, 8))],
            [(N, *column(1, 4)), (N, *column(5, 8))],
            [("merged nodes", 0.63), ("poorly outlined node", 0.27)],
        ),
        ([(N, *box(1, 1, 1))], [(N, *box(3, 3, 3))], [("poorly outlined node", 0.27)]),
    ],
)  # fmt: skip
def test_errors_are_named(
    prediction: list[tuple[int, slice, slice, slice]],
    truth: list[tuple[int, slice, slice, slice]],
    expected: list[tuple[str, float]],
) -> None:
    errors = find_errors(volume(*prediction), volume(*truth), grid=GRID, rules=ScoringRules())
    assert [error.kind for error in errors] == [kind for kind, _ in expected]
    assert [error.volume_ml for error in errors] == pytest.approx([ml for _, ml in expected])


def test_largest_error_comes_first_and_lies_in_its_fullest_plane() -> None:
    truth = volume((N, *box(0, 0, 0, 2)), (P, slice(3, 6), slice(5, 6), slice(5, 6)),
                   (P, slice(5, 6), slice(4, 9), slice(4, 9)))  # fmt: skip
    first, second = find_errors(volume(), truth, grid=GRID, rules=ScoringRules())
    assert [first.kind, second.kind] == ["missed primary", "missed node"]
    assert first.volume_ml == pytest.approx(0.27)
    # Plane z = 5 has 25 of the primary's 27 voxels, centred on x = 6, y = 6.
    assert first.centre_mm == pytest.approx((-10 + 6, 50 + 12, 25))
    assert first.radius_mm == pytest.approx((3 * 270 / (4 * np.pi)) ** (1 / 3))


def test_error_on_a_flipped_grid_is_placed_in_the_world() -> None:
    flipped = Grid(GRID.size_xyz, GRID.spacing_mm, (0.0, 0.0, 100.0), (-1, 0, 0, 0, 1, 0, 0, 0, -1))
    (error,) = find_errors(
        volume(), volume((P, *box(1, 1, 1, 1))), grid=flipped, rules=ScoringRules()
    )
    assert error.centre_mm == pytest.approx((-1, 2, 95))
