"""Hostile submissions for the evaluation: masks, values, links, pipes, folders, the list of jobs.

Each submission has three cases and one hostile job. The evaluation must end with exit code 0 and
nothing on stderr. The results of the other cases must be the same as without the hostile job. The
hostile case must fail with a reason, or score like its unchanged output. It must never score like
the truth.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk

from evaluation.container import main
from shared.tasks import TaskName
from tests.evaluation.submission import SLUGS, Submission, image, labels
from tests.fuzz._submission_changes import CHANGES, TASKS
from tests.fuzz.core import FuzzCase, Verdict

CASES: Final = ("MDA-000", "CHUP-001", "MDA-002")
"""The job of the first case is hostile."""
TRUTH: Final = labels(
    (1, slice(2, 4), slice(3, 5), slice(0, 4)), (2, slice(5, 8), slice(3, 5), slice(8, 12))
)
ANSWER: Final = np.roll(TRUTH, 1, axis=0)
"""The mask of each job. It differs from the truth."""


def make(rng: np.random.Generator, folder: Path) -> FuzzCase:
    """Write a good submission, then change its first job in one way."""
    submission = write_submission(folder, is_compressed=bool(rng.integers(4)))
    task = TASKS[int(rng.integers(len(TASKS)))]
    what, expected = CHANGES[int(rng.integers(len(CHANGES)))](rng, submission, task)
    submission.write()
    return FuzzCase(folder=folder, what=f"{task}: {what}", expected=expected, more={"task": task})


def judge(case: FuzzCase) -> Verdict:
    """Score the submission, and compare the results with those without the hostile job."""
    task: TaskName = case.more["task"]
    code, printed, results = score(case.folder, task)
    if code != 0 or printed:
        return Verdict("defect", f"exit code {code}; stderr: {printed[-1500:]}")
    expected = clean_results(task)
    others = [name for name in CASES[1:] if results[name] != expected[name]]
    if others:
        return Verdict("defect", f"other results for {', '.join(others)}")
    hostile = results[CASES[0]]
    failure = hostile["failure"]
    if failure is not None:
        is_plain = failure and failure.isprintable() and "unexpected" not in failure
        return (
            Verdict.of(case, "refused", failure)
            if is_plain
            else Verdict("defect", f"not a plain reason: {failure!r}")
        )
    if task == "segmentation" and all(each["dice"] == 1 for each in hostile["labels"].values()):
        return Verdict("defect", "it scores like the truth")
    if case.expected == "answered" and hostile != expected[CASES[0]]:
        return Verdict("defect", "its score differs from that of its unchanged output")
    return Verdict.of(case, "answered", "")


def write_submission(folder: Path, is_compressed: bool = True) -> Submission:
    """Write a submission that answers all tasks."""
    submission = Submission(folder)
    masks = submission.truth / "masks"
    masks.mkdir(parents=True)
    (submission.truth / "rules.json").write_text('{"bootstrap_samples": 20}')
    for number, name in enumerate(CASES):
        submission.add_truth(name, Relapse=1, RFS=100 + number, HPV_Status=number % 2)
        sitk.WriteImage(image(TRUTH), str(masks / f"{name}.mha"))
        output = submission.add_job(name, "segmentation")
        path = output / SLUGS["segmentation"][1] / "output.mha"
        path.parent.mkdir(parents=True)
        sitk.WriteImage(image(ANSWER), str(path), useCompression=is_compressed)
        (output / "rfs.json").write_text(str(number))
        (output / "hpv-status.json").write_text("true" if number else "false")
    submission.write()
    return submission


def score(folder: Path, task: TaskName) -> tuple[int, str, dict[str, dict[str, Any]]]:
    """Score a submission, and return the exit code, stderr and the results by case."""
    arguments = ["--input", str(folder / "input"), "--truth", str(folder / "ground_truth")]
    arguments += ["--output", str(folder / "output"), "--task", task, "--workers", "1"]
    with tempfile.TemporaryFile() as errors:
        original = os.dup(2)
        os.dup2(errors.fileno(), 2)
        try:
            code = main(arguments)
        finally:
            os.dup2(original, 2)
            os.close(original)
        errors.seek(0)
        printed = errors.read().decode(errors="backslashreplace")
    if code != 0:
        return code, printed, {}
    metrics = json.loads((folder / "output/metrics.json").read_bytes())
    return code, printed, {result["case_id"]: result for result in metrics["results"]}


@cache
def clean_results(task: TaskName) -> dict[str, dict[str, Any]]:
    """Return the results without a hostile job."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        write_submission(Path(folder))
        return score(Path(folder), task)[2]
