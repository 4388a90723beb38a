"""Every case of a cohort runs once, whatever fails and whenever the run is stopped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import pytest

from evaluation.jobs import answered_tasks, jobs_by_case
from evaluation.predictions import read_predictions
from evaluation.running.case_folders import CaseFolder
from evaluation.running.engines.protocol import Engine
from evaluation.running.job_store import JobsOrigin, JobStore
from evaluation.running.programs import program_of
from evaluation.running.run_command import run_algorithm
from evaluation.running.runner import (
    Ending,
    NotStarted,
    Order,
    Summary,
    cpu_shares,
    local_pool,
    run_case,
    run_cohort,
)
from shared.editions import CURRENT
from shared.errors import InputError
from tests.containers.conftest import Project
from tests.evaluation.running.fakes import ALGORITHM, RecordingEngine, make_cases, set_behaviour

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(tmp_path: Path) -> RecordingEngine:
    return RecordingEngine(tmp_path / "calls.txt")


def open_store(folder: Path, source: str = "0123", cases: Path | None = None) -> JobStore:
    store = JobStore(folder)
    with store.opened():
        origin = JobsOrigin(algorithm=ALGORITHM.name, source=source, engine="", cases=str(cases))
        store.claim(origin)
    return store


def run_cases(
    cases: Sequence[CaseFolder],
    engine: Engine,
    store: JobStore,
    parallel: int,
    on_end: Callable[[Ending], object] = lambda ending: None,
) -> Summary:
    return run_cohort(
        ALGORITHM,
        cases,
        edition=CURRENT,
        engine=engine,
        store=store,
        pool=local_pool(parallel),
        on_end=on_end,
    )


def test_cohort_is_run_and_listed_as_on_the_platform(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    cases = make_cases(tmp_path / "cases", 5)
    store = open_store(tmp_path / "run")
    summary = run_cases(cases, engine, store, 2)
    assert [record.case for record in summary.records] == [case.name for case in cases]
    assert not summary.failed
    first = summary.records[0]
    assert (first.status, first.seconds, first.peak_memory_gb) == ("Succeeded", 0.123, 0.5)

    jobs = jobs_by_case(read_predictions(store.folder / "predictions.json"), CURRENT)
    assert list(jobs) == [case.name for case in cases]
    assert answered_tasks(jobs, CURRENT) == ("survival",)
    for job in jobs.values():
        assert job.succeeded
        assert (store.folder / job.pk / "output" / "rfs.json").read_text() == "0.5"
        assert not (store.folder / job.pk / "input_copy").exists()


def test_failed_case_is_recorded_and_does_not_stop_the_others(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    cases = make_cases(tmp_path / "cases", 4)
    set_behaviour(cases[0], fault="exit")
    set_behaviour(cases[2], fault="no output")
    store = open_store(tmp_path / "run")
    summary = run_cases(cases, engine, store, 1)
    reasons = {record.case: record.reason for record in summary.failed}
    assert reasons == {
        "MDA-000": "expected exactly one .mha, found 2",
        "MDA-002": "expected rfs.json, found no such file although the exit code is 0",
    }
    statuses = [p.status for p in read_predictions(store.folder / "predictions.json")]
    assert statuses == ["Failed", "Succeeded", "Failed", "Succeeded"]
    # Outputs are discarded after exit code 1, as on the platform.
    assert list((store.folder / "MDA-000" / "output").iterdir()) == []

    again = run_cases(cases, engine, store, 1)
    assert (again.resumed, again.failed) == (4, summary.failed)
    set_behaviour(cases[0], fault=None)
    store.forget_failures()
    repeated = run_cases(cases, engine, store, 1)
    assert [record.case for record in repeated.failed] == ["MDA-002"]
    assert Counter(engine.notes("start")) == {
        "MDA-000": 2,
        "MDA-001": 1,
        "MDA-002": 2,
        "MDA-003": 1,
    }


def test_case_that_could_not_be_started_runs_in_the_next_run(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    cases = make_cases(tmp_path / "cases", 3)
    set_behaviour(cases[1], fault="engine")
    (cases[2].input / "scan.mha").symlink_to(tmp_path / "nowhere")
    store = open_store(tmp_path / "run")
    summary = run_cases(cases, engine, store, 1)
    assert [record.case for record in summary.records] == ["MDA-000"]
    missing = {each.case: each.reason for each in summary.not_started}
    assert missing["MDA-001"] == "the daemon does not answer"
    assert "scan.mha" in missing["MDA-002"]
    assert len(read_predictions(store.folder / "predictions.json")) == 1

    set_behaviour(cases[1], fault=None)
    (cases[2].input / "scan.mha").unlink()
    assert len(run_cases(cases, engine, store, 1).records) == 3


def test_several_cases_run_at_once(tmp_path: Path, engine: RecordingEngine) -> None:
    cases = make_cases(tmp_path / "cases", 3, seconds=0.3)
    run_cases(cases, engine, open_store(tmp_path / "run"), 3)
    lines = [line.split()[0] for line in engine.calls.read_text().splitlines()]
    assert lines == ["start"] * 3 + ["end"] * 3


def test_two_runs_of_one_folder_share_the_work(tmp_path: Path, engine: RecordingEngine) -> None:
    cases = make_cases(tmp_path / "cases", 8, seconds=0.05)
    open_store(tmp_path / "run")
    summaries: list[Summary] = []

    def run() -> None:
        store = open_store(tmp_path / "run")
        summaries.append(run_cases(cases, engine, store, 2))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(engine.notes("start")) == [case.name for case in cases]
    assert [len(summary.records) for summary in summaries] == [8, 8]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_is_resumed(
    tmp_path: Path, engine: RecordingEngine, number: signal.Signals
) -> None:
    cases = make_cases(tmp_path / "cases", 12, seconds=0.1)
    command = [sys.executable, "-m", "tests.evaluation.running.cohort", str(tmp_path), "2"]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while len(engine.notes("end")) < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.wait()
    store = JobStore(tmp_path / "run")
    complete = [record.case for record in store.records()]
    assert 2 <= len(complete) < 12

    subprocess.run(command, cwd=ROOT, check=True)
    assert [record.case for record in store.records()] == [case.name for case in cases]
    starts = Counter(engine.notes("start"))
    assert set(starts) == {case.name for case in cases}
    # Complete cases were not run again; interrupted ones were.
    assert all(starts[name] == 1 for name in complete)
    assert sum(starts.values()) <= 12 + 2
    for case in cases:
        assert (store.folder / case.name / "output" / "rfs.json").read_text() == "0.5"
    assert len(read_predictions(store.folder / "predictions.json")) == 12
    assert not list(store.work.glob("MDA-???"))


def test_killed_native_run_ends_its_processes_and_is_resumed(
    tmp_path: Path, project: Project
) -> None:
    for index in range(4):
        shutil.copytree(project.root / "tests/cases/tiny", tmp_path / "cases" / f"MDA-{index:03}")
    command = [sys.executable, "-m", "tests.evaluation.running.cohort", str(tmp_path), "1"]
    command.append(str(project.root))
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    store = JobStore(tmp_path / "run")
    while not store.records() or not processes_of(store.work):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while processes_of(store.work) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_of(store.work)
    complete = {record.case: written(store, record.case) for record in store.records()}
    assert 1 <= len(complete) < 4

    subprocess.run(command, cwd=ROOT, check=True)
    assert [record.status for record in store.records()] == ["Succeeded"] * 4
    for case, before in complete.items():
        assert written(store, case) == before
    assert not list(store.work.glob("app-*"))


def written(store: JobStore, case: str) -> tuple[int, int]:
    """Return the inode and the modification time of a case's record."""
    status = (store.folder / case / "job.json").stat()
    return status.st_ino, status.st_mtime_ns


