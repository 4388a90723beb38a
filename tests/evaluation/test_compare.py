from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.compare import describe, differences, main, rank
from evaluation.schema import Metrics, Rules, write_metrics
from tests.evaluation.submission import Submission, image, labels

ROWS = (slice(2, 4), slice(3, 5))
PATIENTS = 8


def survival(folder: Path, wrong: int) -> Metrics:
    """Return a method whose risk is right but for some of the patients."""
    made = Submission(folder)
    for number in range(PATIENTS):
        case_id = f"MDA-{number}"
        made.add_truth(case_id, Relapse=1, RFS=100 * (number + 1))
        made.add_value(case_id, "survival", number if number < wrong else 100 - number)
    return made.evaluate()


def masks(folder: Path, primary_off: int, nodes_off: int, false_nodes: bool) -> Metrics:
    """Return a method that is off by some voxels of four, and may find nodes that are none."""
    made = Submission(folder)
    for number in range(3):
        boxes = [(1, *ROWS, slice(0, 4)), (2, *ROWS, slice(6, 10))]
        made.add_truth(f"MDA-{number}", image(labels(*boxes)))
        boxes = [(1, *ROWS, slice(0, 4 - primary_off)), (2, *ROWS, slice(6, 10 - nodes_off))]
        if false_nodes:
            boxes.append((2, slice(7, 8), slice(8, 9), slice(11, 12)))
        made.add_mask(f"MDA-{number}", image(labels(*boxes)))
    return made.evaluate()


def test_a_difference_by_hand(tmp_path: Path) -> None:
    right, worse = survival(tmp_path / "a", 0), survival(tmp_path / "b", 2)
    # All pairs compare; those of the two wrong ones with the six others, and with one another.
    found = differences(right, worse)["c_index"]
    assert found is not None
    assert found.value == pytest.approx(13 / 28)
    assert found.low == 0  # (6/8)^8 = 10 % of the resamples hold neither of the wrong ones
    assert found.high is not None
    assert found.value < found.high < 1
    same = differences(worse, worse)["c_index"]
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_ranks_of_tasks_2_and_3(tmp_path: Path) -> None:
    methods = {name: survival(tmp_path / name, n) for name, n in (("x", 4), ("y", 0), ("z", 4))}
    assert rank(methods) == {"y": 1, "x": 2.5, "z": 2.5}
    assert list(rank(methods)) == ["y", "x", "z"]


def test_ranks_of_task_1_follow_the_borda_count(tmp_path: Path) -> None:
    methods = {
        "good primaries": masks(tmp_path / "a", 0, 2, True),  # GTVp 1, GTVn 3
        "good nodes": masks(tmp_path / "b", 1, 0, False),  # GTVp 2, GTVn 1
        "neither": masks(tmp_path / "c", 2, 1, True),  # GTVp 3, GTVn 2: better DSC, equal F1
    }
    assert rank(methods) == {"good nodes": 1, "good primaries": 2, "neither": 3}
    lines = describe(methods)
    assert lines[0].startswith("1. good nodes: gtvp_dice 0.8571, gtvn_aggregated_dice 1.0000")
    assert "good primaries - good nodes: gtvp_dice +0.1429 (+0.1429 to +0.1429)" in lines
    assert len(lines) == 3 + 3 * 3


def test_only_the_same_cases_can_be_compared(tmp_path: Path) -> None:
    first, other = survival(tmp_path / "a", 0), masks(tmp_path / "b", 0, 0, False)
    with pytest.raises(ValueError, match="survival of 8 and segmentation of 3 cases, 3 in common"):
        differences(first, other)
    with pytest.raises(ValueError, match="evaluate both with the same ground truth"):
        rank({"a": first, "b": other})


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.json" for name in ("a", "b")]
    for wrong, path in enumerate(paths):
        write_metrics(path, survival(tmp_path / path.stem, 2 * wrong))
    assert main([str(path) for path in paths]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.splitlines()[0] == f"1. {paths[0]}: c_index 1.0000"
    assert out.splitlines()[2].startswith(f"{paths[0]} - {paths[1]}: c_index +0.4643 (+")
    assert main([str(tmp_path / "none.json")]) == 1
    assert "found no such file" in capfd.readouterr().err


def test_other_rules_are_refused(tmp_path: Path) -> None:
    first = survival(tmp_path / "a", 0)
    same = first.model_copy(update={"rules": Rules(bootstrap_samples=7)})
    assert differences(first, same)["c_index"] is not None
    other = first.model_copy(update={"rules": Rules(both_empty=0)})
    with pytest.raises(ValueError, match="by the same rules, found another both_empty; evaluate"):
        differences(first, other)
