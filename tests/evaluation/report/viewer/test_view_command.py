"""`python -m evaluation view`: one file, the same bytes each time, and clear refusals."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.report.viewer.page import ViewedCase, render_case
from evaluation.report.viewer.view_command import view
from evaluation.scoring_rules import ScoringRules
from shared.editions import CURRENT
from shared.errors import HecktorError, InputError
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from tests.evaluation.report.viewer.conftest import CASE, OUTPUT, Viewed


def test_page_has_the_same_bytes_again(
    viewed: Viewed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    view(CASE, OUTPUT)
    assert (tmp_path / f"{CASE.name}.html").read_bytes() == viewed.page.read_bytes()


def test_page_names_no_address_outside(viewed: Viewed) -> None:
    text = viewed.page.read_text(encoding="utf-8")
    head, _, rest = re.sub(r'<script type="text/plain".*?</script>', "", text).partition("/*! Nii")
    own = head + rest[rest.index("window.Niivue=") :]
    assert "default-src 'none'" in head
    assert "http" not in own.replace("http-equiv", "")
    assert "src=" not in own


def test_name_cannot_change_the_page() -> None:
    case = read_case(CASE / "input", CURRENT)
    empty = np.zeros(Grid.of(case.ct_hu).shape_zyx, np.uint8)
    name = "</script><script>alert('x')</script>"
    viewed = ViewedCase(name=name, case=case, prediction=empty, truth=None, rules=ScoringRules())
    text = render_case(viewed, niivue=None)
    assert "<script>alert" not in text
    assert '<script src="niivue.js">' in text
    assert "Truth" not in text.partition("<script")[0]  # no control for a missing truth


def write_mask(path: Path, grid: Grid) -> None:
    path.parent.mkdir(parents=True)
    sitk.WriteImage(grid.image(np.zeros(grid.shape_zyx, np.uint8)), path)


def test_folder_without_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HecktorError, match="input in the platform's layout, found no such folder"):
        view(tmp_path, OUTPUT)


def test_missing_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder of a job's outputs at .*nothing, found none"):
        view(CASE, tmp_path / "nothing")
    with pytest.raises(InputError, match=r"expected one label map in .*, found none"):
        view(CASE, tmp_path)


def test_label_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    write_mask(tmp_path / CURRENT.outputs["segmentation"].path, grid)
    with pytest.raises(InputError, match="expected the label map on the CT's grid, found size"):
        view(CASE, tmp_path)


def test_truth_on_another_grid_is_refused(tmp_path: Path) -> None:
    truth = tmp_path / "x" / "truth.nii.gz"
    write_mask(truth, Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    with pytest.raises(InputError, match=r"expected the truth .*truth\.nii\.gz on the CT's grid"):
        view(CASE, OUTPUT, truth=truth)


def test_damaged_pet_is_refused(tmp_path: Path) -> None:
    shutil.copytree(CASE, tmp_path / "case")
    (pet,) = (tmp_path / "case" / "input" / CURRENT.pet.path).iterdir()
    pet.write_bytes(pet.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"truncated|damaged"):
        view(tmp_path / "case", OUTPUT)
