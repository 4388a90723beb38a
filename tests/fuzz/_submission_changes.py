"""Changes of one job of a submission. Each returns what it did and what must happen to the case."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from shared.tasks import TaskName
from tests.containers.hostile import MASKS, VALUES
from tests.evaluation.submission import SLUGS, Submission
from tests.fuzz import _metaimage_changes
from tests.fuzz.core import Expectation

Rng = np.random.Generator
Change = Callable[[Rng, Submission, TaskName], tuple[str, Expectation]]

PKS: Final = (
    "../job-001",
    "/tmp",
    ".",
    "..",
    "",
    "a\0b",
    "x" * 5000,
    "é" * 200,
    "job-000/",
    "\x1b",
)
PATHS: Final = ("../rfs.json", "/etc/passwd", "a\0b", "x" * 5000, "", ".", "\x1b[2J", "é\n")
STATUSES: Final = ("Failed", "Cancelled", "", "Succeeded ", "\x1b[2J\n")
SAME_VALUES: Final = {
    "survival": ("0.0", "0e5", " 0\n", "0.0e-999", "\t0"),
    "hpv": (" false", "false\n\n", "\tfalse"),
}
TEXTS: Final = (
    "", " ", "null", "[]", "{}", '""', '"0"', "01", "+1", "0x1", "1,", "true false", "TRUE", "--1",
    "1e999", "-1e999", "-Infinity", "nan", "[0]", '{"value": 0}', "0 // note", "\0",
)  # fmt: skip
"""Texts that are neither a finite number nor a boolean."""


def output_of(submission: Submission, task: TaskName) -> Path:
    """Return the output of the first job."""
    path = submission.input / "job-000/output" / SLUGS[task][1]
    return path / "output.mha" if task == "segmentation" else path


def spoil(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Replace the output by a kind of `tests.containers.hostile`; the secret is the truth."""
    kinds = MASKS if task == "segmentation" else VALUES
    name = str(rng.choice(list(kinds)))
    path = output_of(submission, task)
    secret = submission.truth / "secret" / path.name
    secret.parent.mkdir()
    if task == "segmentation":
        shutil.copy(submission.truth / "masks/MDA-000.mha", secret)
    else:
        secret.write_text("1" if task == "survival" else "true")
    kinds[name].spoil(path, secret)
    return name, "refused"


def change_content(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Change the header or the voxels of a mask, or the text of a value."""
    path = output_of(submission, task)
    if task == "segmentation":
        changes = _metaimage_changes.CHANGES
        return changes[int(rng.integers(len(changes)))](rng, path)
    if rng.integers(3) == 0:
        values = SAME_VALUES[task]
        text = values[int(rng.integers(len(values)))]
        path.write_text(text)
        return f"the same value as {text!r}", "answered"
    if rng.integers(2):
        text = TEXTS[int(rng.integers(len(TEXTS)))]
        path.write_text(text)
        return f"the text {text!r}", "refused"
    path.write_bytes(b"\xff" + rng.bytes(int(rng.integers(1, 3000))))
    return "random bytes", "refused"


def change_pk(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Give the job an identifier that is not the name of its folder."""
    pk = PKS[int(rng.integers(len(PKS)))]
    submission.jobs[0] = {**submission.jobs[0], "pk": pk}
    return f"pk {pk[:20]!r}", "refused"


def change_paths(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """List other paths for the job's outputs. The evaluation never opens them."""
    path = PATHS[int(rng.integers(len(PATHS)))]
    outputs = [{"socket": {"slug": "rfs", "relative_path": path}}]
    submission.jobs[0] = {**submission.jobs[0], "outputs": outputs}
    return f"relative_path {path[:20]!r}", "answered"


def change_status(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Give the job a status other than "Succeeded"."""
    status = STATUSES[int(rng.integers(len(STATUSES)))]
    submission.jobs[0] = {**submission.jobs[0], "status": status}
    return f"status {status!r}", "refused"


def lose_output(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Remove the output, its folder or the folder of the job."""
    path = output_of(submission, task)
    levels = (path, path.parent, submission.input / "job-000")
    level = levels[int(rng.integers(len(levels)))]
    if level.is_dir():
        shutil.rmtree(level)
    else:
        level.unlink()
    return f"no {level.name}", "refused"


def add_file(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Add a file next to the output. A second image is refused; other files are ignored."""
    path = output_of(submission, task)
    names = ("x.mha", "x.tif", "x.MHA", ".x.mha", "._output.mha", "x.txt", "x.nii.gz", "x.raw")
    name = names[int(rng.integers(len(names)))]
    (path.parent / name).write_bytes(rng.bytes(100))
    is_second = task == "segmentation" and name in ("x.mha", "x.tif", "x.MHA")
    return f"also {name}", "refused" if is_second else "answered"


def move_behind_link(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Move the output, and link to it. Only links inside the job's folder are followed."""
    path = output_of(submission, task)
    is_inside = bool(rng.integers(2))
    target = submission.input / ("job-000/output/deep" if is_inside else "job-001/deep")
    target.mkdir(parents=True)
    path.rename(target / path.name)
    path.symlink_to(target / path.name)
    where = "inside" if is_inside else "out of"
    return f"a link {where} the job's folder", "answered" if is_inside else "refused"


def shuffle(rng: Rng, submission: Submission, task: TaskName) -> tuple[str, Expectation]:
    """Change the order of the jobs."""
    submission.jobs = [submission.jobs[i] for i in rng.permutation(len(submission.jobs))]
    return "another order", "answered"


CHANGES: Final[tuple[Change, ...]] = (
    spoil, spoil, spoil, change_content, change_content, change_content, change_content, change_pk,
    change_paths, change_status, lose_output, add_file, move_behind_link, shuffle,
)  # fmt: skip
TASKS: Final[tuple[TaskName, ...]] = ("segmentation", "segmentation", "survival", "hpv")
