"""Turns the scores of a task into tiles, tables and a forest plot.

Each number keeps the place in `metrics.json` that it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from evaluation.report import charts
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.numbers import (
    KeyPath,
    Measure,
    Number,
    ScoreText,
    format_number,
    format_score,
    natural_list,
    range_name,
)
from evaluation.report.task_section import AnySection
from evaluation.schema import Group, TaskMetrics

GROUP_NAMES: Final = {
    "centre": "Centre",
    "field_of_view": "Field of view",
}
FIELDS_OF_VIEW: Final = {"head_neck": "head and neck", "whole_body": "whole body"}


@dataclass(frozen=True)
class Tile:
    """A ranked score."""

    measure: Measure
    score: ScoreText


@dataclass(frozen=True)
class ScoreRow:
    """A row of the table of scores; a cell may be empty."""

    measure: Measure
    cells: Sequence[ScoreText | None]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of all patients."""

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


def ranked_tiles(metrics: TaskMetrics, section: AnySection, keys: KeyPath) -> list[Tile]:
    """Return the ranked scores; `keys` lead to the metrics."""
    return [
        Tile(section.measure(score), _overall_score(metrics, section, keys, score))
        for score in metrics.ranked
    ]


def _overall_score(
    metrics: TaskMetrics, section: AnySection, keys: KeyPath, score: str
) -> ScoreText:
    path = (*keys, "aggregates", score)
    return format_score(metrics.aggregates[score], path, section.measure(score).digits)


def score_table(metrics: TaskMetrics, section: AnySection, keys: KeyPath) -> ScoreTable:
    """Return the scores of all patients in the layout of the section."""

    def cell(score: str | None) -> ScoreText | None:
        return None if score is None else _overall_score(metrics, section, keys, score)

    layout = section.layout(list(metrics.aggregates))
    rows = [ScoreRow(measure, [cell(score) for score in scores]) for measure, scores in layout.rows]
    return ScoreTable(layout.columns, rows)


def forest(metrics: TaskMetrics, section: AnySection) -> FigureFiles | None:
    """Return the ranked scores of each group as a figure; None if no case is in a group."""
    groups: list[tuple[str, list[tuple[str, Group]]]] = [
        (_kind_name(kind, section), [(_group_name(name), group) for name, group in members.items()])
        for kind, members in metrics.groups.items()
        if members
    ]
    if not groups:
        return None
    measures = {score: section.measure(score) for score in metrics.ranked}
    return render(
        f"{metrics.task}_groups",
        f"{section.title}: "
        + natural_list([each.name for each in measures.values()])
        + " with 95 % intervals, by "
        + natural_list([kind.lower() for kind, _ in groups])
        + "; the numbers are in the table below.",
        partial(charts.draw_forest, metrics.aggregates, groups, measures),
    )


def group_tables(metrics: TaskMetrics, section: AnySection, keys: KeyPath) -> list[GroupTable]:
    """Return a table of the ranked scores for each kind of group."""
    tables = []
    for kind, groups in metrics.groups.items():
        rows = []
        for name, group in groups.items():
            path = (*keys, "groups", kind, name)
            cells = [
                format_score(
                    group.aggregates[score],
                    (*path, "aggregates", score),
                    section.measure(score).digits,
                )
                for score in metrics.ranked
            ]
            patients = Number((*path, "patients"), group.patients, str(group.patients))
            rows.append(GroupRow(_group_name(name), patients, cells))
        if rows:
            columns = [section.measure(score).name for score in metrics.ranked]
            tables.append(GroupTable(_kind_name(kind, section), columns, rows))
    return tables


def _kind_name(kind: str, section: AnySection) -> str:
    names = {**GROUP_NAMES, **section.group_titles}
    return names.get(kind, kind.replace("_", " "))


def _group_name(name: str) -> str:
    return "absent" if name == "0" else FIELDS_OF_VIEW.get(name, range_name(name))


def alternatives(metrics: TaskMetrics, section: AnySection, keys: KeyPath) -> list[Alternative]:
    """Return the scores under other rules."""
    return [
        Alternative(
            section.measure(score).name,
            rule,
            Number(
                (*keys, "alternatives", score, rule),
                value,
                format_number(value, section.measure(score).digits),
            ),
        )
        for score, rules in metrics.alternatives.items()
        for rule, value in rules.items()
    ]
