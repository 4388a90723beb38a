"""Results are scored for each task that has a truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.__main__ import app
from evaluation.metrics_io import read_metrics
from evaluation.tasks.segmentation import SegmentationMetrics
from tests.evaluation.submission import Submission, image, labels

NODE = (2, slice(2, 4), slice(3, 5), slice(4, 8))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return results: a mask and an HPV decision; the case has a true mask but no true status."""
    folder = tmp_path / "results"
    masks, decisions = Submission(tmp_path / "1"), Submission(tmp_path / "3")
    masks.add_truth("MDA-001", image(labels(NODE)))
    masks.add_mask("MDA-001", image(labels(NODE)))
    decisions.add_value("MDA-001", "hpv", True)
    for submission, task in ((masks, "task1_segmentation"), (decisions, "task3_hpv")):
        submission.write()
        shutil.copytree(submission.input, folder / task)
    shutil.copytree(masks.truth, folder / "ground_truth")
    return folder


def test_algorithm_without_a_truth_is_named_and_left_out(results: Path) -> None:
    (results / "task3_hpv" / "metrics.json").write_text("of an earlier truth")
    result = CliRunner().invoke(app, ["score", str(results), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "task3_hpv: not scored: expected the truth of hpv for at least one" in result.output
    assert "gtvp_dice: 1.0000" in result.output
    metrics = read_metrics(results / "task1_segmentation" / "metrics.json")
    assert isinstance(metrics, SegmentationMetrics)
    assert metrics.cases == 1
    assert not (results / "task3_hpv" / "metrics.json").exists()


def test_rules_are_read_from_a_file(results: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text('{"both_empty": 0}')
    options = ["--rules", str(tmp_path / "rules.json"), "--workers", "1"]
    result = CliRunner().invoke(app, ["score", str(results), *options])
    assert result.exit_code == 0, result.output
    assert "gtvp_dice: 0.0000" in result.output


def test_results_without_any_truth_are_an_error(results: Path) -> None:
    shutil.rmtree(results / "task1_segmentation")
    result = CliRunner().invoke(app, ["score", str(results)])
    assert "found none; add it, or score another task" in str(result.exception)
