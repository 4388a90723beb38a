"""The description of lesions for the log."""

from __future__ import annotations

import numpy as np

from shared.geometry import Grid
from shared.postprocessing.remarks import describe_lesions
from shared.preprocessing.pipeline import Prepared, Undo


def prepared(spacing_mm: float = 2.0) -> Prepared:
    grid = Grid((10, 10, 10), (spacing_mm,) * 3, (0.0, 0.0, 0.0))
    suv = np.ones(grid.shape_zyx, np.float32)
    suv[1, 1, 1], suv[9, 9, 9] = 8.25, 99
    return Prepared(ct_hu=suv, pet_suv=suv, body=suv > 0, undo=Undo(grid, grid), remarks=())


def test_lesions_by_hand() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5, :5, :5] = 1  # 125 voxels of 8 mm³
    labels[6, 6, 6], labels[6, 6, 8] = 2, 2
    assert describe_lesions(labels, prepared()) == [
        "GTVp: 1 component(s), 1.0 ml, SUVmax 8.2",
        "GTVn: 2 component(s), 0.0 ml, SUVmax 1.0",
    ]


def test_volumes_are_in_ml() -> None:
    labels = np.ones((10, 10, 10), np.uint8)
    primary, _ = describe_lesions(labels, prepared(spacing_mm=20.0))
    assert primary == "GTVp: 1 component(s), 8000.0 ml, SUVmax 99.0"


def test_missing_lesions_are_stated_for_each_label() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    assert describe_lesions(labels, prepared()) == ["GTVp: none found", "GTVn: none found"]
