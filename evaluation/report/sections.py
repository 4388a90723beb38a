"""One section for each task: the parts that all tasks have, and the details of the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from evaluation.metrics_file import METRICS, read_metrics
from evaluation.report import charts
from evaluation.report.drawing import FigureFiles, render
from evaluation.report.hpv_section import HpvDetails, hpv_details
from evaluation.report.numbers import (
    LABELS,
    KeyPath,
    Measure,
    Number,
    ScoreText,
    format_number,
    format_score,
    label_measure,
    measure,
    natural_list,
    range_name,
)
from evaluation.report.segmentation_section import SegmentationDetails, segmentation_details
from evaluation.report.survival_section import SurvivalDetails, survival_details
from evaluation.running.job_store import JobStore
from evaluation.schema import (
    Group,
    Metrics,
    SegmentationMetrics,
    SubmissionMetrics,
    SurvivalMetrics,
    metrics_by_task,
)
from shared.tasks import Edition, TaskName

GROUP_NAMES: Final = {
    "centre": "Centre",
    "field_of_view": "Field of view",
    "gtvp_volume_ml": "True GTVp of a patient, ml",
    "gtvn_volume_ml": "True GTVn of a patient, ml",
}
FIELDS_OF_VIEW: Final = {"head_neck": "head and neck", "whole_body": "whole body"}
TITLES: Final[dict[TaskName, str]] = {
    "segmentation": "Segmentation",
    "survival": "Recurrence-free survival",
    "hpv": "HPV status",
}
Details: TypeAlias = SegmentationDetails | SurvivalDetails | HpvDetails


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a report reads from.

    Attributes
    ----------
    results : folder with the jobs of each algorithm and their `metrics.json`.
    cases : folder of the case folders, for the pictures; by default the one that `run` used.
    truth : the ground truth, for the pictures.
    """

    results: Path
    cases: Path | None
    truth: Path


@dataclass(frozen=True)
class Tile:
    """A ranked score."""

    measure: Measure
    score: ScoreText


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores; a cell is None if the label does not have the score."""

    measure: Measure
    cells: Sequence[ScoreText | None]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all patients; the scores of labels are in adjacent columns."""

    columns: Sequence[str]
    rows: Sequence[ScoreRow]


@dataclass(frozen=True)
class GroupRow:
    """The ranked scores of a group of patients."""

    name: str
    patients: Number
    cells: Sequence[ScoreText]


@dataclass(frozen=True)
class GroupTable:
    """The groups of one kind, such as centres."""

    title: str
    columns: Sequence[str]
    rows: Sequence[GroupRow]


@dataclass(frozen=True)
class Alternative:
    """A ranked score under another rule."""

    score: str
    rule: str
    number: Number


@dataclass(frozen=True)
class Failure:
    """A failed case: the reason of the evaluation, and the last words of the algorithm."""

    task: str
    case: str
    failure: str
    reason: str


@dataclass(frozen=True)
class Fact:
    """A term and what it is."""

    term: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page says about one task.

    Attributes
    ----------
    cases, failed : number of scored cases, and of failed ones.
    tiles : the ranked scores.
    forest : the ranked scores by group, as a figure; None if no case is in a group.
    groups : the same as tables.
    notices : what the models say about themselves in a log, such as "trained on phantoms".
    facts : how the jobs were made.
    details : what is special to the task.
    """

    task: TaskName
    title: str
    metrics: Metrics
    cases: Number
    failed: Number
    tiles: Sequence[Tile]
    table: ScoreTable
    forest: FigureFiles | None
    groups: Sequence[GroupTable]
    alternatives: Sequence[Alternative]
    failures: Sequence[Failure]
    notices: frozenset[str]
    facts: Sequence[Fact]
    details: Details

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures of the section."""
        return [*([self.forest] if self.forest else []), *self.details.figures]


