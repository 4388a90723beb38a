from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import evaluation.__main__ as program
from evaluation.__main__ import app
from evaluation.compare import describe, describe_files, differences, rank
from evaluation.metrics_io import SubmissionMetrics, write_metrics
from evaluation.schema import TaskMetrics
from evaluation.scoring_rules import ScoringRules
from shared.errors import InputError
from tests.evaluation.submission import Submission, image, labels

ROWS = (slice(2, 4), slice(3, 5))
PATIENTS = 8


def survival(folder: Path, wrong: int) -> TaskMetrics:
    """Return the metrics of a method that has wrong risks for some patients."""
    submission = Submission(folder)
    for number in range(PATIENTS):
        case_id = f"MDA-{number}"
        submission.add_truth(case_id, Relapse=1, RFS=100 * (number + 1))
        submission.add_value(case_id, "survival", number if number < wrong else 100 - number)
    return submission.evaluate()


def masks(folder: Path, primary_off: int, nodes_off: int, false_nodes: bool) -> TaskMetrics:
    """Return the metrics of a method whose lesions are too short, with false nodes on request."""
    submission = Submission(folder)
    for number in range(3):
        boxes = [(1, *ROWS, slice(0, 4)), (2, *ROWS, slice(6, 10))]
        submission.add_truth(f"MDA-{number}", image(labels(*boxes)))
        boxes = [(1, *ROWS, slice(0, 4 - primary_off)), (2, *ROWS, slice(6, 10 - nodes_off))]
        if false_nodes:
            boxes.append((2, slice(7, 8), slice(8, 9), slice(11, 12)))
        submission.add_mask(f"MDA-{number}", image(labels(*boxes)))
    return submission.evaluate()


def test_difference_equals_hand_calculation(tmp_path: Path) -> None:
    correct, worse = survival(tmp_path / "a", 0), survival(tmp_path / "b", 2)
    # All pairs are comparable; 13 of 28 involve a patient with a wrong risk.
    interval = differences(correct, worse)["c_index"]
    assert interval is not None
    assert interval.value == pytest.approx(13 / 28)
    assert interval.low == 0  # (6/8)^8 = 10 % of the resamples have neither of the two patients
    assert interval.high is not None
    assert interval.value < interval.high < 1
    same = differences(worse, worse)["c_index"]
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_methods_with_one_score_are_ranked_by_it(tmp_path: Path) -> None:
    methods = {name: survival(tmp_path / name, n) for name, n in (("x", 4), ("y", 0), ("z", 4))}
    assert rank(methods) == {"y": 1, "x": 2.5, "z": 2.5}
    assert list(rank(methods)) == ["y", "x", "z"]


def test_segmentation_is_ranked_by_the_borda_count(tmp_path: Path) -> None:
    # The comments state the ranks of each method. For GTVn, "neither" has a better DSC than "good
    # primaries" and the same F1.
    methods = {
        "good primaries": masks(tmp_path / "a", 0, 2, True),  # GTVp 1, GTVn 3
        "good nodes": masks(tmp_path / "b", 1, 0, False),  # GTVp 2, GTVn 1
        "neither": masks(tmp_path / "c", 2, 1, True),  # GTVp 3, GTVn 2
    }
    assert rank(methods) == {"good nodes": 1, "good primaries": 2, "neither": 3}
    lines = describe(methods)
    assert lines[0].startswith("1. good nodes: gtvp_dice 0.8571, gtvn_aggregated_dice 1.0000")
    assert "good primaries - good nodes: gtvp_dice +0.1429 (+0.1429 to +0.1429)" in lines
    assert len(lines) == 3 + 3 * 3


def test_only_the_same_cases_can_be_compared(tmp_path: Path) -> None:
    first, other = survival(tmp_path / "a", 0), masks(tmp_path / "b", 0, 0, False)
    with pytest.raises(
        ValueError, match="found 8 cases for survival and 3 for segmentation, 3 in common"
    ):
        differences(first, other)
    with pytest.raises(ValueError, match="evaluate both with the same ground truth"):
        rank({"a": first, "b": other})


def test_command_prints_ranks_and_differences(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.json" for name in ("a", "b")]
    for wrong, path in enumerate(paths):
        write_metrics(path, survival(tmp_path / path.stem, 2 * wrong))
    result = CliRunner().invoke(app, ["compare", *map(str, paths)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"1. {paths[0]}: c_index 1.0000"
    assert lines[2].startswith(f"{paths[0]} - {paths[1]}: c_index +0.4643 (+")
    missing = CliRunner().invoke(app, ["compare", str(tmp_path / "none.json")])
    assert isinstance(missing.exception, InputError)
    assert "found no such file" in str(missing.exception)


def test_files_are_compared_for_each_common_task(tmp_path: Path) -> None:
    risks, labels = survival(tmp_path / "a", 0), masks(tmp_path / "b", 0, 0, False)
    both = SubmissionMetrics(edition="x", tasks={"segmentation": labels, "survival": risks})
    lines = describe_files({"one": both, "two": both})
    assert [line for line in lines if line.endswith(":")] == ["segmentation:", "survival:"]
    assert describe_files({"one": both, "two": risks}) == describe({"one": risks, "two": risks})
    with pytest.raises(InputError, match="found one: survival; two: segmentation; compare"):
        describe_files({"one": risks, "two": labels})


def test_methods_scored_by_different_rules_cannot_be_compared(tmp_path: Path) -> None:
    first = survival(tmp_path / "a", 0)
    # The number of resamples may differ, because it changes no score.
    same = first.model_copy(update={"rules": ScoringRules(bootstrap_samples=7)})
    assert differences(first, same)["c_index"] is not None
    other = first.model_copy(update={"rules": ScoringRules(both_empty=0)})
    with pytest.raises(
        ValueError, match="by the same rules, found different values of both_empty; evaluate"
    ):
        differences(first, other)


def test_interrupt_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: Path) -> SubmissionMetrics:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "read_metrics", interrupted)
    monkeypatch.setattr("sys.argv", ["evaluation", "compare", "metrics.json"])
    assert program.main() == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "interrupted: `run` keeps finished cases and resumes if started again"
