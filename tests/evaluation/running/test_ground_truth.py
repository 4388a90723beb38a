"""The ground truth of results is always complete, and can be moved elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import SimpleITK as sitk

from evaluation.running.case_folders import CaseError, CaseFolder, find_cases
from evaluation.running.ground_truth import write_ground_truth
from evaluation.truth import read_truth
from tests.evaluation.submission import image, labels


@pytest.fixture
def cases(tmp_path: Path) -> list[CaseFolder]:
    for name in ("MDA-1", "MDA-2"):
        (tmp_path / "cases" / name / "input").mkdir(parents=True)
        sitk.WriteImage(image(labels()), str(tmp_path / "cases" / name / "truth.nii.gz"))
    return find_cases(tmp_path / "cases")


def test_two_runs_may_write_the_ground_truth_at_once(
    tmp_path: Path, cases: list[CaseFolder]
) -> None:
    folder = tmp_path / "run" / "ground_truth"
    problems: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(30):
                write_ground_truth(cases, folder)
        except OSError as error:
            problems.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert list(read_truth(folder)) == ["MDA-1", "MDA-2"]
    assert {path.name for path in folder.parent.iterdir()} == {
        "ground_truth", ".ground_truth.lock",
    }  # fmt: skip


def test_broken_case_does_not_change_the_earlier_truth(
    tmp_path: Path, cases: list[CaseFolder]
) -> None:
    folder = write_ground_truth(cases, tmp_path / "run" / "ground_truth")
    (tmp_path / "cases" / "MDA-2" / "truth.json").write_text("[]")
    with pytest.raises(CaseError, match="correct the file"):
        write_ground_truth(cases, folder)
    assert list(read_truth(folder)) == ["MDA-1", "MDA-2"]


def test_tarball_of_the_readme_contains_masks_instead_of_links(
    tmp_path: Path, cases: list[CaseFolder]
) -> None:
    write_ground_truth(cases, tmp_path / "results" / "demo" / "ground_truth")
    readme = (Path(__file__).parents[3] / "evaluation" / "README.md").read_text()
    (command,) = re.findall(r"^tar .*", readme, re.MULTILINE)
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / "cases")
    (tmp_path / "unpacked").mkdir()
    unpack = [
        "tar",
        "-xzf",
        str(tmp_path / "ground_truth.tar.gz"),
        "-C",
        str(tmp_path / "unpacked"),
    ]
    subprocess.run(unpack, check=True)
    masks = [patient.mask for patient in read_truth(tmp_path / "unpacked").values()]
    assert [mask.is_file() for mask in masks if mask is not None] == [True, True]
