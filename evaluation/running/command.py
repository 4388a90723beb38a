"""The command `python -m evaluation run`."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal, NoReturn

import typer
from tqdm import tqdm

from evaluation.running.cases import Case, cases_in
from evaluation.running.engines import Engine, EngineError, choose, locked_python
from evaluation.running.runner import NotStarted, Outcome, Pool, Summary, here, run_cohort
from evaluation.running.score import RULES_HELP, WORKERS, score
from evaluation.running.store import RunCard, RunStore
from evaluation.running.tasks import TASKS, Task
from evaluation.running.truth import GROUND_TRUTH, write_ground_truth
from evaluation.schema import read_rules

ROOT: Final = Path(__file__).resolve().parents[2]

EngineName = Literal["auto", "docker", "podman", "native"]


def run(
    cases: Annotated[Path, typer.Argument(help="Folder of case folders, each with input/.")],
    out: Annotated[Path, typer.Argument(help="The run's folder: new, or one to go on with.")],
    task: Annotated[list[str] | None, typer.Option(help="Repeatable; all by default.")] = None,
    engine: Annotated[EngineName, typer.Option(help="auto: Docker, Podman, native.")] = "auto",
    variant: Annotated[Literal["cpu", "gpu"], typer.Option(help="Which images.")] = "cpu",
    build: Annotated[bool, typer.Option(help="Build the images, or take those there.")] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Cases at once; each may take 15 GB.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, whose workers run the cases.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed cases again.")] = False,
    then_score: Annotated[bool, typer.Option("--score", help="Score the run afterwards.")] = False,
    rules: Annotated[Path | None, typer.Option(help=f"For --score: {RULES_HELP}")] = None,
) -> None:
    """Run the algorithms on a folder of cases under the platform's limits.

    Safe to stop at any time and to start again: what has ended is kept, the rest is run. A case
    that fails is recorded with its reason and does not stop the others. Exit code 1 if a case could
    not be started; the last line is JSON.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if rules is not None:
        read_rules(rules)  # what is wrong with them is said now, not after hours
    found = cases_in(cases)
    names = [known.name for known in TASKS]
    if unknown := set(task or ()) - set(names):
        raise typer.BadParameter(f"expected {', '.join(names)}, found {', '.join(unknown)}")
    chosen = [known for known in TASKS if not task or known.name in task]
    pool = here(jobs) if scheduler is None else _cluster(scheduler)
    reports: dict[str, Any] = {}
    for one in chosen:
        store = RunStore(out / one.name)
        runner = choose(ROOT, engine, variant, build, store.application, native_python)
        summary = run_task(one, found, cases, runner, store, pool, retry_failed)
        reports[one.name] = {
            "succeeded": len(summary.records) - len(summary.failed),
            "failed": len(summary.failed),
            "not_started": len(summary.not_started),
        }
    write_ground_truth(found, out / GROUND_TRUTH)
    if then_score:
        score(out, workers=WORKERS, rules=rules)
    print(json.dumps({"folder": str(out), "tasks": reports}))
    if any(counts["not_started"] for counts in reports.values()):
        raise typer.Exit(1)


def run_task(
    task: Task,
    cases: Sequence[Case],
    cases_folder: Path,
    engine: Engine,
    store: RunStore,
    pool: Pool,
    retry_failed: bool = False,
) -> Summary:
    """Prepare a task, run it on the cases with a progress bar, and say how it went."""
    print(f"{task.name}: {engine.description}", flush=True)
    started = time.perf_counter()
    with store.opened(), contextlib.closing(engine):
        engine.prepare(task, store.folder / "build.txt")
        store.claim(
            RunCard(
                task=task.name,
                made_by=engine.identify(task),
                engine=engine.description,
                cases=str(cases_folder.resolve()),
            )
        )
        if retry_failed:
            store.forget_failures()
        with tqdm(total=len(cases), unit="case", disable=None) as bar:
            bar.update(sum(store.record(case.name) is not None for case in cases))

            def show(outcome: Outcome) -> None:
                bar.update()
                if isinstance(outcome, NotStarted):
                    bar.write(f"  {outcome.case}: not started: {outcome.reason}")
                elif not outcome.succeeded:
                    bar.write(f"  {outcome.case}: failed: {outcome.reason}")

            summary = run_cohort(task, cases, engine, store, pool, show)
    seconds = time.perf_counter() - started
    print(
        f"  {len(summary.records)} of {len(cases)} cases have ended, {len(summary.failed)} failed, "
        f"{summary.resumed} in earlier runs; {seconds:.0f} s"
    )
    if summary.not_started:
        print(f"  {len(summary.not_started)} were not started: mend the cause and run it again")
    return summary


def native_python() -> Path:
    """Return the Python of the images' lock file, whose environment is made where it is missing."""
    # The tasks' locks are equal.
    return locked_python(ROOT, ".venv-containers", "task1_segmentation/requirements-cpu.lock")


def _cluster(address: str) -> Pool:
    try:
        from evaluation.running.cluster import on_cluster
    except ImportError:
        raise EngineError(
            "expected the package distributed for --scheduler, found none; install the extra "
            "`evaluation` of pyproject.toml"
        ) from None
    return on_cluster(address)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
