"""The command, on algorithms that need no weights: native, in containers, on a Dask cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evaluation.commands import app
from evaluation.jobs import jobs_by_case
from evaluation.running import command
from evaluation.running.cases import cases_in
from evaluation.running.cluster import on_cluster
from evaluation.running.command import run_task
from evaluation.running.engines import EngineError
from evaluation.running.store import RunStore
from evaluation.schema import read_predictions
from evaluation.truth import read_truth
from shared.tasks import CURRENT
from tests.containers.conftest import Project
from tests.evaluation.running.fakes import TASK, RecordingEngine, make_cases, set_wish

ROOT = Path(__file__).parents[3]
Command = Callable[..., Result]


@pytest.fixture
def cases(project: Project, tmp_path: Path) -> Path:
    """Two cases, the second without a CT."""
    folder = tmp_path / "cases"
    for name in ("MDA-001", "MDA-002"):
        shutil.copytree(project.root / "tests/cases/tiny", folder / name)
        facts = {"relapse": 1, "rfs_days": 600.5, "hpv": None, "facts": {"whole_body": True}}
        (folder / name / "truth.json").write_text(json.dumps(facts))
    (folder / "MDA-002/input/images/ct/scan.mha").unlink()
    return folder


@pytest.fixture
def run(project: Project, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the command on the cases, in the miniature of the repository."""
    monkeypatch.setattr(command, "ROOT", project.root)
    monkeypatch.setattr(command, "native_python", lambda: Path(sys.executable))
    # The command's handlers would stay in this process.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*options: str) -> Result:
        return CliRunner().invoke(app, ["run", str(cases), str(tmp_path / "run"), *options])

    return call


def test_native_runs_are_kept_and_the_truth_is_laid_out(
    run: Command, cases: Path, tmp_path: Path
) -> None:
    result = run("--engine", "native", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert "engine native: no image was built" in result.output
    report = json.loads(result.output.splitlines()[-1])
    counts = {"succeeded": 1, "failed": 1, "not_started": 0}
    assert report["tasks"] == dict.fromkeys(
        ("task1_segmentation", "task2_survival", "task3_hpv"), counts
    )

    folder = tmp_path / "run/task1_segmentation"
    output = folder / "MDA-001/output/images/tumor-lymph-node-segmentation/output.mha"
    assert output.is_file()
    jobs = jobs_by_case(read_predictions(folder / "predictions.json"), CURRENT)
    assert {name: job.status for name, job in jobs.items()} == {
        "MDA-001": "Succeeded",
        "MDA-002": "Failed",
    }
    (failed,) = (r for r in RunStore(folder).records() if not r.succeeded)
    assert failed.reason is not None
    assert "expected exactly one image" in failed.reason
    assert (folder / "MDA-002/stderr.txt").read_text().strip() == failed.reason
    assert not list((folder / ".work").glob("app-*"))

    truth = read_truth(tmp_path / "run/ground_truth")
    patient = truth["MDA-001"]
    assert (patient.event, patient.time_days, patient.hpv) == (True, 600.5, None)
    assert (patient.centre, patient.field_of_view) == ("MDA", "whole_body")
    assert patient.mask is not None
    assert patient.mask.resolve() == cases / "MDA-001/truth.nii.gz"

    again = run("--engine", "native")
    assert again.exit_code == 0
    assert "2 of 2 cases have ended, 1 failed, 2 in earlier runs" in again.output


def test_containers_run_with_a_share_of_the_cpus(
    run: Command, project: Project, on_path: Callable[..., None], cases: Path
) -> None:
    shutil.rmtree(cases / "MDA-002")
    on_path("docker")
    result = run("--engine", "docker", "--jobs", "2", "--task", "task2_survival")
    assert result.exit_code == 0, result.output
    (options,) = project.calls("create")
    cpus = len(os.sched_getaffinity(0))
    assert int(options[options.index("--cpus") + 1]) in {cpus // 2, cpus - cpus // 2}
    assert "--network" in options


def test_an_unknown_task_or_an_empty_folder_is_refused(run: Command, tmp_path: Path) -> None:
    assert "expected task1_segmentation, task2_survival, task3_hpv, found" in " ".join(
        run("--task", "task4").output.split()
    )
    shutil.rmtree(tmp_path / "cases")
    with pytest.raises(Exception, match="expected folders with input/"):
        raise_from(run("--engine", "native"))


def raise_from(result: Result) -> None:
    """Raise what a command has raised."""
    assert result.exception is not None
    raise result.exception


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a scheduler and two worker processes; give its address, and one worker's process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    dask = str(Path(sys.executable).with_name("dask"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment}
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    first = subprocess.Popen([dask, "scheduler", *options], **quiet)  # type: ignore[call-overload]
    processes = [first]
    try:
        address = ""
        for line in first.stderr:
            if b"Scheduler at:" in line:
                address = line.decode().split()[-1]
                break
        worker = [dask, "worker", address, "--nworkers", "1", "--nthreads", "1"]
        worker += ["--no-dashboard", "--no-nanny"]
        for _ in range(2):
            process = subprocess.Popen(worker, **{**quiet, "stderr": subprocess.DEVNULL})  # type: ignore[call-overload]
            processes.append(process)
        yield address, processes[-1]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        first.stderr.close()


def test_two_dask_workers_share_a_cohort_and_one_may_die(
    tmp_path: Path, scheduler: tuple[str, subprocess.Popen[bytes]]
) -> None:
    address, victim = scheduler
    cases = make_cases(tmp_path / "cases", 10, seconds=0.2)
    set_wish(cases[3], fault="exit")
    engine = RecordingEngine(tmp_path / "calls.txt")
    store = RunStore(tmp_path / "run")

    given_up = time.monotonic() + 60

    def kill() -> None:
        while len(engine.noted("end")) < 3 and time.monotonic() < given_up:
            time.sleep(0.01)
        victim.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    cases = cases_in(tmp_path / "cases")
    summary = run_task(TASK, cases, tmp_path, engine, store, on_cluster(address))
    killer.join()
    assert len(set(engine.noted("machine"))) == 2
    assert [record.case for record in summary.records] == [case.name for case in cases]
    assert [record.case for record in summary.failed] == ["MDA-003"]
    assert len(engine.noted("start")) <= 10 + 1  # the one that was under way


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a scheduler give up a case at the first worker that dies."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")


def test_a_case_that_kills_its_worker_stops_no_other(
    tmp_path: Path, impatient: None, scheduler: tuple[str, subprocess.Popen[bytes]]
) -> None:
    cases = make_cases(tmp_path / "cases", 6)
    set_wish(cases[0], fault="kills its worker")
    engine = RecordingEngine(tmp_path / "calls.txt")
    store = RunStore(tmp_path / "run")
    summary = run_task(TASK, cases, tmp_path, engine, store, on_cluster(scheduler[0]))
    missing = {outcome.case: outcome.reason for outcome in summary.not_started}
    assert "each worker that ran it died" in missing["MDA-000"]
    # The one that waited on the same worker may be given up with it.
    assert len(missing) <= 2
    assert len(engine.noted("left")) == 1  # the worker that lives
    assert len(summary.records) + len(missing) == 6


def test_a_scheduler_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.running.cluster.CONNECT_TIMEOUT_S", 1)
    make_cases(tmp_path / "cases", 1)
    with pytest.raises(EngineError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9"):
        run_task(
            TASK,
            cases_in(tmp_path / "cases"),
            tmp_path,
            RecordingEngine(tmp_path / "calls.txt"),
            RunStore(tmp_path / "run"),
            on_cluster("tcp://127.0.0.1:9"),
        )
