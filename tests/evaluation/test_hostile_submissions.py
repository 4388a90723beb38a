"""A hostile output fails its own case, which is named, and changes nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.container import main
from evaluation.metrics_io import write_metrics
from evaluation.schema import TaskMetrics
from evaluation.tasks import segmentation
from shared.errors import InputError
from shared.tasks import TaskName
from tests.containers.hostile import MASKS, VALUES, write_metaimage
from tests.evaluation.stand_ins import crash, crash_or_exhaust
from tests.evaluation.submission import SLUGS, Submission, image, labels

TRUTH = labels(
    (1, slice(2, 4), slice(3, 5), slice(0, 4)), (2, slice(5, 8), slice(3, 5), slice(8, 12))
)
HOSTILE, OTHERS = "MDA-000", ("CHUP-001", "MDA-002", "MDA-003")


def fill(submission: Submission) -> Submission:
    """Answer all tasks of some cases. The masks are wrong, so a use of the truth is noticed."""
    for number, case_id in enumerate((HOSTILE, *OTHERS)):
        submission.add_truth(
            case_id, Relapse=number % 2, RFS=100 + number, HPV_Status=number // 2 % 2
        )
        folder = submission.add_mask(case_id, image(np.roll(TRUTH, 1, axis=0)), "output.mha")
        output = folder.parents[1]
        (output / "rfs.json").write_text(str(number))
        (output / "hpv-status.json").write_text("true" if number // 2 else "false")
        for task in ("survival", "hpv"):
            slug, path = SLUGS[task]
            submission.jobs[-1]["outputs"].append({"socket": {"slug": slug, "relative_path": path}})
        masks = submission.truth / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image(TRUTH), str(masks / f"{case_id}.mha"))
    return submission


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Submission:
    return fill(Submission(tmp_path_factory.mktemp("clean")))


def results(metrics: TaskMetrics) -> dict[str, dict[str, Any]]:
    return {result.case_id: result.model_dump() for result in metrics.results}


@pytest.fixture(scope="module")
def clean_results(clean: Submission) -> dict[str, dict[str, dict[str, Any]]]:
    return {task: results(clean.evaluate(task=task)) for task in SLUGS}


def assert_costs_its_case(
    submission: Submission, expected: dict[str, dict[str, Any]], *, task: TaskName, words: str
) -> None:
    cases = results(submission.evaluate(task=task))
    hostile = cases.pop(HOSTILE)
    assert words in hostile["failure"]
    assert hostile["failure"].isprintable()
    assert cases == {case_id: expected[case_id] for case_id in cases}


def copy(clean: Submission, folder: Path) -> Submission:
    shutil.copytree(clean.root, folder, dirs_exist_ok=True)
    return Submission(folder, list(clean.jobs), list(clean.rows))


@pytest.mark.parametrize("kind", MASKS)
def test_hostile_mask_fails_only_its_case(
    kind: str, clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path)
    secret = submission.truth / "secret" / "output.mha"
    secret.parent.mkdir()
    shutil.copy(submission.truth / "masks" / f"{HOSTILE}.mha", secret)
    mask = submission.input / "job-000/output" / SLUGS["segmentation"][1] / "output.mha"
    MASKS[kind].spoil(mask, secret)
    assert_costs_its_case(
        submission, clean_results["segmentation"], task="segmentation", words=MASKS[kind].words
    )


@pytest.mark.parametrize("task", ["survival", "hpv"])
@pytest.mark.parametrize("kind", VALUES)
def test_hostile_value_fails_only_its_case(
    kind: str, task: TaskName, clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path)
    name = SLUGS[task][1]
    secret = submission.truth / "secret" / name
    secret.parent.mkdir()
    secret.write_text("1" if task == "survival" else "true")
    VALUES[kind].spoil(submission.input / "job-000/output" / name, secret)
    assert_costs_its_case(submission, clean_results[task], task=task, words=VALUES[kind].words)


def test_written_metaimage_is_valid_without_changes(tmp_path: Path) -> None:
    expected = image(TRUTH)
    write_metaimage(tmp_path / "a.mha", expected)
    read = sitk.ReadImage(str(tmp_path / "a.mha"))
    assert np.array_equal(sitk.GetArrayViewFromImage(read), TRUTH)
    for name in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(read, name)() == getattr(expected, name)()


def test_link_inside_the_folder_of_the_job_is_followed(
    clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path / "copy")
    output = submission.input / "job-000/output"
    (output / "rfs.json").rename(output / "risk.json")
    (output / "rfs.json").symlink_to("risk.json")
    # As on the platform, the input folder is a link.
    submission.input.rename(tmp_path / "case")
    submission.input.symlink_to(tmp_path / "case")
    assert results(submission.evaluate(task="survival")) == clean_results["survival"]


@pytest.mark.parametrize("level", ["job-000", "job-000/output"])
def test_linked_folder_of_a_job_is_refused(
    level: str, clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path)
    (submission.input / level).rename(submission.truth / "elsewhere")
    (submission.input / level).symlink_to(submission.truth / "elsewhere")
    assert_costs_its_case(
        submission,
        clean_results["survival"],
        task="survival",
        words="expected folders at job-000/output, found a symbolic link",
    )


@pytest.mark.parametrize("pk", ["../job-001", "/tmp", "..", "", "a\0b", "é" * 2500, "a\x1b[2J/b"])
def test_job_with_an_impossible_folder_fails(
    pk: str, clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path)
    submission.jobs[0] = {**submission.jobs[0], "pk": pk}
    assert_costs_its_case(
        submission,
        clean_results["survival"],
        task="survival",
        words="expected pk to be the name of a folder, found '",
    )


@pytest.mark.parametrize("path", ["../truth/rfs.json", "/rfs.json", "a\0b", "x" * 5000, "\x1b[2J"])
def test_path_of_a_socket_is_never_opened(
    path: str, clean: Submission, clean_results: dict[str, Any], tmp_path: Path
) -> None:
    submission = copy(clean, tmp_path)
    (submission.truth / "rfs.json").write_text("9")
    outputs = [{"socket": {"slug": "rfs", "relative_path": path}}]
    submission.jobs[0] = {**submission.jobs[0], "outputs": outputs}
    assert results(submission.evaluate(task="survival")) == clean_results["survival"]
    submission.jobs = [{**job, "outputs": outputs} for job in submission.jobs]
    with pytest.raises(InputError, match="choose the task to score") as error:
        submission.evaluate()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_death_of_a_process_fails_only_its_case(
    clean: Submission,
    clean_results: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submission = copy(clean, tmp_path / "copy")
    monkeypatch.setattr(segmentation, "_score_case", crash_or_exhaust)
    contents = []
    for workers in (1, 2):
        metrics = submission.evaluate(task="segmentation", workers=workers)
        write_metrics(tmp_path / "metrics.json", metrics)
        contents.append((tmp_path / "metrics.json").read_bytes())
        submission.jobs.reverse()
    assert contents[0] == contents[1]
    cases = results(metrics)
    crashed, exhausted = cases.pop(HOSTILE), cases.pop(OTHERS[0])
    assert crashed["failure"] == "scoring the output ended with SIGSEGV"
    assert exhausted["failure"] == "scoring the output needs more than 4 GB of memory"
    # The crashed case still has the volumes of the truth, and all its lesions count as missed.
    assert crashed["labels"]["GTVp"]["truth_mm3"] == 96
    assert crashed["labels"]["GTVp"]["false_negatives"] == 1
    assert cases == {case_id: clean_results["segmentation"][case_id] for case_id in cases}


def test_truth_that_ends_a_process_is_reported(
    clean: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation, "_score_case", crash)
    with pytest.raises(InputError, match=r"expected a ground truth of CHUP-001 .* SIGSEGV"):
        clean.evaluate(task="segmentation")


def test_container_names_the_failed_case_and_is_silent_on_stderr(
    clean: Submission, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    submission = copy(clean, tmp_path / "copy")
    (submission.input / "job-000/output/rfs.json").unlink()
    os.mkfifo(submission.input / "job-000/output/rfs.json")
    (submission.input / "job-001/output/hpv-status.json").write_text("[" * 1000)
    submission.write()
    folders = ["--input", str(submission.input), "--truth", str(submission.truth)]
    assert main([*folders, "--output", str(tmp_path / "out"), "--workers", "2"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"failed: {HOSTILE}: expected a file rfs.json with a JSON value, but it is a pipe" in out
    assert "failed: CHUP-001: hpv-status.json is not valid JSON" in out
    content = json.loads((tmp_path / "out/metrics.json").read_bytes())
    assert [task["failed"] for task in content["tasks"].values()] == [0, 1, 1]
