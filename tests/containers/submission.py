"""Writes the input of the evaluation, jobs and ground truth, and checks its `metrics.json`.

Each job has the output for one sample case. The checks of `metrics.json` compute the scores again
from the same files, without the code of the evaluation.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeAlias

import SimpleITK as sitk

from evaluation.running.case_folders import CaseFolder
from tests.containers.checks import Check, dsc_by_label, read_json, read_mask
from tests.containers.contract import EVALUATION, Contract, File, Holds
from tests.containers.expectations import Outcome, read_outcome
from tests.containers.hostile import HOSTILE, Hostile

TASKS: Final[Mapping[Holds, str]] = {
    "mask": "segmentation",
    "number": "survival",
    "boolean": "hpv",
}
"""The task in `metrics.json`, by the content of the file that answers it."""
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


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submission on disk.

    Attributes
    ----------
    input : folder with `predictions.json` and the folders of the jobs.
    truth : folder of the ground truth.
    """

    input: Path
    truth: Path

    def output(self, number: int) -> Path:
        """Return the output folder of a job."""
        return self.input / _pk(number) / "output"

    def shuffle(self) -> None:
        """Change the order of the jobs."""
        jobs = self._jobs()
        self._write([*jobs[1:], jobs[0]])

    def repeat_a_job(self) -> None:
        """Give one case two jobs."""
        self._write([*self._jobs(), {**self._jobs()[0], "pk": "again"}])

    def lose_the_truth(self) -> None:
        """Give a job a case that the ground truth does not have."""
        first, *others = self._jobs()
        first["inputs"][0]["image"]["name"] = "unknown.mha"
        self._write([first, *others])

    def break_the_list(self) -> None:
        """Cut off the end of `predictions.json`."""
        path = self.input / "predictions.json"
        path.write_bytes(path.read_bytes()[:-5])

    def _jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = json.loads((self.input / "predictions.json").read_bytes())
        return jobs

    def _write(self, jobs: Sequence[Mapping[str, object]]) -> None:
        (self.input / "predictions.json").write_text(json.dumps(jobs), encoding="utf-8")


BadSubmissions: TypeAlias = Mapping[str, tuple[Callable[[Submission], None], str]]
BAD_SUBMISSIONS: Final[BadSubmissions] = {
    "a case without truth": (Submission.lose_the_truth, "found none for 1: unknown"),
    "two jobs for a case": (Submission.repeat_a_job, "expected one job for each case"),
    "broken predictions.json": (Submission.break_the_list, "predictions.json to be a list of jobs"),
}
"""Mistakes of the organisers, and words that the error message must contain."""


def stage(
    contract: Contract,
    *,
    outputs: Mapping[str, Path],
    cases: Sequence[CaseFolder],
    folder: Path,
) -> Submission:
    """Write a submission and its ground truth into a folder.

    Parameters
    ----------
    outputs : the output folder of each case, by the case's name.
    cases : sample cases, with their truths.
    """
    submission = Submission(input=folder / "input", truth=folder / "ground_truth")
    jobs = []
    for number, case in enumerate(cases):
        shutil.copytree(outputs[case.name], submission.output(number))
        ct = {"slug": contract.ct_slug, "relative_path": "images/ct"}
        jobs.append(
            {
                "pk": _pk(number),
                "status": "Succeeded",
                "inputs": [{"socket": ct, "image": {"name": f"{case.name}.mha"}, "value": None}],
                "outputs": [
                    {"socket": {"slug": file.holds, "relative_path": file.socket_path}}
                    for file in contract.files
                ],
            }
        )
    (submission.input / "predictions.json").write_text(json.dumps(jobs), encoding="utf-8")
    (submission.truth / "masks").mkdir(parents=True)
    with (submission.truth / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["PatientID", "Relapse", "RFS", "HPV Status"])
        for case in cases:
            truth, outcome = _truth_of(case)
            shutil.copy(truth, submission.truth / "masks" / f"{case.name}.nii.gz")
            hpv, relapse = int(outcome.hpv), int(outcome.relapse)
            table.writerow([case.name, relapse, outcome.rfs_days, hpv])
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return submission


def stage_hostile(
    contract: Contract,
    *,
    outputs: Mapping[str, Path],
    cases: Sequence[CaseFolder],
    folder: Path,
) -> tuple[Submission, dict[str, tuple[File, Hostile]]]:
    """Write a submission with one more job for each kind of hostile output.

    Returns
    -------
    The submission, and the hostile outputs by the name of their case. These cases are copies of the
    first one; the secret is its output.
    """
    kinds = {
        f"{file.holds}, {name}": (file, hostile)
        for file in contract.files
        for name, hostile in HOSTILE[file.holds].items()
    }
    first = cases[0]
    submission = stage(
        contract,
        outputs={**outputs, **dict.fromkeys(kinds, outputs[first.name])},
        cases=[*cases, *(replace(first, name=name) for name in kinds)],
        folder=folder,
    )
    for number, (file, hostile) in enumerate(kinds.values(), len(cases)):
        path, secret = submission.output(number) / file.path, submission.output(0) / file.path
        hostile.spoil(path, secret)
    return submission, kinds