def read_sections(sources: Sources, *, count: int, edition: Edition) -> list[Section]:
    """Return a section for each task of each algorithm that has been scored.

    Parameters
    ----------
    count : number of worst cases, and of best cases, with pictures.
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
            sections.append(
                _section(metrics, keys, store=store, sources=sources, count=count, edition=edition)
            )
    return sections


def _section(
    metrics: Metrics,
    keys: KeyPath,
    *,
    store: JobStore,
    sources: Sources,
    count: int,
    edition: Edition,
) -> Section:
    """Return the section of a task; `keys` lead to its metrics."""
    details: Details
    if isinstance(metrics, SegmentationMetrics):
        details = segmentation_details(
            metrics,
            keys,
            store=store,
            cases=sources.cases,
            truth=sources.truth,
            count=count,
            edition=edition,
        )
    elif isinstance(metrics, SurvivalMetrics):
        details = survival_details(metrics)
    else:
        details = hpv_details(metrics, keys)
    return Section(
        task=metrics.task,
        title=TITLES[metrics.task],
        metrics=metrics,
        cases=Number((*keys, "cases"), metrics.cases, str(metrics.cases)),
        failed=Number((*keys, "failed"), metrics.failed, str(metrics.failed)),
        tiles=[
            Tile(measure(score), _overall_score(metrics, keys, score, measure(score)))
            for score in metrics.ranked
        ],
        table=_score_table(metrics, keys),
        forest=_forest(metrics),
        groups=_group_tables(metrics, keys),
        alternatives=_alternatives(metrics, keys),
        failures=_failures(metrics, store),
        notices=_notices(metrics, store),
        facts=_facts(store),
        details=details,
    )


def _overall_score(metrics: Metrics, keys: KeyPath, score: str, measure: Measure) -> ScoreText:
    return format_score(metrics.aggregates[score], (*keys, "aggregates", score), measure.digits)


def _score_table(metrics: Metrics, keys: KeyPath) -> ScoreTable:
    """Return the scores as rows; the scores of labels are in adjacent columns."""
    prefixes = {score.partition("_")[0] for score in metrics.aggregates}
    labels = [label for label in LABELS if label in prefixes]
    if not labels:
        rows = [
            ScoreRow(measure(score), [_overall_score(metrics, keys, score, measure(score))])
            for score in metrics.aggregates
        ]
        return ScoreTable(["All patients"], rows)
    names = list(dict.fromkeys(score.partition("_")[2] for score in metrics.aggregates))
    rows = []
    for name in names:
        cells = [
            _overall_score(metrics, keys, f"{label}_{name}", label_measure(name))
            if f"{label}_{name}" in metrics.aggregates
            else None
            for label in labels
        ]
        rows.append(ScoreRow(label_measure(name), cells))
    return ScoreTable([LABELS[label] for label in labels], rows)


def _forest(metrics: Metrics) -> FigureFiles | None:
    """Return the ranked scores of each group as a figure; None if no case is in a group."""
    groups: list[tuple[str, list[tuple[str, Group]]]] = [
        (_kind_name(kind), [(_group_name(name), group) for name, group in members.items()])
        for kind, members in metrics.groups.items()
        if members
    ]
    if not groups:
        return None
    measures = {score: measure(score) for score in metrics.ranked}
    return render(
        f"{metrics.task}_groups",
        f"{TITLES[metrics.task]}: "
        + natural_list([each.name for each in measures.values()])
        + " with 95 % intervals, by "
        + natural_list([kind.lower() for kind, _ in groups])
        + "; the numbers are in the table below.",
        partial(charts.draw_forest, metrics.aggregates, groups, measures),
    )


def _group_tables(metrics: Metrics, keys: KeyPath) -> list[GroupTable]:
    """Return a table of the ranked scores for each kind of group."""
    tables = []
    for kind, groups in metrics.groups.items():
        rows = []
        for name, group in groups.items():
            path = (*keys, "groups", kind, name)
            cells = [
                format_score(
                    group.aggregates[score], (*path, "aggregates", score), measure(score).digits
                )
                for score in metrics.ranked
            ]
            patients = Number((*path, "patients"), group.patients, str(group.patients))
            rows.append(GroupRow(_group_name(name), patients, cells))
        if rows:
            columns = [measure(score).name for score in metrics.ranked]
            tables.append(GroupTable(_kind_name(kind), columns, rows))
    return tables


def _kind_name(kind: str) -> str:
    return GROUP_NAMES.get(kind, kind.replace("_", " "))


def _group_name(name: str) -> str:
    return "absent" if name == "0" else FIELDS_OF_VIEW.get(name, range_name(name))


def _alternatives(metrics: Metrics, keys: KeyPath) -> list[Alternative]:
    return [
        Alternative(
            measure(score).name,
            rule,
            Number(
                (*keys, "alternatives", score, rule),
                value,
                format_number(value, measure(score).digits),
            ),
        )
        for score, rules in metrics.alternatives.items()
        for rule, value in rules.items()
    ]


def _failures(metrics: Metrics, store: JobStore) -> list[Failure]:
    failures = []
    for result in metrics.results:
        if result.failure is not None:
            record = store.record(result.pk) if result.pk is not None else None
            reason = (record.reason if record else None) or ""
            failures.append(Failure(TITLES[metrics.task], result.case_id, result.failure, reason))
    return failures


def _notices(metrics: Metrics, store: JobStore) -> frozenset[str]:
    for result in metrics.results:
        log = store.folder / (result.pk or "") / "stdout.txt"
        if result.pk and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            return frozenset(line for line in lines if line.startswith("NOTICE"))
    return frozenset()


def _facts(store: JobStore) -> list[Fact]:
    """Return how the jobs were made; nothing if they come from elsewhere."""
    records = store.records()
    if not records:
        return []
    origin = store.origin()
    seconds = sorted(record.seconds for record in records)
    peaks = [record.peak_memory_gb for record in records if record.peak_memory_gb is not None]
    times = f"median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}"
    facts = [
        Fact("Engine", origin.engine),
        Fact("Image or code", origin.source),
        Fact("Seconds per case", times),
    ]
    return facts + ([Fact("Peak memory", f"{max(peaks):.2f} GB")] if peaks else [])
