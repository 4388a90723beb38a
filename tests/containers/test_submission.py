"""The checks of `metrics.json` find each kind of error."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.running.case_folders import CaseFolder
from tests.containers.contract import ALGORITHMS, Contract
from tests.containers.expectations import Outcome
from tests.containers.hostile import HOSTILE
from tests.containers.submission import check_hostile, check_metrics, stage, stage_hostile

OUTCOMES = {
    "a": Outcome(hpv=True, relapse=True, rfs_days=100),
    "b": Outcome(hpv=False, relapse=False, rfs_days=200),
    "c": Outcome(hpv=True, relapse=True, rfs_days=300),
}
RANKED: dict[str, dict[str, float | None]] = {
    # The masks have 4 GTVp voxels and no node. The truths of a and b have the same 4 voxels; the
    # truth of c has 4 more, and a node.
    "mask": {"gtvp_dice": (1 + 1 + 2 * 4 / 12) / 3, "gtvn_dice": 2 / 3},
    "number": {"c_index": (1 + 0.5) / 2},  # pair (a, b) is concordant; (a, c) has equal risks
    "boolean": {"balanced_accuracy": (1 / 2 + 0) / 2},
}
ANSWERS: dict[str, dict[str, object]] = {
    "number": {"a": 2.0, "b": 1.0, "c": 2.0},
    "boolean": {"a": True, "b": True, "c": False},
}


@pytest.fixture
def cases(tmp_path: Path) -> list[CaseFolder]:
    folders = []
    for name, outcome in OUTCOMES.items():
        truth = tmp_path / f"{name}.nii.gz"
        sitk.WriteImage(row("pppp" + ("ppppn" if name == "c" else ".....")), str(truth))
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        (folder / "truth.json").write_text(json.dumps(dataclasses.asdict(outcome)))
        folders.append(CaseFolder(name, folder / "input", truth))
    return folders


def row(text: str) -> sitk.Image:
    """Return a label map of one row: '.' background, 'p' GTVp, 'n' GTVn."""
    return sitk.GetImageFromArray(np.array([[[".pn".index(c) for c in text]]], np.uint8))


def write_outputs(contract: Contract, folder: Path) -> dict[str, Path]:
    for name in OUTCOMES:
        path = folder / name / contract.files[0].path
        path.parent.mkdir(parents=True)
        if contract.files[0].holds == "mask":
            sitk.WriteImage(row("pppp....."), str(path))
        else:
            path.write_text(json.dumps(ANSWERS[contract.files[0].holds][name]))
    return {name: folder / name for name in OUTCOMES}


def correct(contract: Contract) -> dict[str, Any]:
    """Return a correct `metrics.json`."""
    holds = contract.files[0].holds
    return {
        "task": {"mask": "segmentation", "number": "survival", "boolean": "hpv"}[holds],
        "ranked": [], "cases": 3, "failed": 0, "groups": {}, "alternatives": {},
        "aggregates": {name: {"value": value} for name, value in RANKED[holds].items()},
        "results": [{"case_id": name, "failure": None} for name in OUTCOMES],
    }  # fmt: skip


def problems(
    contract: Contract, metrics: object, cases: list[CaseFolder], folder: Path
) -> list[str]:
    text = metrics if isinstance(metrics, str) else json.dumps(metrics)
    (folder / "metrics.json").write_text(text)
    outputs = {c.name: folder / contract.name / c.name for c in cases}
    results = check_metrics(folder, contract, outputs=outputs, cases=cases)
    return [check.problem for check in results if check.problem]


@pytest.mark.parametrize("contract", ALGORITHMS, ids=lambda contract: contract.name)
def test_correct_metrics_pass_and_each_error_is_named(
    contract: Contract, cases: list[CaseFolder], tmp_path: Path
) -> None:
    write_outputs(contract, tmp_path / contract.name)
    assert problems(contract, correct(contract), cases, tmp_path) == []

    def wrong(change: Callable[[dict[str, Any]], object]) -> str:
        metrics = copy.deepcopy(correct(contract))
        change(metrics)
        (problem,) = problems(contract, metrics, cases, tmp_path)
        return problem

    first = next(iter(RANKED[contract.files[0].holds]))
    assert wrong(lambda m: m["aggregates"].update({first: {"value": 0.1}})).endswith("found 0.1")
    assert wrong(lambda m: m["aggregates"].update({first: {"value": None}})).endswith("found None")
    assert "expected the keys groups" in wrong(lambda m: m.pop("groups"))
    assert "found ('other'" in wrong(lambda m: m.update(task="other"))
    assert "['b', 'c', 'a']" in wrong(lambda m: m["results"].append(m["results"].pop(0)))
    assert "found ['late']" in wrong(lambda m: m["results"][0].update(failure="late"))
    assert "strict JSON" in problems(contract, '{"cases": NaN}', cases, tmp_path)[0]


def test_staged_submission_has_the_platforms_layout(
    cases: list[CaseFolder], tmp_path: Path
) -> None:
    contract = ALGORITHMS[0]
    submission = stage(
        contract,
        outputs=write_outputs(contract, tmp_path / "outputs"),
        cases=cases,
        folder=tmp_path / "staged",
    )
    jobs = json.loads((submission.input / "predictions.json").read_bytes())
    assert [job["inputs"][0]["image"]["name"] for job in jobs] == ["a.mha", "b.mha", "c.mha"]
    for job in jobs:
        (value,) = job["outputs"]
        folder = submission.input / job["pk"] / "output" / value["socket"]["relative_path"]
        assert [path.name for path in folder.iterdir()] == ["output.mha"]
    table = (submission.truth / "patients.csv").read_text().splitlines()
    assert table[:2] == ["PatientID,Relapse,RFS,HPV Status", "a,1,100.0,1"]
    assert sorted(path.name for path in (submission.truth / "masks").iterdir()) == [
        "a.nii.gz", "b.nii.gz", "c.nii.gz",
    ]  # fmt: skip
    submission.shuffle()
    shuffled = json.loads((submission.input / "predictions.json").read_bytes())
    assert shuffled != jobs
    assert sorted(shuffled, key=lambda job: job["pk"]) == jobs


@pytest.mark.parametrize("contract", ALGORITHMS, ids=lambda contract: contract.name)
def test_hostile_job_is_a_spoilt_copy_and_must_fail_for_its_reason(
    contract: Contract, cases: list[CaseFolder], tmp_path: Path
) -> None:
    (file,) = contract.files
    submission, kinds = stage_hostile(
        contract,
        outputs=write_outputs(contract, tmp_path / "outputs"),
        cases=cases,
        folder=tmp_path / "staged",
    )
    assert [name.removeprefix(f"{file.holds}, ") for name in kinds] == list(HOSTILE[file.holds])
    jobs = json.loads((submission.input / "predictions.json").read_bytes())
    names = [job["inputs"][0]["image"]["name"].removesuffix(".mha") for job in jobs]
    assert names == ["a", "b", "c", *kinds]
    link = submission.output(names.index(f"{file.holds}, link")) / file.path
    assert link.resolve() == (submission.output(0) / file.path).resolve()

    clean = [{"case_id": name, "failure": None, "value": 1} for name in "abc"]
    failed = [{"case_id": name, "failure": kinds[name][1].words} for name in kinds]

    def problems(results: list[dict[str, Any]]) -> list[str]:
        for folder, content in (("hostile", results), ("clean", clean)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "metrics.json").write_text(json.dumps({"results": content}))
        checks = check_hostile(tmp_path / "hostile", tmp_path / "clean", contract, kinds)
        return [check.problem for check in checks if check.problem]

    assert problems([*clean, *failed]) == []
    (problem,) = problems([*clean, {**failed[0], "failure": None}, *failed[1:]])
    assert problem == f"expected a failure with '{kinds[names[3]][1].words}', found: None"
    (problem,) = problems([{**clean[0], "value": 2}, *clean[1:], *failed])
    assert problem.endswith("found others: ['a']")