def processes_of(folder: Path) -> list[str]:
    """Return the processes of an application below a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line and "inference.py" in line]


def test_interrupt_stops_running_cases_and_records_none_of_them(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    cases = make_cases(tmp_path / "cases", 4)
    for case in cases[1:]:
        set_behaviour(case, seconds=60)
    store = open_store(tmp_path / "run")

    def interrupt(ending: object) -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_cases(cases, engine, store, 2, interrupt)
    assert time.monotonic() - start < 10
    assert [record.case for record in store.records()] == ["MDA-000"]
    assert engine.notes("cancelled")


def test_folder_with_other_content_is_rejected(tmp_path: Path) -> None:
    open_store(tmp_path / "run", "0123", tmp_path)
    open_store(tmp_path / "run", "0123", tmp_path)
    with pytest.raises(InputError, match="source 0123 instead of 4567"):
        open_store(tmp_path / "run", "4567", tmp_path)
    with pytest.raises(InputError, match=r"cases .* instead of .*others"):
        open_store(tmp_path / "run", "0123", tmp_path / "others")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").touch()
    with (
        pytest.raises(InputError, match="found other files in"),
        JobStore(tmp_path / "thesis").opened(),
    ):
        pass


def test_application_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    leftover = JobStore(tmp_path / "run").work / "app-host-1"
    leftover.mkdir(parents=True)
    with JobStore(tmp_path / "run").opened():
        assert not leftover.exists()
        leftover.mkdir()
        with JobStore(tmp_path / "run").opened():  # while the first is still open
            assert leftover.exists()


def test_files_of_another_user_do_not_stop_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "run")
    (store.draft("MDA-001") / "output").mkdir()

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("not the owner")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(os, "rmdir", refuse)
    assert not list(store.draft("MDA-001").iterdir())


def test_shared_lock_is_taken_on_a_file_opened_for_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = {}

    def note(file: IO[str], operation: int) -> None:
        modes[operation] = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE

    monkeypatch.setattr(fcntl, "flock", note)
    with JobStore(tmp_path / "run").opened():
        pass
    assert modes == {fcntl.LOCK_EX | fcntl.LOCK_NB: os.O_RDWR, fcntl.LOCK_SH: os.O_RDWR}


def test_engine_is_closed_although_cases_fail(
    tmp_path: Path, engine: RecordingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = make_cases(tmp_path / "cases", 2)
    set_behaviour(cases[0], fault="exit")
    set_behaviour(cases[1], fault="engine")
    summary = run_algorithm(
        ALGORITHM,
        cases,
        cases_folder=tmp_path / "cases",
        engine=engine,
        store=JobStore(tmp_path / "run"),
        pool=local_pool(1),
    )
    assert (len(summary.failed), len(summary.not_started)) == (1, 1)
    printed = capsys.readouterr().out
    assert "MDA-000: failed: expected exactly one .mha, found 2" in printed
    assert "MDA-001: not started: the daemon does not answer" in printed
    assert engine.calls.read_text().splitlines()[-1] == "close"


@pytest.mark.parametrize(
    ("cpus", "parallel", "shares"),
    [
        ([0, 1, 2, 3], 1, [{0, 1, 2, 3}]),
        ([0, 1, 2, 3], 2, [{0, 2}, {1, 3}]),
        ([4, 6, 7], 2, [{4, 7}, {6}]),
        ([0, 1], 3, [{0}, {1}, {0}]),
    ],
)
def test_parallel_cases_share_the_cpus(
    cpus: Sequence[int], parallel: int, shares: list[set[int]]
) -> None:
    assert cpu_shares(cpus, parallel) == shares


def test_case_that_ended_in_the_meantime_is_not_run_again(
    tmp_path: Path, engine: RecordingEngine
) -> None:
    (case,) = make_cases(tmp_path / "cases", 1)
    store = open_store(tmp_path / "run")
    order = Order(
        algorithm=ALGORITHM,
        program=program_of(ALGORITHM),
        engine=engine,
        case=case,
        folder=store.folder,
    )
    first = run_case(order)
    assert run_case(order) == first
    assert engine.notes("start") == [case.name]
    assert not isinstance(first, NotStarted)
    assert json.loads((store.folder / case.name / "job.json").read_text())["case"] == case.name
    assert os.listdir(store.folder / case.name / "output") == ["rfs.json"]