def check_hostile(
    output: Path,
    clean_output: Path,
    contract: Contract,
    kinds: Mapping[str, tuple[File, Hostile]],
) -> Iterator[Check]:
    """Check that each hostile output failed for the expected reason, and no other result changed.

    Parameters
    ----------
    output, clean_output : folders of the `metrics.json` with and without the hostile jobs.
    kinds : from `stage_hostile`.
    """
    try:
        paths = (output, clean_output)
        metrics, clean = (read_json(path / EVALUATION.files[0].path) for path in paths)
    except (ValueError, OSError) as error:
        yield Check("metrics", str(error))
        return
    for file in contract.files:
        results = _results(metrics, contract, file)
        for name, (hostile_file, hostile) in kinds.items():
            if hostile_file is file:
                failure = results[name]["failure"]
                problem = f"expected a failure with '{hostile.words}', found: {failure}"
                yield Check(name, None if hostile.words in (failure or "") else problem)
        changes = [
            name
            for name, result in _results(clean, contract, file).items()
            if result != results[name]
        ]
        problem = f"expected the same results as without hostile jobs, found others: {changes}"
        yield Check(f"{file.holds}, other cases", problem if changes else None)


def _results(
    metrics: Mapping[str, Any], contract: Contract, file: File
) -> dict[str, Mapping[str, Any]]:
    of_task = metrics if len(contract.files) == 1 else metrics["tasks"][TASKS[file.holds]]
    return {result["case_id"]: result for result in of_task["results"]}


def _pk(number: int) -> str:
    return f"{number:08}-0000-4000-8000-000000000000"


def check_metrics(
    output: Path,
    contract: Contract,
    *,
    outputs: Mapping[str, Path],
    cases: Sequence[CaseFolder],
) -> Iterator[Check]:
    """Check that `metrics.json` is strict JSON, is complete, and has the scores of the outputs.

    Parameters
    ----------
    contract : the contract of the algorithm that wrote the outputs.
    """
    try:
        metrics = read_json(output / EVALUATION.files[0].path)
    except ValueError as error:
        yield Check("strict JSON", str(error))
        return
    if len(contract.files) == 1:
        yield from _check_task(metrics, contract.files[0], outputs, cases)
        return
    tasks = sorted(TASKS[file.holds] for file in contract.files)
    names = sorted(metrics.get("tasks", {}))
    yield Check("tasks", None if names == tasks else f"expected {tasks}, found {names}")
    for file in contract.files:
        task = TASKS[file.holds]
        if task in names:
            for check in _check_task(metrics["tasks"][task], file, outputs, cases):
                yield replace(check, name=f"{task}: {check.name}")


def _check_task(
    metrics: Mapping[str, Any],
    file: File,
    outputs: Mapping[str, Path],
    cases: Sequence[CaseFolder],
) -> Iterator[Check]:
    missing = sorted(KEYS - metrics.keys())
    problem = f"expected the keys {', '.join(missing)}, found none" if missing else None
    yield Check("strict JSON", problem)
    if missing:
        return
    content = (metrics["task"], [result["case_id"] for result in metrics["results"]])
    expected = (TASKS[file.holds], sorted(case.name for case in cases))
    same = content == expected
    yield Check("cases", None if same else f"expected {expected}, found {content}")
    failures = [result["failure"] for result in metrics["results"] if result["failure"]]
    yield Check("failures", f"expected none, found {failures}" if failures else None)
    for name, score in _scores(file, outputs, cases).items():
        value = metrics["aggregates"][name]["value"]
        same = value is score
        if value is not None and score is not None:
            same = math.isclose(value, score, abs_tol=TOLERANCE)
        yield Check(name, None if same else f"expected {score}, found {value}")


def _scores(
    file: File, outputs: Mapping[str, Path], cases: Sequence[CaseFolder]
) -> dict[str, float | None]:
    """Return the scores that are simple to compute."""
    truths = {case.name: _truth_of(case) for case in cases}
    paths = {case.name: outputs[case.name] / file.path for case in cases}
    if file.holds == "mask":
        dsc = [
            dsc_by_label(read_mask(paths[name]), sitk.ReadImage(str(truth)))
            for name, (truth, _) in truths.items()
        ]
        return {
            f"{label.lower()}_dice": sum(each[label] for each in dsc) / len(dsc) for label in dsc[0]
        }
    answers = [(read_json(paths[name]), outcome) for name, (_, outcome) in truths.items()]
    if file.holds == "number":
        sign = 1 if file.higher_is_earlier else -1
        return {"c_index": _c_index([(sign * risk, outcome) for risk, outcome in answers])}
    if file.holds == "boolean":
        return {"balanced_accuracy": _balanced_accuracy(answers)}
    raise ValueError(f"expected a file with the answer of a task, found one with {file.holds}")


def _balanced_accuracy(answers: Sequence[tuple[bool, Outcome]]) -> float | None:
    recalls = []
    for status in (True, False):
        same = [answer is status for answer, outcome in answers if outcome.hpv is status]
        recalls.append(sum(same) / len(same) if same else None)
    positive, negative = recalls
    return None if positive is None or negative is None else (positive + negative) / 2


def _c_index(answers: Sequence[tuple[float, Outcome]]) -> float | None:
    concordant = []
    for pair in combinations(answers, 2):
        (risk, outcome), (other_risk, other) = sorted(pair, key=lambda a: a[1].rfs_days)
        if outcome.relapse and outcome.rfs_days < other.rfs_days:
            concordant.append(0.5 if risk == other_risk else float(risk > other_risk))
    return sum(concordant) / len(concordant) if concordant else None


def _truth_of(case: CaseFolder) -> tuple[Path, Outcome]:
    outcome = read_outcome(case)
    if case.truth is None or outcome is None:
        raise ValueError(
            f"expected truth.nii.gz and truth.json next to the sample case {case.name}"
        )
    return case.truth, outcome
