"""Algorithms without weights run natively, in containers and on a Dask cluster."""

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
from typing import Any

import pytest
from typer.testing import CliRunner

from evaluation.__main__ import app
from evaluation.jobs import jobs_by_case
from evaluation.predictions import read_predictions
from evaluation.running.case_folders import CaseError, find_cases
from evaluation.running.cluster import cluster_pool
from evaluation.running.engines.protocol import EngineError
from evaluation.running.job_store import JobRecord, JobStore
from evaluation.running.limit_use import describe_use
from evaluation.running.limits import Limits, current_profile
from evaluation.running.run_command import run_algorithm, run_algorithms
from evaluation.running.runner import Summary, local_pool
from evaluation.tasks.discovery import SCORINGS
from evaluation.tasks.survival import Outcome
from evaluation.truth import read_truth
from shared.editions import CURRENT
from tests.containers.conftest import Project, this_python
from tests.evaluation.running.fakes import ALGORITHM, RecordingEngine, make_cases, set_behaviour

ROOT = Path(__file__).parents[3]
Run = Callable[..., dict[str, Summary]]


@pytest.fixture
def cases(project: Project, tmp_path: Path) -> Path:
    """Return a folder of two cases; the second has no CT."""
    folder = tmp_path / "cases"
    for name in ("MDA-001", "MDA-002"):
        shutil.copytree(project.root / "tests/cases/tiny", folder / name)
        facts = {"relapse": 1, "rfs_days": 600.5, "hpv": None, "facts": {"whole_body": True}}
        (folder / name / "truth.json").write_text(json.dumps(facts))
    (folder / "MDA-002/input/images/ct/scan.mha").unlink()
    return folder


@pytest.fixture
def run(project: Project, cases: Path, tmp_path: Path) -> Callable[..., dict[str, Summary]]:
    """Return a function that runs algorithms on the cases, in the small copy of the repository."""

    def call(*names: str, parallel: int = 1, **options: Any) -> dict[str, Summary]:
        return run_algorithms(
            [each for each in CURRENT.algorithms if not names or each.name in names],
            cases=cases,
            results=tmp_path / "results",
            pool=local_pool(parallel),
            root=project.root,
            python_of=this_python,
            **options,
        )

    return call


