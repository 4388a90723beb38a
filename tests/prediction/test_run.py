"""The commands predict or write a sample case; the page and the picture show the results."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from prediction import __main__ as program
from prediction.case_files import read_case_files
from prediction.lesions import find_lesions
from prediction.page import Result, describe_lesions, draw_picture, render_prediction
from shared.case import Case
from shared.conventions import Label
from shared.geometry import Grid
from shared.models.hpv import HpvPrediction
from shared.preprocessing.pipeline import Prepared, Undo

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "tests/cases/no_primary/input"
IMAGES = [CASE / "images/ct/no_primary.mha", CASE / "images/pet/no_primary.mha"]


@dataclass(frozen=True)
class Run:
    """The output of a command and the folder that it wrote."""

    stdout: str
    folder: Path

    @property
    def numbers(self) -> Any:
        return json.loads((self.folder / "prediction.json").read_text())

    @property
    def page(self) -> str:
        return (self.folder / "prediction.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Predict a sample case whose images come as NIfTI files."""
    folder = tmp_path_factory.mktemp("run")
    for name, image in zip(("ct", "pet"), IMAGES, strict=True):
        sitk.WriteImage(sitk.ReadImage(str(image)), str(folder / f"{name}.nii.gz"))
    images = [str(folder / "ct.nii.gz"), str(folder / "pet.nii.gz")]
    arguments = ["run", *images, str(folder / "<mine>"), "--ehr", str(CASE / "ehr.json")]
    result = CliRunner().invoke(program.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Run(result.stdout, folder / "<mine>")


def test_predictions_are_those_of_the_containers(run: Run) -> None:
    expected = ROOT / "task1_segmentation/test/no_primary/images"
    (mask_path,) = expected.rglob("*.mha")
    expected_mask = sitk.GetArrayFromImage(sitk.ReadImage(str(mask_path)))
    for name in ("mask.mha", "mask.nii.gz"):
        mask = sitk.ReadImage(str(run.folder / name))
        assert mask.GetPixelID() == sitk.sitkUInt8
        assert np.mean(sitk.GetArrayFromImage(mask) != expected_mask) < 1e-4
    risk = json.loads((ROOT / "task2_survival/test/no_primary/rfs.json").read_text())
    assert run.numbers["risk"] == pytest.approx(risk, abs=0.02)
    status = json.loads((ROOT / "task3_hpv/test/no_primary/hpv-status.json").read_text())
    assert run.numbers["hpv"]["is_positive"] is status


def test_mask_lies_on_the_grid_of_the_ct(run: Run) -> None:
    ct = Grid.of(sitk.ReadImage(str(IMAGES[0])))
    for name in ("mask.mha", "mask.nii.gz"):
        assert Grid.of(sitk.ReadImage(str(run.folder / name))).is_close(ct)


def test_case_folder_is_ready_for_the_containers(run: Run) -> None:
    case = read_case_files(ct=IMAGES[0], pet=IMAGES[1], ehr=CASE / "ehr.json")
    written = run.folder / "case/input"
    again = read_case_files(
        ct=written / "images/ct/ct.mha",
        pet=written / "images/pet/pet.mha",
        ehr=written / "ehr.json",
    )
    assert again.clinical == case.clinical
    assert np.array_equal(
        sitk.GetArrayViewFromImage(again.ct_hu), sitk.GetArrayViewFromImage(case.ct_hu)
    )


def test_output_ends_with_what_to_open_and_json(run: Run) -> None:
    *_, hint, last = run.stdout.splitlines()
    assert hint == f"open {run.folder}/prediction.html in a browser"
    assert json.loads(last)["folder"] == str(run.folder)


def test_page_shows_the_numbers_and_needs_no_other_file(run: Run) -> None:
    page, numbers = run.page, run.numbers
    assert "<h1>Prediction: &lt;mine&gt;</h1>" in page
    assert "trained on computer-made phantoms" in page
    assert "Not for clinical use" in page
    assert f"probability {numbers['hpv']['probability']:.2f}" in page
    assert f"<b>{numbers['risk']:.2f}</b>" in page
    nodes = [lesion for lesion in numbers["lesions"] if lesion["label"] == "GTVn"]
    assert len(nodes) == len(numbers["lesions"]) == 2
    assert f"<b>{sum(node['volume_ml'] for node in nodes):.1f} ml</b>" in page
    assert page.count('<th scope="row">') == 2
    assert all(f"<li>{remark}</li>" in page for remark in numbers["remarks"])
    sources = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert all(re.findall(r'<img [^>]*alt="([^"]+)"', page))


def test_picture_is_a_png_of_six_panels_in_rows_of_four(run: Run) -> None:
    picture = sitk.ReadImage(str(run.folder / "picture.png"))
    width, height = picture.GetSize()
    assert width == 2 * height
    colours = sitk.GetArrayFromImage(picture)[..., :3].reshape(-1, 3).astype(int)
    is_yellow = (colours[:, 0] > 200) & (colours[:, 1] > 180) & (colours[:, 2] < 90)
    assert is_yellow.sum() > 500  # the outlines of two nodes


def made_up_case() -> Case:
    """Return a cylinder of water with air around it."""
    grid = Grid((50, 50, 50), (6.0, 6.0, 6.0), (-150.0, -150.0, -150.0))
    _, y, x = np.indices(grid.shape_zyx)
    body = np.hypot(x - 25, y - 25) < 15
    ct = grid.image(np.where(body, 0, -1000).astype(np.int16))
    pet = grid.image(body.astype(np.float32))
    return replace(read_case_files(ct=IMAGES[0], pet=IMAGES[1]), ct_hu=ct, pet=pet)


def result_of(case: Case, labels: np.ndarray) -> Result:
    grid = Grid.of(case.ct_hu)
    prepared = Prepared(
        ct_hu=sitk.GetArrayFromImage(case.ct_hu).astype(np.float32),
        pet_suv=sitk.GetArrayFromImage(case.pet),
        body=np.ones(grid.shape_zyx, bool),
        undo=Undo(grid, grid),
        remarks=(),
    )
    return Result(
        mask=grid.image(labels),
        lesions=find_lesions(labels, prepared),
        hpv=HpvPrediction(logit=2.0, probability=0.88, decision=True),
        risk=-1.25,
        notices=["A <notice>."],
        remarks=[],
    )


def test_case_without_lesions_has_a_picture_and_says_so() -> None:
    case = made_up_case()
    result = result_of(case, np.zeros((50, 50, 50), np.uint8))
    picture = draw_picture(case, result)
    assert "no lesion" in picture.alt
    page = render_prediction(case, result, picture, title="x")
    assert "because no lesion is predicted" in page
    assert "<b>0.0 ml</b>" in page
    assert "A &lt;notice&gt;." in page
    assert "<b>positive</b>" in page
    assert "<table>" not in page


def test_lesions_are_listed_by_label_and_size() -> None:
    case = made_up_case()
    labels = np.zeros((50, 50, 50), np.uint8)
    labels[20:22, 20:22, 20:22] = Label.GTVN  # 8 voxels of 0.216 ml
    labels[30:33, 20:23, 20:23] = Label.GTVN
    labels[25, 25, 25] = Label.GTVP
    labels[10, 40, 10] = labels[11, 41, 11] = Label.GTVP  # they touch at a corner, outside the body
    lesions = result_of(case, labels).lesions
    assert [lesion.label for lesion in lesions] == ["GTVp", "GTVp", "GTVn", "GTVn"]
    volumes = [lesion.volume_ml for lesion in lesions]
    assert volumes == pytest.approx([2 * 0.216, 0.216, 27 * 0.216, 8 * 0.216])
    assert [lesion.suv_max for lesion in lesions] == [0, 1, 1, 1]
    assert lesions[1].centre_mm == (0, 0, 0)
    assert describe_lesions(lesions) == "2 GTVp, 2 GTVn"
    assert describe_lesions(lesions[2:]) == "2 GTVn"


def test_case_command_writes_only_the_case(tmp_path: Path) -> None:
    arguments = ["case", *map(str, IMAGES), str(tmp_path / "case"), "--suv-factor", "2"]
    result = CliRunner().invoke(program.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    files = sorted(p.name for p in (tmp_path / "case").rglob("*") if p.is_file())
    assert files == ["ct.mha", "ehr.json", "pet.mha"]
    assert json.loads((tmp_path / "case/input/ehr.json").read_text()) == {}
    remark, last = result.stdout.splitlines()
    assert remark == "PET: multiplied by 2, which gives SUV"
    assert json.loads(last) == {"folder": str(tmp_path / "case")}


def test_mistake_of_the_user_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prediction", "run", str(tmp_path), str(IMAGES[1]), str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    assert program.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("expected DICOM files of a CT series")
    assert not (tmp_path / "out").exists()


def test_interrupt_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> Case:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "read_case_files", interrupted)
    monkeypatch.setattr("sys.argv", ["prediction", "case", "ct.mha", "pet.mha", "case"])
    assert program.main() == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "interrupted: the results are incomplete; run the command again"
