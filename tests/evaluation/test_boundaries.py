"""Invalid files of the organisers are refused; the output is strict JSON and always the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from evaluation.case_name import case_name
from evaluation.container import main
from evaluation.evaluate import evaluate
from evaluation.metrics_io import SubmissionMetrics, read_metrics, summary, write_metrics
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.discovery import SCORINGS
from evaluation.tasks.masks import score_masks
from evaluation.tasks.segmentation import SCORING, SegmentationCase
from evaluation.tasks.survival import Outcome
from evaluation.truth import read_truth
from shared.editions import CURRENT
from shared.tasks import TASK_NAMES, TaskName
from tests.containers.checks import read_json
from tests.evaluation.submission import GRID, SLUGS, Submission, image, labels

NODE = (2, slice(2, 4), slice(3, 5), slice(4, 8))


def fill(submission: Submission, task: TaskName, cases: int = 5) -> Submission:
    """Add cases; the last but one fails, and the last has no job."""
    for number in range(cases):
        case_id = f"{'MDA' if number % 2 else 'CHUP'}-{number:03}"
        mask = labels((1 + number % 2, slice(2, 4), slice(3, 5), slice(number, number + 4)))
        submission.add_truth(
            case_id, image(mask), Relapse=number % 2, RFS=100 + number, HPV_Status=number // 2 % 2
        )
        if number == cases - 1:
            break
        if number == cases - 2:
            submission.add_job(case_id, task)
        elif task == "segmentation":
            submission.add_mask(case_id, image(labels((1, *NODE[1:]))))
        else:
            submission.add_value(case_id, task, number * 0.5 if task == "survival" else True)
    return submission


@pytest.mark.parametrize("task", TASK_NAMES)
def test_metrics_are_strict_and_read_back(
    submission: Submission, tmp_path: Path, task: TaskName
) -> None:
    metrics = fill(submission, task).evaluate()
    path = tmp_path / "out" / "metrics.json"
    write_metrics(path, metrics)
    assert read_json(path)["task"] == task
    assert read_metrics(path) == metrics
    assert (metrics.cases, metrics.failed) == (5, 2)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_repetition_and_shuffled_jobs_give_the_same_bytes(
    submission: Submission, tmp_path: Path, task: TaskName
) -> None:
    fill(submission, task)
    contents = []
    for order in range(3):
        if order == 2:
            random.Random(1).shuffle(submission.jobs)
            submission.rows.reverse()
        path = tmp_path / f"{order}.json"
        write_metrics(path, submission.evaluate())
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_older_files_with_interface_are_read(
    submission: Submission, task: TaskName, tmp_path: Path
) -> None:
    newer = fill(Submission(tmp_path / "newer"), task).evaluate()
    submission.socket = "interface"
    assert fill(submission, task).evaluate() == newer


@pytest.mark.parametrize(
    ("name", "case_id"),
    [
        ("MDA-001.mha", "MDA-001"),
        ("MDA-001__CT.nii.gz", "MDA-001"),
        ("MDA-001__CT.MHA", "MDA-001"),
        ("MDA-001", "MDA-001"),
        ("a.b.tiff", "a.b"),
    ],
)
def test_case_has_the_name_of_its_ct(name: str, case_id: str) -> None:
    assert case_name(name) == case_id


def spoil(submission: Submission, **changes: Any) -> Submission:
    fill(submission, "hpv").jobs[0].update(changes)
    return submission


CT = {"slug": "ct-image", "relative_path": "images/ct"}
OTHER = {"slug": "x", "relative_path": "y.json"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pk": "job-001"}, "expected a different pk for each job in predictions.json"),
        ({"pk": 7}, "found a problem at 0.pk: Input should be a valid string"),
        ({"inputs": []}, "expected the job job-000 to have one input ct-image with an image name"),
        ({"inputs": [{"socket": CT, "image": None}]}, "found 0; use the platform's own"),
        ({"inputs": [{"socket": CT, "image": {"name": "MDA-001.mha"}}]}, "job-000 and job-001 for"),
        ({"inputs": [{"socket": CT, "image": {"name": "new.mha"}}]}, "found none for 1: new;"),
        ({"inputs": [{"image": None}]}, "found a problem at 0.inputs.0.socket: Field required"),
    ],
)
def test_unsound_jobs_end_with_one_clear_line(
    submission: Submission, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=r"expected") as error:
        spoil(submission, **changes).evaluate()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_outputs_answer_no_task(submission: Submission) -> None:
    fill(submission, "hpv")
    for job in submission.jobs:
        job["outputs"] = [{"socket": OTHER}]
    with pytest.raises(ValueError, match=r"found y\.json; choose the task to score"):
        submission.evaluate()
    assert submission.evaluate(task="hpv").task == "hpv"


def answer_all(submission: Submission) -> Submission:
    """Answer all tasks of four patients with one job each."""
    for number in range(4):
        case_id = f"MDA-{number}"
        submission.add_truth(
            case_id, image(labels(NODE)), Relapse=1, RFS=100 + number, HPV_Status=number % 2
        )
        output = submission.add_mask(case_id, image(labels(NODE))).parents[1]
        (output / "rfs.json").write_text(str(-number))
        (output / "hpv-status.json").write_text("true" if number % 2 else "false")
        for task in ("survival", "hpv"):
            slug, path = SLUGS[task]
            socket = {"slug": slug, "relative_path": path}
            submission.jobs[-1]["outputs"].append({"socket": socket})
    return submission


def test_every_answered_task_is_scored(submission: Submission, tmp_path: Path) -> None:
    metrics = answer_all(submission).evaluate_file()
    assert isinstance(metrics, SubmissionMetrics)
    assert list(metrics.tasks) == list(TASK_NAMES)
    for task, name in (
        ("segmentation", "gtvn_aggregated_f1"),
        ("survival", "c_index"),
        ("hpv", "balanced_accuracy"),
    ):
        assert metrics.tasks[task].aggregates[name].value == 1  # type: ignore[index]
        # The metrics are the same as if the submission answered only this task.
        assert submission.evaluate(task=task) == metrics.tasks[task]  # type: ignore[index]
    path = tmp_path / "metrics.json"
    write_metrics(path, metrics)
    assert read_metrics(path) == metrics
    content = read_json(path)
    assert list(content) == ["format", "edition", "tasks", "without_truth"]
    assert content["tasks"]["survival"]["aggregates"]["c_index"]["value"] == 1
    assert "survival, HECKTOR 2025: 4 cases, 0 failed" in summary(metrics)


def test_answered_task_without_truth_is_named(submission: Submission) -> None:
    answer_all(submission)
    for row in submission.rows:
        row["HPV Status"] = ""
    metrics = submission.evaluate_file()
    assert isinstance(metrics, SubmissionMetrics)
    assert list(metrics.tasks) == ["segmentation", "survival"]
    assert metrics.without_truth == ("hpv",)
    assert summary(metrics)[-1] == "hpv: not scored: no ground truth"


def test_predictions_are_required(submission: Submission) -> None:
    fill(submission, "hpv").write()
    (submission.input / "predictions.json").write_text("{}")
    with pytest.raises(ValueError, match="found a problem at the file: Input should be a valid"):
        evaluate(submission.input, submission.truth, CURRENT)
    (submission.input / "predictions.json").unlink()
    with pytest.raises(ValueError, match=r"predictions\.json, found no such file"):
        evaluate(submission.input, submission.truth, CURRENT)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"Relapse": 1}, "Relapse and RFS of MDA-1 both present"),
        ({"RFS": 100}, "Relapse and RFS of MDA-1 both present"),
        ({"Relapse": 1, "RFS": -1}, "RFS at least 0"),
        ({"Relapse": "maybe", "RFS": 1}, "expected 0 or 1 for Relapse of MDA-1"),
        ({"RFS": "soon", "Relapse": 1}, "expected a number for RFS of MDA-1"),
        ({"RFS": "inf", "Relapse": 1}, "expected a number for RFS of MDA-1"),
        ({"HPV_Status": 2}, "expected 0 or 1 for HPV Status"),
        ({"FieldOfView": "legs"}, "expected head_neck or whole_body for FieldOfView of MDA-1"),
        ({"CenterID": "x"}, "expected a number for CenterID"),
    ],
)
def test_unsound_table_is_rejected(submission: Submission, row: dict[str, Any], words: str) -> None:
    submission.add_truth("MDA-1", image(labels(NODE)), **row)
    submission.add_mask("MDA-1", image(labels(NODE)))
    with pytest.raises(ValueError, match="correct the table") as error:
        submission.evaluate()  # scores segmentation, but the columns of all tasks are checked
    assert words in str(error.value)


def test_each_case_has_one_truth(submission: Submission) -> None:
    submission.write()
    with pytest.raises(ValueError, match="found neither; put at least one of them there"):
        read_truth(submission.truth)
    submission.add_truth("MDA-1", CenterID=1)
    submission.add_truth("MDA-1", CenterID=2)
    submission.write()
    with pytest.raises(ValueError, match="found 'MDA-1' twice"):
        read_truth(submission.truth)


def test_two_masks_of_a_case_are_rejected(submission: Submission) -> None:
    submission.add_truth("MDA-1", image(labels(NODE)))
    (submission.truth / "masks" / "MDA-1.mha").touch()
    with pytest.raises(ValueError, match="expected one mask for the case MDA-1"):
        read_truth(submission.truth)


def test_table_from_a_spreadsheet_is_read(submission: Submission) -> None:
    submission.write()
    (submission.truth / "patients.csv").write_text(
        "\ufeffPatientID,CenterID,Relapse,RFS,HPV Status,Age\r\n"
        "MDA-1,5,0.0,12.5,NaN,60\r\n\r\nnew-2,11,,,True,\r\nCHUP-3,,,,0,\r\n"
    )
    old, new, third = (read_truth(submission.truth)[c] for c in ("MDA-1", "new-2", "CHUP-3"))
    survival, hpv = SCORINGS["survival"], SCORINGS["hpv"]
    outcome = Outcome(event=False, time_days=12.5)
    assert (old.centre, survival.truth_of(old), hpv.truth_of(old)) == ("MDA", outcome, None)
    assert (new.centre, survival.truth_of(new), hpv.truth_of(new)) == ("centre 11", None, True)
    assert (third.centre, hpv.truth_of(third)) == ("CHUP", False)


def test_container_writes_metrics_and_names_failed_cases(
    submission: Submission, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(submission, "survival").write()
    folders = ["--input", str(submission.input), "--truth", str(submission.truth)]
    assert main([*folders, "--output", str(tmp_path / "out"), "--workers", "1"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "survival, HECKTOR 2025: 5 cases, 2 failed" in out
    assert "failed: CHUP-004: no job has this case" in out
    assert out.splitlines()[-1].startswith("done in ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]

    assert main([*folders, "--output", str(tmp_path / "no"), "--task", "segmentation"]) == 0
    (submission.input / "predictions.json").unlink()
    assert main([*folders, "--output", str(tmp_path / "none")]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "found no such file" in lines[0]
    assert not (tmp_path / "none").exists()


def test_rules_come_from_a_file_or_with_the_truth(submission: Submission, tmp_path: Path) -> None:
    submission.add_truth("MDA-001", image(labels(NODE)))
    submission.add_mask("MDA-001", image(labels(NODE)))
    submission.write()
    arguments = ["--input", str(submission.input), "--truth", str(submission.truth)]
    arguments += ["--output", str(tmp_path / "out"), "--workers", "1"]

    def both_empty(*options: str) -> float:
        assert main([*arguments, *options]) == 0
        metrics = read_metrics(tmp_path / "out" / "metrics.json")
        assert not isinstance(metrics, SubmissionMetrics)
        return metrics.rules.both_empty

    (submission.truth / "rules.json").write_text('{"both_empty": 0, "bootstrap_samples": 20}')
    assert both_empty() == 0
    (tmp_path / "mine.json").write_text('{"both_empty": 0.5}')
    assert both_empty("--rules", str(tmp_path / "mine.json")) == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"empty": 0}', "found a problem at empty: Extra inputs are not permitted"),
        ('{"both_empty": 2}', "found a problem at both_empty: Input should be less than"),
        ('{"connectivity": 8}', "found a problem at connectivity: Input should be 6, 18 or 26"),
        ("[]", "found a problem at the file"),
        ("", "found a problem at the file"),
    ],
)
def test_unsound_rules_are_rejected(
    tmp_path: Path, text: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.json").write_text(text)
    assert main(["--rules", str(tmp_path / "rules.json")]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "rules.json to be a JSON object with some of both_empty, one_empty, min_iou" in line
    assert words in line


def blobs(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a prediction and a truth of several lesions, some of which overlap."""
    common, *own = gaussian_filter(rng.normal(size=(3, *GRID.shape_zyx)), (0, 1, 1, 1))
    noise = [(common + 0.5 * each) / common.std() for each in own]
    return np.digitize(noise, [0.9, 1.7]).astype(np.uint8)