def test_native_jobs_are_kept_and_the_truth_is_written(
    run: Run, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = run(engine="native", parallel=2)
    assert "engine native: no image was built" in capsys.readouterr().out
    assert list(summaries) == ["task1_segmentation", "task2_survival", "task3_hpv"]
    for summary in summaries.values():
        assert (len(summary.records), len(summary.failed), summary.not_started) == (2, 1, [])

    folder = tmp_path / "results/task1_segmentation"
    output = folder / "MDA-001/output/images/tumor-lymph-node-segmentation/output.mha"
    assert output.is_file()
    jobs = jobs_by_case(read_predictions(folder / "predictions.json"), CURRENT)
    assert {name: job.status for name, job in jobs.items()} == {
        "MDA-001": "Succeeded",
        "MDA-002": "Failed",
    }
    (failed,) = (r for r in JobStore(folder).records() if not r.succeeded)
    assert failed.reason is not None
    assert "expected exactly one image" in failed.reason
    assert (folder / "MDA-002/stderr.txt").read_text().strip() == failed.reason
    assert not list((folder / ".work").glob("app-*"))
    assert JobStore(folder).origin().limits == current_profile().of("task1_segmentation")

    truth = read_truth(tmp_path / "results/ground_truth")["MDA-001"]
    assert SCORINGS["survival"].truth_of(truth) == Outcome(event=True, time_days=600.5)
    assert SCORINGS["hpv"].truth_of(truth) is None
    assert (truth.centre, truth.field_of_view) == ("MDA", "whole_body")
    assert truth.mask is not None
    assert truth.mask.resolve() == cases / "MDA-001/truth.nii.gz"

    run(engine="native")
    assert "2 of 2 cases have ended (2 in earlier runs), 1 failed" in capsys.readouterr().out


def test_containers_run_with_a_share_of_the_cpus(
    run: Run, project: Project, on_path: Callable[..., None], cases: Path
) -> None:
    shutil.rmtree(cases / "MDA-002")
    on_path("docker")
    summaries = run("task2_survival", engine="docker", parallel=2)
    assert not summaries["task2_survival"].failed
    (options,) = project.calls("create")
    cpus = len(os.sched_getaffinity(0))
    assert int(options[options.index("--cpus") + 1]) in {cpus // 2, cpus - cpus // 2}
    assert "--network" in options


def test_empty_folder_of_cases_is_rejected(run: Run, cases: Path) -> None:
    shutil.rmtree(cases)
    with pytest.raises(CaseError, match="expected folders with input/"):
        run(engine="native")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the signal handlers that the command sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_unknown_algorithm_is_rejected(tmp_path: Path) -> None:
    arguments = ["run", str(tmp_path), str(tmp_path / "results"), "--algorithm", "task4"]
    output = CliRunner().invoke(app, arguments).output
    assert "expected task1_segmentation, task2_survival, task3_hpv, found" in " ".join(
        output.split()
    )


@pytest.mark.usefixtures("handlers")
def test_unusable_limits_are_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text("time_s = 600\n")
    arguments = ["run", str(tmp_path), str(tmp_path / "results")]
    result = CliRunner().invoke(app, [*arguments, "--limits", str(tmp_path / "limits.toml")])
    assert "expected a profile of limits in" in str(result.exception)
    assert not (tmp_path / "results").exists()


def test_last_lines_say_how_much_of_the_limits_the_cases_used() -> None:
    limits = Limits(mode="exec", time_s=10, memory_gib=1, cpus=1, gpu=False)
    record = JobRecord(
        case="MDA-001",
        status="Succeeded",
        reason=None,
        seconds=6.0,
        peak_memory_gb=0.1,
        cpu_seconds=5.4,
    )
    assert describe_use("task3_hpv", [record], limits) == [
        "task3_hpv: mode: exec",
        "task3_hpv: time: at most 6.0 s of 10 s (60 %), in the case MDA-001",
        "task3_hpv: memory: at most 0.10 GB of 1.074 GB (9 %), in the case MDA-001",
        "task3_hpv: CPU: at most 0.9 CPUs of 1 CPUs (90 %), in the case MDA-001",
        "task3_hpv: WARNING: 1 case used half of the time limit or more: MDA-001",
    ]
    assert describe_use("task3_hpv", [], limits) == []


@pytest.mark.parametrize("command", ["run", "score", "report", "view", "compare"])
def test_every_command_has_a_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a Dask scheduler and two workers; yield its address and one worker's process."""
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
    set_behaviour(cases[3], fault="exit")
    engine = RecordingEngine(tmp_path / "calls.txt")

    deadline = time.monotonic() + 60

    def kill() -> None:
        while len(engine.notes("end")) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        victim.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    summary = run_on_cluster(tmp_path, engine, address)
    killer.join()
    assert len(set(engine.notes("machine"))) == 2
    assert [record.case for record in summary.records] == [case.name for case in cases]
    assert [record.case for record in summary.failed] == ["MDA-003"]
    assert len(engine.notes("start")) <= 10 + 1  # one more if a case was running on the worker


def run_on_cluster(folder: Path, engine: RecordingEngine, address: str, **options: Any) -> Summary:
    return run_algorithm(
        ALGORITHM,
        find_cases(folder / "cases"),
        cases_folder=folder / "cases",
        engine=engine,
        store=JobStore(folder / "run"),
        pool=cluster_pool(address, **options),
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a scheduler give up a case as soon as one worker has died with it."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")


def test_case_that_kills_its_worker_does_not_stop_the_others(
    tmp_path: Path, impatient: None, scheduler: tuple[str, subprocess.Popen[bytes]]
) -> None:
    cases = make_cases(tmp_path / "cases", 6)
    set_behaviour(cases[0], fault="kills its worker")
    engine = RecordingEngine(tmp_path / "calls.txt")
    summary = run_on_cluster(tmp_path, engine, scheduler[0])
    missing = {each.case: each.reason for each in summary.not_started}
    assert "each worker that ran it died" in missing["MDA-000"]
    # A case that waited on the same worker may be given up with it.
    assert len(missing) <= 2
    assert len(engine.notes("left")) == 1  # the surviving worker
    assert len(summary.records) + len(missing) == 6


def test_missing_scheduler_is_named(tmp_path: Path) -> None:
    make_cases(tmp_path / "cases", 1)
    engine = RecordingEngine(tmp_path / "calls.txt")
    with pytest.raises(EngineError, match=r"expected a Dask scheduler at tcp://127\.0\.0\.1:9"):
        run_on_cluster(tmp_path, engine, "tcp://127.0.0.1:9", connect_timeout_s=1)
