"""Answers as the files that the platform collects."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.outputs import (
    remove_partials,
    write_hpv,
    write_risk,
    write_segmentation,
    write_value,
)
from shared.tasks import Algorithm, Output
from tests.shared.editions import with_risk_sign
from tests.shared.grand_challenge.platform_case import (
    SIZE_XYZ,
    ct_image,
    files_in,
)


def test_mask_is_written_as_it_is(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SIZE_XYZ[::-1]).astype(np.uint8)
    mask = Grid.of(ct_image()).image(labels)
    write_segmentation(tmp_path, mask, CURRENT)
    found = sitk.ReadImage(str(tmp_path / "images/tumor-lymph-node-segmentation/output.mha"))
    assert found.GetPixelID() == sitk.sitkUInt8
    assert found.IsSameImageGeometryAs(ct_image())
    assert np.array_equal(sitk.GetArrayViewFromImage(found), labels)
    content = (tmp_path / CURRENT.outputs["segmentation"].path).read_bytes()
    assert b"CompressedData = True" in content


@pytest.mark.parametrize(("decision", "text"), [(True, "true"), (False, "false")])
def test_hpv_is_a_bare_boolean(tmp_path: Path, decision: bool, text: str) -> None:
    write_hpv(tmp_path, decision, CURRENT)
    assert (tmp_path / "hpv-status.json").read_text() == text


def test_value_of_a_new_task_needs_only_its_row_in_the_edition(tmp_path: Path) -> None:
    answer = Output(task="hpv", slug="stage", path="texts/stage.json")
    stage = Algorithm(name="task4_stage", outputs=(answer,))
    write_value(tmp_path, "hpv", 3, replace(CURRENT, algorithms=(stage,)))
    assert (tmp_path / "texts/stage.json").read_text() == "3"
    assert not answer.is_image


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.125), (-1, -0.125)])
def test_risk_is_a_bare_number_with_the_editions_sign(
    tmp_path: Path, sign: int, expected: float
) -> None:
    write_risk(tmp_path, 0.125, with_risk_sign(CURRENT, sign))
    assert (tmp_path / "rfs.json").read_text() == str(expected)


def test_higher_is_earlier_in_2025() -> None:
    assert CURRENT.outputs["survival"].risk_sign == 1


@pytest.mark.parametrize("risk", [math.nan, math.inf, -math.inf])
def test_number_that_json_lacks_is_not_written(tmp_path: Path, risk: float) -> None:
    with pytest.raises(ValueError, match="JSON cannot hold"):
        write_risk(tmp_path / "output", risk, CURRENT)
    assert files_in(tmp_path) == []


def fail(path: Path, *_: object, **__: object) -> None:
    """Write half a file, and fail."""
    Path(path).write_bytes(b"half")
    raise OSError("the disk is full")


@pytest.mark.parametrize("existed", [False, True])
def test_file_is_written_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    target = tmp_path / CURRENT.outputs["segmentation"].path
    mask = Grid.of(ct_image()).filled(1, sitk.sitkUInt8)
    before: list[str] = []
    if existed:
        write_segmentation(tmp_path, mask, CURRENT)
        before, content = files_in(tmp_path), target.read_bytes()
    monkeypatch.setattr(
        "shared.grand_challenge.outputs.sitk.WriteImage", lambda image, path, **_: fail(Path(path))
    )
    with pytest.raises(OSError, match="disk is full"):
        write_segmentation(tmp_path, mask, CURRENT)
    assert files_in(tmp_path) == before
    assert not existed or target.read_bytes() == content


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    write_hpv(tmp_path, True, CURRENT)
    write_hpv(tmp_path, False, CURRENT)
    assert files_in(tmp_path) == ["hpv-status.json"]
    assert json.loads((tmp_path / "hpv-status.json").read_text()) is False


@pytest.mark.parametrize("place", ["hpv-status.json", "nowhere"])
def test_link_in_the_place_of_an_output_is_replaced(tmp_path: Path, place: str) -> None:
    """A dangling link ends a job of the platform without a result."""
    target = tmp_path / "hpv-status.json"
    target.symlink_to(tmp_path / place)
    write_hpv(tmp_path, True, CURRENT)
    assert files_in(tmp_path) == ["hpv-status.json"]
    assert not target.is_symlink()
    assert target.read_text() == "true"


def test_partial_files_alone_are_removed(tmp_path: Path) -> None:
    write_hpv(tmp_path, True, CURRENT)
    (tmp_path / ".partial-1/images").mkdir(parents=True)
    (tmp_path / ".partial-1/images/output.mha").touch()
    remove_partials(tmp_path)
    assert files_in(tmp_path) == ["hpv-status.json"]


def test_no_output_folder_has_no_partial_files(tmp_path: Path) -> None:
    remove_partials(tmp_path / "output")
    assert files_in(tmp_path) == []