@settings(max_examples=6)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_order_of_cases_and_numbering_of_components_do_not_matter(
    order: list[int], seed: int
) -> None:
    rules = ScoringRules()
    rng = np.random.default_rng(seed)
    masks = [blobs(rng) for _ in range(4)]
    flipped = (slice(None), slice(None, None, -1), slice(None), slice(None, None, -1))

    def scores(cases: list[np.ndarray[Any, Any]]) -> dict[str, float | None]:
        results = []
        for pair in cases:
            prediction, truth = (np.ascontiguousarray(mask) for mask in pair)
            scores_by_label, _ = score_masks(prediction, truth, grid=GRID, rules=rules)
            results.append(
                SegmentationCase(
                    case_id="x",
                    pk="x",
                    centre=None,
                    field_of_view=None,
                    failure=None,
                    labels=scores_by_label,
                )
            )
        return {name: score.value() for name, score in SCORING.scores_of(results).items()}

    expected = scores(masks)
    assert 0 < (expected["gtvn_aggregated_f1"] or 0) < 1  # some lesions are detected, not all
    for name, value in scores([masks[i] for i in order]).items():
        assert value == pytest.approx(expected[name]), name
    # Reversed axes change the numbering of the components.
    for name, value in scores([pair[flipped] for pair in masks]).items():
        assert value == pytest.approx(expected[name]), name
    for name, value in expected.items():
        assert value is not None
        assert value >= 0
        if name.endswith(("dice", "f1", "sensitivity")):
            assert value <= 1
