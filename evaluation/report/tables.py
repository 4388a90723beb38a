"""The scores of a task as tiles, tables and a forest plot, with the places they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from evaluation.report import charts
from evaluation.report.figure_style import FigureFiles, render
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
from evaluation.schema import Group, TaskMetrics
from shared.tasks import TaskName

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


def ranked_tiles(metrics: TaskMetrics, keys: KeyPath) -> list[Tile]:
    """Return the ranked scores; `keys` lead to the metrics."""
    return [Tile(measure(score), _overall_score(metrics, keys, score)) for score in metrics.ranked]


def _overall_score(metrics: TaskMetrics, keys: KeyPath, score: str) -> ScoreText:
    path = (*keys, "aggregates", score)
    return format_score(metrics.aggregates[score], path, measure(score).digits)


def score_table(metrics: TaskMetrics, keys: KeyPath) -> ScoreTable:
    """Return the scores as rows; the scores of labels are in adjacent columns."""
    prefixes = {score.partition("_")[0] for score in metrics.aggregates}
    labels = [label for label in LABELS if label in prefixes]
    if not labels:
        rows = [
            ScoreRow(measure(score), [_overall_score(metrics, keys, score)])
            for score in metrics.aggregates
        ]
        return ScoreTable(["All patients"], rows)
    names = list(dict.fromkeys(score.partition("_")[2] for score in metrics.aggregates))
    rows = []
    for name in names:
        cells = [
            _overall_score(metrics, keys, f"{label}_{name}")
            if f"{label}_{name}" in metrics.aggregates
            else None
            for label in labels
        ]
        rows.append(ScoreRow(label_measure(name), cells))
    return ScoreTable([LABELS[label] for label in labels], rows)


def forest(metrics: TaskMetrics) -> FigureFiles | None:
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


def group_tables(metrics: TaskMetrics, keys: KeyPath) -> list[GroupTable]:
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


def alternatives(metrics: TaskMetrics, keys: KeyPath) -> list[Alternative]:
    """Return the scores under other rules."""
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
