"""The command `python -m evaluation run`."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, Literal, NoReturn

import typer
from tqdm import tqdm

from evaluation.running.case_folders import CaseFolder, find_cases
from evaluation.running.engines.choice import choose
from evaluation.running.engines.native import PythonOf
from evaluation.running.engines.protocol import Engine, EngineError
from evaluation.running.ground_truth import GROUND_TRUTH, write_ground_truth
from evaluation.running.job_store import JobsOrigin, JobStore
from evaluation.running.limit_use import describe_use
from evaluation.running.limits import Limits, Profile, current_profile, read_profile
from evaluation.running.programs import program_of
from evaluation.running.runner import Ending, NotStarted, Pool, Summary, local_pool, run_cohort
from evaluation.running.score_command import RULES_HELP, WORKERS, score
from evaluation.scoring_rules import read_rules
from shared.editions import CURRENT, Edition
from shared.tasks import Algorithm

ROOT: Final = Path(__file__).resolve().parents[2]

EngineName = Literal["auto", "docker", "podman", "native"]
Variant = Literal["cpu", "gpu"]


def run(
    cases: Annotated[Path, typer.Argument(help="Folder of case folders, each with input/.")],
    results: Annotated[Path, typer.Argument(help="Folder for the results, new or to resume.")],
    algorithm: Annotated[
        list[str] | None,
        typer.Option(help="Name of an algorithm's folder; repeatable (default: all)."),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="auto: Docker, else Podman, else native.")
    ] = "auto",
    variant: Annotated[Variant, typer.Option(help="Images for CPU or for GPU.")] = "cpu",
    build: Annotated[bool, typer.Option(help="Build the images, or use existing ones.")] = True,
    limits: Annotated[
        Path | None,
        typer.Option(help="TOML file with other limits than those of the current challenge."),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, help="Cases at once; each may use all the memory of the limits.")
    ] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers run the cases.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Run failed cases again.")] = False,
    then_score: Annotated[bool, typer.Option("--score", help="Score the results.")] = False,
    rules: Annotated[Path | None, typer.Option(help=f"For --score: {RULES_HELP}")] = None,
) -> None:
    """Run the algorithms on a folder of cases under the platform's limits.

    You can stop this command at any time; start it again to run the remaining cases. A case that
    fails is recorded with the reason and does not stop the others. The exit code is 1 if a case
    could not be started. The last line of the output is JSON.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if rules is not None:
        read_rules(rules)  # so that an invalid file is reported now, not after hours
    profile = current_profile() if limits is None else read_profile(limits)
    names = [each.name for each in CURRENT.algorithms]
    if unknown := set(algorithm or ()) - set(names):
        raise typer.BadParameter(f"expected {', '.join(names)}, found {', '.join(unknown)}")
    summaries = run_algorithms(
        [each for each in CURRENT.algorithms if not algorithm or each.name in algorithm],
        cases=cases,
        results=results,
        engine=engine,
        variant=variant,
        build=build,
        pool=local_pool(parallel) if scheduler is None else _cluster_pool(scheduler),
        profile=profile,
        retry_failed=retry_failed,
    )
    if then_score:
        score(results, workers=WORKERS, rules=rules)
    for name, summary in summaries.items():
        for line in describe_use(name, summary.records, profile.of(name)):
            print(line)
    counts = {
        name: {
            "succeeded": len(summary.records) - len(summary.failed),
            "failed": len(summary.failed),
            "not_started": len(summary.not_started),
        }
        for name, summary in summaries.items()
    }
    print(json.dumps({"folder": str(results), "algorithms": counts}))
    if any(summary.not_started for summary in summaries.values()):
        raise typer.Exit(1)


def run_algorithms(
    algorithms: Sequence[Algorithm],
    *,
    cases: Path,
    results: Path,
    engine: EngineName,
    pool: Pool,
    variant: Variant = "cpu",
    build: bool = True,
    profile: Profile | None = None,
    retry_failed: bool = False,
    root: Path = ROOT,
    python_of: PythonOf | None = None,
) -> dict[str, Summary]:
    """Run algorithms on the cases of a folder, and write the ground truth of the cases.

    Parameters
    ----------
    results : folder for the jobs of each algorithm and for the ground truth.
    profile : the limits; by default those of the current edition.
    root : the checkout.
    python_of : for the native engine, returns a program's interpreter.

    Returns
    -------
    How the cases ended, by the name of the algorithm.
    """
    folders = find_cases(cases)
    summaries = {}
    for algorithm in algorithms:
        store = JobStore(results / algorithm.name)
        summaries[algorithm.name] = run_algorithm(
            algorithm,
            folders,
            cases_folder=cases,
            engine=choose(
                root=root,
                name=engine,
                variant=variant,
                build=build,
                work=store.application,
                python_of=python_of,
            ),
            store=store,
            pool=pool,
            limits=(profile or current_profile()).of(algorithm.name),
            retry_failed=retry_failed,
        )
    write_ground_truth(folders, results / GROUND_TRUTH)
    return summaries


def run_algorithm(
    algorithm: Algorithm,
    cases: Sequence[CaseFolder],
    *,
    cases_folder: Path,
    engine: Engine,
    store: JobStore,
    pool: Pool,
    limits: Limits | None = None,
    edition: Edition = CURRENT,
    retry_failed: bool = False,
) -> Summary:
    """Prepare an algorithm, run it on the cases with a progress bar, and print how it went.

    Parameters
    ----------
    limits : the limits for a case; by default those of the current edition.
    """
    program = program_of(algorithm, limits)
    print(f"{algorithm.name}: {engine.description}", flush=True)
    print(f"  limits: {program.limits}", flush=True)
    start = time.perf_counter()
    with store.opened(), contextlib.closing(engine):
        engine.prepare(program, store.folder / "build.txt")
        store.claim(
            JobsOrigin(
                algorithm=algorithm.name,
                source=engine.identify(program),
                engine=engine.description,
                cases=str(cases_folder.resolve()),
                limits=program.limits,
            )
        )
        if retry_failed:
            store.forget_failures()
        with tqdm(total=len(cases), unit="case", disable=None) as bar:
            bar.update(sum(store.record(case.name) is not None for case in cases))

            def show(ending: Ending) -> None:
                bar.update()
                if isinstance(ending, NotStarted):
                    bar.write(f"  {ending.case}: not started: {ending.reason}")
                elif not ending.succeeded:
                    bar.write(f"  {ending.case}: failed: {ending.reason}")

            summary = run_cohort(
                algorithm,
                cases,
                edition=edition,
                engine=engine,
                store=store,
                pool=pool,
                limits=program.limits,
                on_end=show,
            )
    seconds = time.perf_counter() - start
    print(
        f"  {len(summary.records)} of {len(cases)} cases have ended ({summary.resumed} in earlier "
        f"runs), {len(summary.failed)} failed; {seconds:.0f} s"
    )
    if summary.not_started:
        print(
            f"  cases that could not be started: {len(summary.not_started)}; fix the cause and run "
            "the command again"
        )
    return summary


def _cluster_pool(address: str) -> Pool:
    try:
        from evaluation.running.cluster import cluster_pool
    except ImportError:
        raise EngineError(
            "expected the package `distributed` for --scheduler, but it is not installed; install "
            "the extra `evaluation` of pyproject.toml"
        ) from None
    return cluster_pool(address)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
