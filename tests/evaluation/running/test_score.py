"""What is scored of a run: each task that the truth tells of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.commands import app
from evaluation.schema import read_metrics
from tests.evaluation.submission import Submission, image, labels

NODE = (2, slice(2, 4), slice(3, 5), slice(4, 8))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a run of Tasks 1 and 3 on a case of which only the mask is known."""
    folder = tmp_path / "run"
    masks, decisions = Submission(tmp_path / "1"), Submission(tmp_path / "3")
    masks.add_truth("MDA-001", image(labels(NODE)))
    masks.add_mask("MDA-001", image(labels(NODE)))
    decisions.add_value("MDA-001", "hpv", True)
    for submission, task in ((masks, "task1_segmentation"), (decisions, "task3_hpv")):
        submission.write()
        shutil.copytree(submission.input, folder / task)
    shutil.copytree(masks.truth, folder / "ground_truth")
    return folder


def test_a_task_without_a_truth_is_named_and_left_out(run: Path) -> None:
    (run / "task3_hpv" / "metrics.json").write_text("of an earlier truth")
    result = CliRunner().invoke(app, ["score", str(run), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "task3_hpv: not scored: expected the truth of hpv for at least one" in result.output
    assert "gtvp_dice: 1.0000" in result.output
    assert read_metrics(run / "task1_segmentation" / "metrics.json").cases == 1
    assert not (run / "task3_hpv" / "metrics.json").exists()


def test_rules_are_taken_from_a_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"both_empty": 0}')
    options = ["--rules", str(tmp_path / "rules.json"), "--workers", "1"]
    result = CliRunner().invoke(app, ["score", str(run), *options])
    assert result.exit_code == 0, result.output
    assert "gtvp_dice: 0.0000" in result.output


def test_a_run_without_any_truth_is_an_error(run: Path) -> None:
    shutil.rmtree(run / "task1_segmentation")
    result = CliRunner().invoke(app, ["score", str(run)])
    assert "found none; add it, or score another task" in str(result.exception)
