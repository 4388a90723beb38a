"""Each check passes a good output and reports the problem of a bad one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.running.engines.protocol import Run
from tests.containers import checks
from tests.containers.conftest import LESION_ZYX, SIZE_XYZ, write_case
from tests.containers.contract import ALGORITHMS, Contract

SEGMENTATION, SURVIVAL, HPV = ALGORITHMS


def run_of(
    exit_code: int | None = 0, stdout: str = "", stderr: str = "", seconds: float = 1.0
) -> Run:
    return Run(exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=seconds)


def agreement(output: Path, expected: Path, contract: Contract) -> checks.Check:
    (check,) = checks.check_agreement(output, expected, contract)
    return check


@pytest.fixture
def case_input(tmp_path: Path) -> Path:
    write_case(tmp_path / "case")
    return tmp_path / "case" / "input"


def mask_on(case_input: Path, array: np.ndarray) -> sitk.Image:
    """Return an array as an image on the CT's grid."""
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(sitk.ReadImage(str(checks.find_ct(case_input))))
    return mask


def good_mask() -> np.ndarray:
    """Return a GTVp of 64 voxels."""
    array = np.zeros(SIZE_XYZ[::-1], dtype=np.uint8)
    array[LESION_ZYX] = 1
    return array


def write_mask(output: Path, mask: sitk.Image) -> None:
    """Write a mask where Task 1 does."""
    path = output / SEGMENTATION.files[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(mask, str(path))


def problems(results: list[checks.Check]) -> dict[str, str]:
    """Return the problems by the name of their check."""
    return {check.name: check.problem for check in results if check.problem is not None}


def test_good_mask_passes(case_input: Path, tmp_path: Path) -> None:
    write_mask(tmp_path / "out", mask_on(case_input, good_mask()))
    results = list(checks.check_content(tmp_path / "out", SEGMENTATION, case_input))
    assert [check.name for check in results] == ["mask", "geometry"]
    assert problems(results) == {}


def shifted(mask: sitk.Image) -> sitk.Image:
    mask.SetOrigin([x + 1e-3 for x in mask.GetOrigin()])
    return mask


def unturned(mask: sitk.Image) -> sitk.Image:
    mask.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    return mask


def other_spacing(mask: sitk.Image) -> sitk.Image:
    mask.SetSpacing((4.0, 4.0, 4.9))
    return mask


@pytest.mark.parametrize(
    ("spoil", "check", "words"),
    [
        (lambda m: sitk.Cast(m, sitk.sitkInt16), "mask", "expected 8-bit unsigned integers"),
        (lambda m: m * 3, "mask", r"found \[0, 3\]"),
        (shifted, "geometry", "the CT's origin"),
        (unturned, "geometry", "the CT's direction"),
        (other_spacing, "geometry", "the CT's spacing"),
        (lambda m: m[:-1], "geometry", "the CT's size"),
    ],
)
def test_problem_of_a_bad_mask_is_reported(
    case_input: Path,
    tmp_path: Path,
    spoil: Callable[[sitk.Image], sitk.Image],
    check: str,
    words: str,
) -> None:
    write_mask(tmp_path / "out", spoil(mask_on(case_input, good_mask())))
    problem_by_check = problems(
        list(checks.check_content(tmp_path / "out", SEGMENTATION, case_input))
    )
    assert list(problem_by_check) == [check]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(problem_by_check[check])


@pytest.mark.parametrize(
    ("text", "is_number", "is_boolean"),
    [
        ("0.25", True, False),
        ("-3", True, False),
        ("true", False, True),
        ("false", False, True),
        ("NaN", False, False),
        ("Infinity", False, False),
        ("1e999", False, False),
        ('"0.25"', False, False),
        ("[0.25]", False, False),
        ("null", False, False),
        ("", False, False),
    ],
)
def test_json_outputs_must_be_strict(
    tmp_path: Path, text: str, is_number: bool, is_boolean: bool
) -> None:
    for contract, fits in ((SURVIVAL, is_number), (HPV, is_boolean)):
        (tmp_path / contract.files[0].path).write_text(text)
        results = list(checks.check_content(tmp_path, contract, tmp_path))
        assert [check.passed for check in results] == [fits]


def test_files_must_be_exactly_the_expected_ones(tmp_path: Path) -> None:
    assert not checks.check_files(tmp_path, SURVIVAL).passed
    (tmp_path / "rfs.json").touch()
    assert checks.check_files(tmp_path, SURVIVAL).passed
    (tmp_path / ".partial").touch()
    assert checks.check_files(tmp_path, SURVIVAL).problem == (
        "expected rfs.json and no other file, found .partial, rfs.json"
    )


def test_dsc_equals_hand_calculation(case_input: Path) -> None:
    truth = good_mask()
    prediction = np.roll(truth, 1, axis=0)  # 3 of 4 slices overlap: 2 * 48 / 128
    dsc = checks.dsc_by_label(mask_on(case_input, prediction), mask_on(case_input, truth))
    assert dsc == {"GTVp": 0.75, "GTVn": 1.0}
    nothing = mask_on(case_input, np.zeros_like(truth))
    assert checks.dsc_by_label(nothing, mask_on(case_input, truth))["GTVp"] == 0.0


def test_dsc_with_truth_must_reach_its_bounds() -> None:
    dsc = {"GTVp": 0.61, "GTVn": 0.4}
    assert checks.check_truth(dsc, {"GTVp": 0.6, "GTVn": 0.4}).passed
    check = checks.check_truth(dsc, {"GTVp": 0.6, "GTVn": 0.5})
    assert check.problem == "GTVn: expected DSC ≥ 0.5 with the truth, found 0.400"


def test_masks_and_values_must_agree_with_expected_ones(case_input: Path, tmp_path: Path) -> None:
    expected, output = tmp_path / "expected", tmp_path / "out"
    missing = agreement(output, expected, SEGMENTATION)
    assert missing.problem is not None
    assert "make it with --update-expected" in missing.problem
    write_mask(expected, mask_on(case_input, good_mask()))
    write_mask(output, mask_on(case_input, good_mask()))
    assert agreement(output, expected, SEGMENTATION).passed
    write_mask(output, mask_on(case_input, np.roll(good_mask(), 1, axis=0)))
    check = agreement(output, expected, SEGMENTATION)
    assert check.problem == "expected DSC ≥ 0.98 with the expected mask, found GTVp 0.7500"
    for contract, expected_text, same, other in (
        (SURVIVAL, "0.5", "0.5004", "0.502"),
        (SURVIVAL, "0", "0.0009", "-0.01"),
        (HPV, "true", "true", "false"),
    ):
        (expected / contract.files[0].path).write_text(expected_text)
        (output / contract.files[0].path).write_text(same)
        assert agreement(output, expected, contract).passed
        (output / contract.files[0].path).write_text(other)
        assert not agreement(output, expected, contract).passed


def test_limits_are_checked() -> None:
    good = run_of(stdout="loading\ndone in 1.2 s, peak memory 0.85 GB\n", seconds=1.4)
    assert problems(list(checks.check_limits(good, SEGMENTATION))) == {}
    bad = run_of(stdout="peak memory 16.2 GB", stderr="warning: slow\n", seconds=601)
    assert set(problems(list(checks.check_limits(bad, SEGMENTATION)))) == {
        "stderr",
        "time",
        "memory",
    }
    silent = run_of(stdout="peak memory 1.0 GB\nbye")
    assert set(problems(list(checks.check_limits(silent, SEGMENTATION)))) == {"memory"}


def test_rejection_is_exit_code_1_with_one_line_and_no_output(tmp_path: Path) -> None:
    def problem(exit_code: int | None, stderr: str) -> str | None:
        run = run_of(exit_code, stderr=stderr)
        return checks.check_rejection("x", run, tmp_path, "expected a CT").problem

    assert problem(1, "expected a CT, found none\n") is None
    assert "expected exit code 1, found 0" in (problem(0, "expected a CT\n") or "")
    assert "exactly one line on stderr, found 2" in (problem(1, "oh\nexpected a CT\n") or "")
    assert "expected 'expected a CT' on stderr" in (problem(1, "Killed\n") or "")
    (tmp_path / "images").mkdir()
    assert "found images" in (problem(1, "expected a CT\n") or "")


def test_second_run_must_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "rfs.json").write_text("1.0")
    good = run_of()
    assert checks.check_repeat(first, second, good).passed
    (second / "rfs.json").write_text("1.00")
    assert "different ones in rfs.json" in (checks.check_repeat(first, second, good).problem or "")
    (second / "rfs.json").unlink()
    assert "found none" in (checks.check_repeat(first, second, good).problem or "")
    assert not checks.check_repeat(first, second, run_of(137, stderr="Killed")).passed
