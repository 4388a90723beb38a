"""A scored run to report: the sample cases for Task 1, made patients for Tasks 2 and 3.

Task 1's outputs are the expected ones of the repository; one case more has failed. The other tasks
have sixty patients whose risk and probability tell something of the outcome drawn for them.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.running.cases import Case, cases_in
from evaluation.running.engines import Run
from evaluation.running.runner import judge
from evaluation.running.score import score_run
from evaluation.running.store import OUTPUT, RunCard, RunStore
from evaluation.running.tasks import TASKS, Task
from evaluation.running.truth import write_ground_truth
from evaluation.schema import Metrics, Rules
from evaluation.truth import TABLE

ROOT: Final = Path(__file__).parents[3]
CASES: Final = ROOT / "tests" / "cases"
FAILED: Final = "MDA-404"
CENTRES: Final = {"CHUM": 1, "CHUP": 2, "MDA": 5, "USZ": 8}
LOG: Final = "NOTICE: made for a test.\ndone in 1.0 s, peak memory 0.40 GB\n"


def make_run(folder: Path, patients: int = 60) -> dict[str, Metrics]:
    """Make and score a run in a folder; return its metrics by task."""
    for name in (FAILED, *(sample.name for sample in cases_in(CASES))):
        source = CASES / ("no_primary" if name == FAILED else name)
        shutil.copytree(source, folder.parent / "cases" / name)
    cases = cases_in(folder.parent / "cases")
    _fill(folder, TASKS[0], cases, _segmentation)
    table = write_ground_truth(cases, folder / "ground_truth") / TABLE
    rows = [{"PatientID": case.name} for case in cases]
    rng = np.random.default_rng(7)
    made = [_patient(rng, index) for index in range(patients)]
    columns = ["PatientID", "CenterID", "FieldOfView", "Relapse", "RFS", "HPV Status"]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows + [patient["truth"] for patient in made])
    names = [Case(str(patient["truth"]["PatientID"]), folder, None) for patient in made]
    answers = {str(patient["truth"]["PatientID"]): patient for patient in made}

    def risk(case: Case, output: Path) -> int:
        (output / "rfs.json").write_text(str(answers[case.name]["risk"]))
        return 0

    def hpv(case: Case, output: Path) -> int:
        probability = answers[case.name]["probability"]
        (output / "hpv-status.json").write_text(json.dumps(probability > 0.5))
        (output / "hpv-probability.json").write_text(str(probability))
        return int(case.name.endswith("-007"))

    _fill(folder, TASKS[1], names, risk)
    _fill(folder, TASKS[2], names, hpv)
    return score_run(folder, folder / "ground_truth", workers=1, rules=Rules(bootstrap_samples=60))


def _segmentation(case: Case, output: Path) -> int:
    if case.name == FAILED:
        return 1
    expected = ROOT / TASKS[0].name / "test" / case.name
    shutil.copytree(expected, output, dirs_exist_ok=True)
    return 0


def _fill(folder: Path, task: Task, cases: list[Case], answer: Any) -> None:
    """Make the jobs of a task as the runner keeps them."""
    store = RunStore(folder / task.name)
    with store.opened():
        made_by = RunCard(
            task=task.name,
            made_by="0123",
            engine="engine of the tests",
            cases=str(folder.parent / "cases"),
        )
        store.claim(made_by)
        for case in cases:
            draft = store.draft(case.name)
            (draft / OUTPUT).mkdir()
            code = answer(case, draft / OUTPUT)
            (draft / "stdout.txt").write_text(LOG)
            run = Run(code, LOG, "expected a <b>PET</b>, found none\n" if code else "", 1.25)
            store.move_in(draft, judge(case.name, run, task, draft / OUTPUT))
    store.write_predictions(task, cases)


def _patient(rng: np.random.Generator, index: int) -> dict[str, Any]:
    centre = list(CENTRES)[index % len(CENTRES)]
    hazard = float(rng.normal())
    recurs, ends = rng.exponential(2500 * np.exp(-1.2 * hazard)), rng.uniform(200, 3200)
    positive = bool(rng.random() < 0.65)
    logit = rng.normal(1.1 if positive else -0.6)
    return {
        "truth": {
            "PatientID": f"{centre}-{index:03}",
            "CenterID": CENTRES[centre],
            "FieldOfView": "whole_body" if centre in ("CHUP", "USZ") else "head_neck",
            "Relapse": int(recurs < ends),
            "RFS": round(min(recurs, ends), 1),
            "HPV Status": int(positive),
        },
        "risk": hazard + float(rng.normal(scale=0.8)),
        "probability": round(1 / (1 + float(np.exp(-logit))), 3),
    }
