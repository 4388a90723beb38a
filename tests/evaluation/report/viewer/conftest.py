"""A sample case and its page, shared by the tests of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from evaluation.images import read_labels
from evaluation.report.pictures import View, make_view
from evaluation.report.viewer.view_command import view
from shared.conventions import LESIONS
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case

ROOT = Path(__file__).parents[4]
NAME = "oblique_flipped"
"""A case with tilted and reversed axes, of which Task 1 misses a node."""
CASE = ROOT / "tests" / "cases" / NAME
OUTPUT = ROOT / "task1_segmentation" / "test" / NAME
LABELS = ["none", *LESIONS]


@dataclass(frozen=True)
class Viewed:
    """A page, and the case that it must show."""

    page: Path
    view: View

    @property
    def grid(self) -> Grid:
        return self.view.grid

    def suv(self, x: int, y: int, z: int) -> float:
        """Return the mean SUV of the block of 2 x 2 x 2 voxels around a voxel."""
        block: NDArray[Any] = self.view.pet_suv[
            z // 2 * 2 : z // 2 * 2 + 2, y // 2 * 2 : y // 2 * 2 + 2, x // 2 * 2 : x // 2 * 2 + 2
        ]
        return float(block.mean())


@pytest.fixture(scope="session")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> Viewed:
    page = tmp_path_factory.mktemp("viewer") / "a case.html"
    view(CASE, OUTPUT, page)
    case = read_case(CASE / "input", CURRENT)
    grid = Grid.of(case.ct_hu)
    masks = (CASE / "truth.nii.gz", OUTPUT / CURRENT.outputs["segmentation"].path)
    truth, prediction = (grid.image(read_labels(path)) for path in masks)
    return Viewed(page, make_view(case, truth, prediction))
