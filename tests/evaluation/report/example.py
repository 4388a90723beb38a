"""Scored results to report: sample cases for segmentation, simulated patients for the other tasks.

The masks are the expected outputs of the repository; one more case has failed. The other tasks have
sixty patients whose risk and probability are correlated with their simulated outcomes.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np

from evaluation.job_folder import OUTPUT
from evaluation.metrics_io import SubmissionMetrics
from evaluation.running.case_folders import CaseFolder, find_cases
from evaluation.running.engines.protocol import Run
from evaluation.running.ground_truth import write_ground_truth
from evaluation.running.job_store import JobsOrigin, JobStore
from evaluation.running.limits import Changes, Limits, Profile
from evaluation.running.runner import judge
from evaluation.running.score_command import score_results
from evaluation.schema import TaskMetrics
from evaluation.scoring_rules import ScoringRules
from evaluation.truth import TABLE
from shared.editions import CURRENT
from shared.tasks import Algorithm

ROOT: Final = Path(__file__).parents[3]
CASES: Final = ROOT / "tests" / "cases"
FAILED: Final = "MDA-404"
CENTRES: Final = {"CHUM": 1, "CHUP": 2, "MDA": 5, "USZ": 8}
LIMITS: Final = Profile(
    name="limits of the tests",
    limits=Limits(mode="exec", time_s=600, memory_gib=1, cpus=2, gpu=False),
    containers={"task3_hpv": Changes(time_s=2)},
)
LOG: Final = "NOTICE: written for a test.\ndone in 1.0 s, CPU time 1.5 s, peak memory 0.40 GB\n"


def make_results(folder: Path, patients: int = 60) -> dict[str, TaskMetrics]:
    """Make and score results in a folder; return the metrics by algorithm."""
    segmentation, survival, hpv = CURRENT.algorithms
    for name in (FAILED, *(sample.name for sample in find_cases(CASES))):
        source = CASES / ("no_primary" if name == FAILED else name)
        shutil.copytree(source, folder.parent / "cases" / name)
    cases = find_cases(folder.parent / "cases")
    _fill(folder, segmentation, cases, _write_mask)
    table = write_ground_truth(cases, folder / "ground_truth") / TABLE
    rows = [{"PatientID": case.name} for case in cases]
    rng = np.random.default_rng(7)
    simulated = [_patient(rng, index) for index in range(patients)]
    columns = ["PatientID", "CenterID", "FieldOfView", "Relapse", "RFS", "HPV Status"]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows + [patient["truth"] for patient in simulated])
    names = [CaseFolder(str(patient["truth"]["PatientID"]), folder, None) for patient in simulated]
    answers = {str(patient["truth"]["PatientID"]): patient for patient in simulated}

    def write_risk(case: CaseFolder, output: Path) -> int:
        (output / "rfs.json").write_text(str(answers[case.name]["risk"]))
        return 0

    def write_hpv(case: CaseFolder, output: Path) -> int:
        probability = answers[case.name]["probability"]
        (output / "hpv-status.json").write_text(json.dumps(probability > 0.5))
        (output / "hpv-probability.json").write_text(str(probability))
        return int(case.name.endswith("-007"))

    _fill(folder, survival, names, write_risk)
    _fill(folder, hpv, names, write_hpv)
    scores = score_results(
        folder, folder / "ground_truth", workers=1, rules=ScoringRules(bootstrap_samples=60)
    )
    return {
        name: metrics
        for name, metrics in scores.items()
        if not isinstance(metrics, SubmissionMetrics)
    }


def _write_mask(case: CaseFolder, output: Path) -> int:
    if case.name == FAILED:
        return 1
    expected = ROOT / CURRENT.algorithm("segmentation").name / "test" / case.name
    shutil.copytree(expected, output, dirs_exist_ok=True)
    return 0


def _fill(folder: Path, algorithm: Algorithm, cases: list[CaseFolder], answer: Any) -> None:
    """Write the jobs of an algorithm in the layout of the runner."""
    store = JobStore(folder / algorithm.name)
    with store.opened():
        origin = JobsOrigin(
            algorithm=algorithm.name,
            source="0123",
            engine="engine of the tests",
            cases=str(folder.parent / "cases"),
            limits=LIMITS.of(algorithm.name),
        )
        store.claim(origin)
        for case in cases:
            draft = store.draft(case.name)
            (draft / OUTPUT).mkdir()
            code = answer(case, draft / OUTPUT)
            (draft / "stdout.txt").write_text(LOG)
            stderr = "expected a <b>PET</b>, found none\n" if code else ""
            run = Run(exit_code=code, stdout=LOG, stderr=stderr, seconds=1.25)
            store.move_in(
                draft, judge(run, case=case.name, algorithm=algorithm, output=draft / OUTPUT)
            )
    store.write_predictions(algorithm, cases)


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
