"""Runs an algorithm on a cohort of cases, several at a time, and resumes a run that was stopped.

A `Pool` decides where cases run: `local_pool` uses threads on this machine, `cluster_pool` the
workers of a Dask scheduler. A case that fails is recorded. A case that could not be started,
because of the engine or the disk, is not recorded, and the next run starts it again.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from evaluation.job_folder import OUTPUT
from evaluation.outputs import HPV_PROBABILITY
from evaluation.running.case_folders import CaseFolder
from evaluation.running.engines.protocol import Engine, EngineError, Run
from evaluation.running.job_store import JobRecord, JobStore
from evaluation.running.limits import Limits
from evaluation.running.logs import cpu_seconds, hpv_probability, last_line, peak_memory_gb
from evaluation.running.programs import Program, program_of
from shared.editions import Edition
from shared.tasks import Algorithm


@dataclass(frozen=True, kw_only=True)
class Order:
    """A case to run, with everything that a thread or another machine needs to run it."""

    algorithm: Algorithm
    program: Program
    engine: Engine
    case: CaseFolder
    folder: Path


@dataclass(frozen=True)
class NotStarted:
    """A case that could not be started, and the reason, which lies outside the algorithm."""

    case: str
    reason: str


Ending: TypeAlias = JobRecord | NotStarted
Pool: TypeAlias = Callable[[Sequence[Order]], Iterator[Ending]]
"""Runs orders, and yields each ending as soon as it is known. Closing the iterator stops the
orders that have not ended."""


@dataclass(kw_only=True)
class Summary:
    """The result of running a cohort.

    Attributes
    ----------
    records : all cases that have ended, by name, including those of earlier runs.
    not_started : the cases that could not be started.
    resumed : number of cases that had ended in earlier runs.
    """

    records: list[JobRecord] = field(default_factory=list)
    not_started: list[NotStarted] = field(default_factory=list)
    resumed: int = 0

    @property
    def failed(self) -> list[JobRecord]:
        """The cases that the algorithm failed on."""
        return [record for record in self.records if not record.succeeded]


def run_cohort(
    algorithm: Algorithm,
    cases: Sequence[CaseFolder],
    *,
    edition: Edition,
    engine: Engine,
    store: JobStore,
    pool: Pool,
    limits: Limits | None = None,
    on_end: Callable[[Ending], object] = lambda ending: None,
) -> Summary:
    """Run an algorithm on the cases that have not ended yet, and write `predictions.json`.

    Parameters
    ----------
    cases : the cases; no two have the same name.
    engine : an engine that has been prepared for the algorithm.
    store : where the jobs are kept; its origin has been claimed with `JobStore.claim`.
    limits : the limits for a case; by default those of the current edition.
    on_end : called with each case that ends.
    """
    ended = {record.case for record in store.records()}
    program = program_of(algorithm, limits)
    orders = [
        Order(algorithm=algorithm, program=program, engine=engine, case=case, folder=store.folder)
        for case in cases
        if case.name not in ended
    ]
    summary = Summary(resumed=len(cases) - len(orders))
    for ending in pool(orders):
        if isinstance(ending, NotStarted):
            summary.not_started.append(ending)
        on_end(ending)
    names = {case.name for case in cases}
    summary.records = [record for record in store.records() if record.case in names]
    store.write_predictions(algorithm, cases, edition)
    return summary


def run_case(
    order: Order, cpus: frozenset[int] | None = None, cancelled: threading.Event | None = None
) -> Ending:
    """Run one case and keep its job, unless another run has done so in the meantime.

    Raises
    ------
    Cancelled
        If `cancelled` was set; the next run starts the case again.
    """
    store, name = JobStore(order.folder), order.case.name
    with store.locked(name):
        if (earlier := store.record(name)) is not None:
            return earlier
        try:
            draft = store.draft(name)
            staged = order.case.stage(draft / "input_copy")
            run = order.engine.run(
                order.program,
                case=staged,
                output=draft / OUTPUT,
                logs=draft,
                cpus=cpus,
                cancelled=cancelled,
            )
            shutil.rmtree(staged)
            record = judge(run, case=name, algorithm=order.algorithm, output=draft / OUTPUT)
            store.move_in(draft, record)
        except (EngineError, OSError) as error:
            return NotStarted(name, " ".join(str(error).split()))
    return record


def judge(run: Run, *, case: str, algorithm: Algorithm, output: Path) -> JobRecord:
    """Decide by the platform's rules whether a run succeeded, and return its record.

    The outputs of a failed run are deleted. After a run that succeeded, an HPV probability in the
    log is written next to the decision, so that the evaluation can measure calibration.
    """
    paths = [each.path for each in algorithm.outputs]
    missing = [path for path in paths if not (output / path).is_file()]
    reason = None
    if run.exit_code != 0:
        code = f"exit code {run.exit_code}"
        reason = run.note or last_line(run.stderr) or f"{code}, and nothing on stderr"
    elif missing:
        reason = f"expected {missing[0]}, found no such file although the exit code is 0"
    if reason is not None:
        shutil.rmtree(output)
        output.mkdir()
    elif "hpv" in algorithm.tasks and (probability := hpv_probability(run.stdout)) is not None:
        (output / HPV_PROBABILITY).write_text(f"{probability}\n", encoding="utf-8")
    return record_of(run, case=case, reason=reason)


def record_of(run: Run, *, case: str, reason: str | None) -> JobRecord:
    """Return the record of a run, given the reason why it failed, if it did."""
    return JobRecord(
        case=case,
        status="Succeeded" if reason is None else "Failed",
        reason=reason,
        seconds=round(run.seconds, 3),
        peak_memory_gb=peak_memory_gb(run.stdout),
        cpu_seconds=cpu_seconds(run.stdout),
        peak_gpu_memory_gb=run.peak_gpu_memory_gb,
    )


def local_pool(parallel: int) -> Pool:
    """Return a pool of threads on this machine, each with an equal share of the CPUs.

    Parameters
    ----------
    parallel : number of cases that run at once.
    """

    def run(orders: Sequence[Order]) -> Iterator[Ending]:
        shares: queue.SimpleQueue[frozenset[int]] = queue.SimpleQueue()
        for share in cpu_shares(sorted(os.sched_getaffinity(0)), parallel):
            shares.put(share)
        cancelled = threading.Event()

        def run_with_share(order: Order) -> Ending:
            share = shares.get()
            try:
                return run_case(order, share if parallel > 1 else None, cancelled)
            finally:
                shares.put(share)

        with ThreadPoolExecutor(parallel, thread_name_prefix="case") as pool:
            futures = [pool.submit(run_with_share, order) for order in orders]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                cancelled.set()
                pool.shutdown(cancel_futures=True)

    return run


def cpu_shares(cpus: Sequence[int], parallel: int) -> list[frozenset[int]]:
    """Return the CPUs of each parallel case.

    The shares are disjoint and about equal. If there are fewer CPUs than cases, each case has one
    CPU, and some cases share theirs.
    """
    if parallel >= len(cpus):
        return [frozenset([cpus[index % len(cpus)]]) for index in range(parallel)]
    return [frozenset(cpus[index::parallel]) for index in range(parallel)]
