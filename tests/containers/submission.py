"""What the platform gives the evaluation of a task: the jobs of a submission and the ground truth.

Made from the outputs of the sample cases. The checks of `metrics.json` work the scores out anew,
from the same files and without the evaluation's code.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, Final

import SimpleITK as sitk

from evaluation.running.cases import Case
from evaluation.running.tasks import EVALUATION, Task
from tests.containers.cases import Outcome, read_outcome
from tests.containers.checks import Check, dsc_by_label, read_json, read_mask

NAMES: Final = {"mask": "segmentation", "number": "survival", "boolean": "hpv"}
"""Of the tasks in `metrics.json`, by what their output is."""
KEYS: Final = {
    "task",
    "ranked",
    "cases",
    "failed",
    "aggregates",
    "groups",
    "alternatives",
    "results",
}
TOLERANCE: Final = 1e-9


@dataclass(frozen=True)
class Submission:
    """A submission, staged.

    Attributes
    ----------
    task : what it answers.
    input : `predictions.json` and the jobs' folders.
    truth : the ground truth.
    """

    task: Task
    input: Path
    truth: Path

    def shuffle(self) -> None:
        """Put the jobs into another order."""
        jobs = self._jobs()
        self._write([*jobs[1:], jobs[0]])

    def repeat_a_job(self) -> None:
        """Give one case two jobs."""
        self._write([*self._jobs(), {**self._jobs()[0], "pk": "again"}])

    def lose_the_truth(self) -> None:
        """Give a job a case that the ground truth has not."""
        first, *others = self._jobs()
        first["inputs"][0]["image"]["name"] = "unknown.mha"
        self._write([first, *others])

    def break_the_list(self) -> None:
        """Cut `predictions.json` off."""
        path = self.input / "predictions.json"
        path.write_bytes(path.read_bytes()[:-5])

    def _jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = json.loads((self.input / "predictions.json").read_bytes())
        return jobs

    def _write(self, jobs: Sequence[Mapping[str, object]]) -> None:
        (self.input / "predictions.json").write_text(json.dumps(jobs), encoding="utf-8")


BAD_SUBMISSIONS: Final[Mapping[str, tuple[Callable[[Submission], None], str]]] = {
    "no truth of a case": (Submission.lose_the_truth, "found none for 1: unknown"),
    "two jobs for a case": (Submission.repeat_a_job, "expected one job for each case"),
    "broken predictions.json": (Submission.break_the_list, "predictions.json to be a list of jobs"),
}
"""What the organisers may get wrong, and the words that must be said of it."""


def stage(
    task: Task, outputs: Mapping[str, Path], cases: Sequence[Case], folder: Path
) -> Submission:
    """Lay out a submission.

    Parameters
    ----------
    outputs : the output folder of each case, by its name.
    cases : sample cases, with their truths.
    """
    staged = Submission(task, folder / "input", folder / "ground_truth")
    path = PurePosixPath(task.output)
    relative = str(path.parent if task.kind == "mask" else path)
    jobs = []
    for number, case in enumerate(cases):
        pk = f"{number:08}-0000-4000-8000-000000000000"
        shutil.copytree(outputs[case.name], staged.input / pk / "output")
        ct = {"slug": "ct-image", "relative_path": "images/ct"}
        jobs.append(
            {
                "pk": pk,
                "status": "Succeeded",
                "inputs": [{"socket": ct, "image": {"name": f"{case.name}.mha"}, "value": None}],
                "outputs": [{"socket": {"slug": task.kind, "relative_path": relative}}],
            }
        )
    (staged.input / "predictions.json").write_text(json.dumps(jobs), encoding="utf-8")
    (staged.truth / "masks").mkdir(parents=True)
    with (staged.truth / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["PatientID", "Relapse", "RFS", "HPV Status"])
        for case in cases:
            truth, outcome = _truth_of(case)
            shutil.copy(truth, staged.truth / "masks" / f"{case.name}.nii.gz")
            hpv, relapse = int(outcome.hpv), int(outcome.relapse)
            table.writerow([case.name, relapse, outcome.rfs_days, hpv])
    for path_made in (folder, *folder.rglob("*")):
        path_made.chmod(0o755 if path_made.is_dir() else 0o644)
    return staged


def check_metrics(
    output: Path, task: Task, outputs: Mapping[str, Path], cases: Sequence[Case]
) -> Iterator[Check]:
    """Whether `metrics.json` is strict, complete, and has the scores that the outputs deserve."""
    try:
        metrics = read_json(output / EVALUATION.output)
    except ValueError as error:
        yield Check("strict JSON", str(error))
        return
    missing = sorted(KEYS - metrics.keys())
    problem = f"expected the keys {', '.join(missing)}, found none" if missing else None
    yield Check("strict JSON", problem)
    if missing:
        return
    about = (metrics["task"], [result["case_id"] for result in metrics["results"]])
    wanted = (NAMES[task.kind], sorted(case.name for case in cases))
    yield Check("cases", None if about == wanted else f"expected {wanted}, found {about}")
    failures = [result["failure"] for result in metrics["results"] if result["failure"]]
    yield Check("failures", f"expected none, found {failures}" if failures else None)
    for name, score in _scores(task, outputs, cases).items():
        found = metrics["aggregates"][name]["value"]
        same = found is score
        if found is not None and score is not None:
            same = math.isclose(found, score, abs_tol=TOLERANCE)
        yield Check(name, None if same else f"expected {score}, found {found}")


def _scores(
    task: Task, outputs: Mapping[str, Path], cases: Sequence[Case]
) -> dict[str, float | None]:
    """Return what the task is ranked by, as far as it takes few lines to work out."""
    truths = {case.name: _truth_of(case) for case in cases}
    files = {case.name: outputs[case.name] / task.output for case in cases}
    if task.kind == "mask":
        dsc = [
            dsc_by_label(read_mask(files[name]), sitk.ReadImage(str(truth)))
            for name, (truth, _) in truths.items()
        ]
        return {
            f"{label.lower()}_dice": sum(each[label] for each in dsc) / len(dsc) for label in dsc[0]
        }
    answers = [(read_json(files[name]), outcome) for name, (_, outcome) in truths.items()]
    if task.kind == "number":
        return {"c_index": _c_index(answers)}
    recalls = []
    for status in (True, False):
        same = [answer is status for answer, outcome in answers if outcome.hpv is status]
        recalls.append(sum(same) / len(same) if same else None)
    positive, negative = recalls
    both = None if positive is None or negative is None else (positive + negative) / 2
    return {"balanced_accuracy": both}


def _c_index(answers: Sequence[tuple[float, Outcome]]) -> float | None:
    right = []
    for pair in combinations(answers, 2):
        (risk, outcome), (other_risk, other) = sorted(pair, key=lambda a: a[1].rfs_days)
        if outcome.relapse and outcome.rfs_days < other.rfs_days:
            right.append(0.5 if risk == other_risk else float(risk > other_risk))
    return sum(right) / len(right) if right else None


def _truth_of(case: Case) -> tuple[Path, Outcome]:
    told = read_outcome(case)
    if case.truth is None or told is None:
        raise ValueError(f"expected truth.nii.gz and truth.json beside the sample case {case.name}")
    return case.truth, told
