"""The base class of a task's section; the page has one section for each scored task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from evaluation.report.figure_style import FigureFiles
from evaluation.report.numbers import KeyPath, Measure, Number, format_number
from evaluation.report.viewer.pages import CasePage, Viewers
from evaluation.running.job_store import JobStore
from evaluation.schema import TaskMetrics
from shared.editions import Edition

Metrics = TypeVar("Metrics", bound=TaskMetrics)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a report reads from.

    Attributes
    ----------
    results : folder with the jobs of each algorithm and their `metrics.json`.
    cases : folder of the case folders, for the pictures; None for the folder that `run` used.
    truth : folder of the ground truth, for the pictures.
    """

    results: Path
    cases: Path | None
    truth: Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a section needs in addition to the metrics.

    Attributes
    ----------
    keys : the keys that lead to the metrics of the task.
    store : the jobs of the algorithm.
    count : number of worst cases, and of best cases, with pictures.
    viewers : writes the interactive pages of the cases; None for no pages.
    """

    keys: KeyPath
    store: JobStore
    sources: Sources
    count: int
    viewers: Viewers | None
    edition: Edition


class Details:
    """The content that only one task's section has."""

    @property
    def figures(self) -> Sequence[FigureFiles]:
        """The figures to write as files."""
        return ()

    def case_pages(self) -> Mapping[str, CasePage]:
        """Return the viewer pages of the cases, by name."""
        return {}


@dataclass(frozen=True, kw_only=True)
class CaseColumn:
    """A column of the table of all cases: its heading, and the number of each case by name."""

    name: str
    numbers: Mapping[str, Number]


@dataclass(frozen=True)
class ScoreLayout:
    """The layout of the table with the scores of all patients.

    Attributes
    ----------
    columns : headings of the columns.
    rows : for each row its name, and the score in each column; None leaves the cell empty.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Measure, Sequence[str | None]]]


class TaskSection(ABC, Generic[Metrics]):
    """Defines the section of one task; an instance has no state.

    Attributes
    ----------
    title : title of the section.
    template : file of this folder with two macros that take a section: `details` writes the
        content that only this task has, and `terms` explains its scores.
    measures : names of the scores, and how they are shown.
    group_titles : titles of the groupings that the task adds to centre and field of view.
    grouped_by : all groupings in words.
    groups_note : a sentence below the figure of the groups, if needed.
    """

    title: ClassVar[str]
    template: ClassVar[str]
    measures: ClassVar[Mapping[str, Measure]] = {}
    group_titles: ClassVar[Mapping[str, str]] = {}
    grouped_by: ClassVar[str] = "centre and field of view"
    groups_note: ClassVar[str] = ""

    def case_columns(self, metrics: Metrics, keys: KeyPath) -> list[CaseColumn]:
        """Return the numbers of each case for the table of all cases; by default there are none.

        Parameters
        ----------
        keys : lead to `metrics`.
        """
        del metrics, keys
        return []

    @abstractmethod
    def details(self, metrics: Metrics, request: Request) -> Details:
        """Return what the template's `details` needs."""

    def measure(self, score: str) -> Measure:
        """Return the name of a score and the way to show it; by default the score's own name."""
        return self.measures.get(score, Measure(score.replace("_", " "), scale=None))

    def layout(self, scores: Sequence[str]) -> ScoreLayout:
        """Return the layout of the table of scores, with one row for each score."""
        return ScoreLayout(["All patients"], [(self.measure(score), [score]) for score in scores])


AnySection = TaskSection[Any]
"""The section of any task."""


def case_column(
    name: str,
    metrics: TaskMetrics,
    keys: KeyPath,
    *,
    path: KeyPath,
    digits: int,
) -> CaseColumn:
    """Return a column with one number of each result.

    Parameters
    ----------
    keys : lead to `metrics`.
    path : the keys from a result to the number, such as ("labels", "GTVp", "dice").
    """
    numbers = {}
    for index, result in enumerate(metrics.model_dump()["results"]):
        value = result
        for key in path:
            value = value[key]
        value = int(value) if isinstance(value, bool) else value
        numbers[result["case_id"]] = Number(
            (*keys, "results", index, *path), value, format_number(value, digits)
        )
    return CaseColumn(name=name, numbers=numbers)
