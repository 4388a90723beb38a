"""Makes a section for each scored task: the parts that all tasks have, and the task's details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from evaluation.metrics_io import METRICS, SubmissionMetrics, metrics_by_task, read_metrics
from evaluation.report.figure_style import FigureFiles
from evaluation.report.numbers import Number
from evaluation.report.tables import (
    Alternative,
    GroupTable,
    ScoreTable,
    Tile,
    alternatives,
    forest,
    group_tables,
    ranked_tiles,
    score_table,
)
from evaluation.report.task_section import (
    AnySection,
    CaseColumn,
    Details,
    Request,
    Sources,
)
from evaluation.report.viewer.pages import Viewers
from evaluation.running.job_store import JobStore
from evaluation.running.limit_use import LimitUse, limit_uses
from evaluation.running.logs import doubts
from evaluation.schema import TaskMetrics
from shared.editions import Edition
from shared.errors import InputError
from shared.grand_challenge.job import Mode
from shared.tasks import TaskName


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed case.

    Attributes
    ----------
    failure : why the evaluation counts the case as failed.
    reason : the reason in the job's record, such as the last line on stderr; empty if there is
        none.
    """

    task: str
    case: str
    failure: str
    reason: str


@dataclass(frozen=True)
class Fact:
    """A fact about the jobs: a term, such as "Engine", and its value."""

    term: str
    value: str


@dataclass(frozen=True, kw_only=True, order=True)
class CaseDoubt:
    """A reason to look at a case, as an algorithm's log states it."""

    case: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """The content of the page about one task.

    Attributes
    ----------
    kind : the definition of the section: its title, template and texts.
    cases, failed : number of scored cases, and number of failed cases among them.
    tiles : the ranked scores.
    forest : the ranked scores by group, as a figure; None if no case is in a group.
    groups : the ranked scores by group, as tables.
    doubts : reasons to look at a case, from the logs of the jobs.
    notices : lines of a log that begin with NOTICE, such as that a model was trained on phantoms.
    facts : how the jobs were made.
    mode : how the platform runs the image; None if the jobs come from elsewhere.
    case_columns : the numbers of each case, for the table of all cases.
    limit_uses : how much of each limit the cases used; empty if the jobs come from elsewhere.
    details : the content that only this task has.
    """

    task: TaskName
    kind: AnySection
    metrics: TaskMetrics
    cases: Number
    failed: Number
    tiles: Sequence[Tile]
    table: ScoreTable
    forest: FigureFiles | None
    groups: Sequence[GroupTable]
    alternatives: Sequence[Alternative]
    failures: Sequence[Failure]
    doubts: frozenset[CaseDoubt]
    notices: frozenset[str]
    facts: Sequence[Fact]
    mode: Mode | None
    limit_uses: Sequence[LimitUse]
    case_columns: Sequence[CaseColumn]
    details: Details

    @property
    def title(self) -> str:
        """Title of the section."""
        return self.kind.title

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures of the section."""
        return [*([self.forest] if self.forest else []), *self.details.figures]


def read_sections(
    sources: Sources, *, count: int, viewers: Viewers | None, edition: Edition
) -> list[Section]:
    """Return a section for each task of each algorithm that has been scored.

    Parameters
    ----------
    count : number of worst cases, and of best cases, with pictures.
    viewers : writes the interactive pages of the cases; None for no pages.
    """
    sections = []
    for algorithm in edition.algorithms:
        path = sources.results / algorithm.name / METRICS
        if not path.is_file():
            continue
        file = read_metrics(path)
        for task, metrics in metrics_by_task(file).items():
            several = isinstance(file, SubmissionMetrics)
            keys = (algorithm.name, "tasks", task) if several else (algorithm.name,)
            store = JobStore(sources.results / algorithm.name)
            request = Request(
                keys=keys,
                store=store,
                sources=sources,
                count=count,
                viewers=viewers,
                edition=edition,
            )
            sections.append(_section(metrics, request))
    return sections


def section_of(task: TaskName) -> AnySection:
    """Return the section of a task: `SECTION` in the file of this folder with the task's name.

    Raises
    ------
    InputError
        If there is no such file.
    """
    module = f"{__package__}.{task}_section"
    if find_spec(module) is None:
        raise InputError(
            f"expected a section for the task {task}, found none; add "
            f"evaluation/report/{task}_section.py"
        )
    section: AnySection = import_module(module).SECTION
    return section


def _section(metrics: TaskMetrics, request: Request) -> Section:
    section, keys, store = section_of(metrics.task), request.keys, request.store
    records = store.records()
    limits = store.origin().limits if records else None
    return Section(
        task=metrics.task,
        kind=section,
        metrics=metrics,
        cases=Number((*keys, "cases"), metrics.cases, str(metrics.cases)),
        failed=Number((*keys, "failed"), metrics.failed, str(metrics.failed)),
        tiles=ranked_tiles(metrics, section, keys),
        table=score_table(metrics, section, keys),
        forest=forest(metrics, section),
        groups=group_tables(metrics, section, keys),
        alternatives=alternatives(metrics, section, keys),
        failures=_failures(metrics, section.title, store),
        doubts=_doubts(metrics, store),
        notices=_notices(metrics, store),
        facts=_facts(store),
        mode=limits.mode if limits else None,
        limit_uses=limit_uses(records, limits) if limits else [],
        case_columns=section.case_columns(metrics, keys),
        details=section.details(metrics, request),
    )


def _failures(metrics: TaskMetrics, title: str, store: JobStore) -> list[Failure]:
    failures = []
    for result in metrics.results:
        if result.failure is not None:
            record = store.record(result.pk) if result.pk is not None else None
            reason = (record.reason if record else None) or ""
            failures.append(
                Failure(
                    task=title,
                    case=result.case_id,
                    failure=result.failure,
                    reason=reason,
                )
            )
    return failures


def _doubts(metrics: TaskMetrics, store: JobStore) -> frozenset[CaseDoubt]:
    return frozenset(
        CaseDoubt(case=result.case_id, reason=reason)
        for result in metrics.results
        for reason in doubts(_log(store, result.pk))
    )


def _log(store: JobStore, pk: str | None) -> str:
    """Return the log of a job; empty if there is none."""
    log = store.folder / (pk or "") / "stdout.txt"
    return log.read_text(encoding="utf-8", errors="replace") if pk and log.is_file() else ""


def _notices(metrics: TaskMetrics, store: JobStore) -> frozenset[str]:
    for result in metrics.results:
        if lines := _log(store, result.pk).splitlines():
            return frozenset(line for line in lines if line.startswith("NOTICE"))
    return frozenset()


def _facts(store: JobStore) -> list[Fact]:
    """Return how the jobs were made; empty if `python -m evaluation run` did not make them."""
    if not store.records():
        return []
    origin = store.origin()
    facts = [Fact("Engine", origin.engine), Fact("Image or code", origin.source)]
    return facts + ([Fact("Limits", str(origin.limits))] if origin.limits else [])
