"""Runs a task on a cohort of cases, several at a time, and goes on where it was stopped.

Where the cases run is a `Pool`'s business: `here` uses threads on this machine, `cluster` the
workers of a Dask scheduler. A case that fails is recorded; a case that could not be started, for
the engine's or the disk's fault, is not, and the next run starts it again.
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

from evaluation.outputs import HPV_PROBABILITY
from evaluation.running.cases import Case
from evaluation.running.engines import Engine, EngineError, Run
from evaluation.running.logs import hpv_probability, last_line, peak_memory_gb
from evaluation.running.store import OUTPUT, JobRecord, RunStore
from evaluation.running.tasks import Task


@dataclass(frozen=True)
class Order:
    """A case to be run, with all that a thread or another machine needs to know."""

    task: Task
    engine: Engine
    case: Case
    folder: Path


@dataclass(frozen=True)
class NotStarted:
    """A case that could not be started, and why; nothing is known of the algorithm."""

    case: str
    reason: str


Outcome: TypeAlias = JobRecord | NotStarted
Pool: TypeAlias = Callable[[Sequence[Order]], Iterator[Outcome]]
"""Runs orders, and yields how each ended as it ends. Closing the iterator stops what goes on."""


@dataclass
class Summary:
    """How a cohort has ended.

    Attributes
    ----------
    records : of all cases that have ended, by name, those of earlier runs included.
    not_started : the others.
    resumed : how many had ended before.
    """

    records: list[JobRecord] = field(default_factory=list)
    not_started: list[NotStarted] = field(default_factory=list)
    resumed: int = 0

    @property
    def failed(self) -> list[JobRecord]:
        """The cases that the algorithm failed on."""
        return [record for record in self.records if not record.succeeded]


def run_cohort(
    task: Task,
    cases: Sequence[Case],
    engine: Engine,
    store: RunStore,
    pool: Pool,
    on_end: Callable[[Outcome], object] = lambda outcome: None,
) -> Summary:
    """Run a prepared task on the cases that have not ended yet, and write `predictions.json`.

    Parameters
    ----------
    cases : with names that differ.
    store : claimed.
    on_end : is told of each case that ends.
    """
    known = {record.case for record in store.records()}
    orders = [Order(task, engine, case, store.folder) for case in cases if case.name not in known]
    summary = Summary(resumed=len(cases) - len(orders))
    for outcome in pool(orders):
        if isinstance(outcome, NotStarted):
            summary.not_started.append(outcome)
        on_end(outcome)
    names = {case.name for case in cases}
    summary.records = [record for record in store.records() if record.case in names]
    store.write_predictions(task, cases)
    return summary


def run_case(
    order: Order, cpus: frozenset[int] | None = None, cancelled: threading.Event | None = None
) -> Outcome:
    """Run one case and keep what it left, unless another run has done it meanwhile.

    Raises
    ------
    Cancelled
        If `cancelled` was set; the case is left for the next run.
    """
    store, name = RunStore(order.folder), order.case.name
    with store.locked(name):
        if (done := store.record(name)) is not None:
            return done
        try:
            draft = store.draft(name)
            staged = order.case.stage(draft / "input_copy")
            run = order.engine.run(
                order.task, staged, draft / OUTPUT, draft, cpus=cpus, cancelled=cancelled
            )
            shutil.rmtree(staged)
            record = judge(name, run, order.task, draft / OUTPUT)
            store.move_in(draft, record)
        except (EngineError, OSError) as error:
            return NotStarted(name, " ".join(str(error).split()))
    return record


def judge(name: str, run: Run, task: Task, output: Path) -> JobRecord:
    """Return how a run has ended by the platform's rules, and put its outputs in order.

    A run that does not end with exit code 0 loses all outputs. The probability that Task 3 logs is
    put beside its decision, for the evaluation to measure calibration.
    """
    reason = None
    if run.exit_code != 0:
        code = f"exit code {run.exit_code}"
        reason = run.note or last_line(run.stderr) or f"{code}, and nothing on stderr"
    elif not (output / task.output).is_file():
        reason = f"expected {task.output}, found no such file though the exit code is 0"
    if reason is not None:
        shutil.rmtree(output)
        output.mkdir()
    elif task.kind == "boolean" and (probability := hpv_probability(run.stdout)) is not None:
        (output / HPV_PROBABILITY).write_text(f"{probability}\n", encoding="utf-8")
    return JobRecord(
        case=name,
        status="Succeeded" if reason is None else "Failed",
        reason=reason,
        seconds=round(run.seconds, 3),
        peak_memory_gb=peak_memory_gb(run.stdout),
    )


def here(jobs: int) -> Pool:
    """Return a pool of threads on this machine, each with its equal share of the CPUs."""

    def run(orders: Sequence[Order]) -> Iterator[Outcome]:
        shares: queue.SimpleQueue[frozenset[int]] = queue.SimpleQueue()
        for share in cpu_shares(sorted(os.sched_getaffinity(0)), jobs):
            shares.put(share)
        cancelled = threading.Event()

        def run_with_share(order: Order) -> Outcome:
            share = shares.get()
            try:
                return run_case(order, share if jobs > 1 else None, cancelled)
            finally:
                shares.put(share)

        with ThreadPoolExecutor(jobs, thread_name_prefix="case") as pool:
            futures = [pool.submit(run_with_share, order) for order in orders]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                cancelled.set()
                pool.shutdown(cancel_futures=True)

    return run


def cpu_shares(cpus: Sequence[int], jobs: int) -> list[frozenset[int]]:
    """Return the CPUs of each of several jobs: disjoint and about equal, or one each, shared."""
    if jobs >= len(cpus):
        return [frozenset([cpus[job % len(cpus)]]) for job in range(jobs)]
    return [frozenset(cpus[job::jobs]) for job in range(jobs)]
