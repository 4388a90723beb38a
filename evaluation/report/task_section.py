"""What the file of a task's section defines; the page has one section for each scored task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from evaluation.report.figure_style import FigureFiles
from evaluation.report.numbers import KeyPath, Measure
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
    cases : folder of the case folders, for the pictures; by default the one that `run` used.
    truth : the ground truth, for the pictures.
    """

    results: Path
    cases: Path | None
    truth: Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a section is made from, in addition to the metrics.

    Attributes
    ----------
    keys : lead to the metrics of the task.
    store : the jobs of the algorithm.
    count : number of worst cases, and of best cases, with pictures.
    """

    keys: KeyPath
    store: JobStore
    sources: Sources
    count: int
    edition: Edition


class Details(Protocol):
    """What only the section of one task has."""

    @property
    def figures(self) -> Sequence[FigureFiles]:
        """The figures to write as files."""
        ...


@dataclass(frozen=True)
class ScoreLayout:
    """How the scores of all patients are laid out as a table.

    Attributes
    ----------
    columns : headings.
    rows : name of the row, and the score in each column; None leaves the cell empty.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Measure, Sequence[str | None]]]


class TaskSection(ABC, Generic[Metrics]):
    """The section of one task; it has no state.

    Attributes
    ----------
    title : of the section.
    template : file of this folder with two macros that take a section: `details` writes what is
        special to the task, and `terms` explains its scores.
    measures : how the scores of the task are named and shown.
    group_titles : of the kinds of groups that the task adds to centre and field of view.
    grouped_by : the kinds of groups in words.
    groups_note : a sentence below the figure of the groups, if needed.
    """

    title: ClassVar[str]
    template: ClassVar[str]
    measures: ClassVar[Mapping[str, Measure]] = {}
    group_titles: ClassVar[Mapping[str, str]] = {}
    grouped_by: ClassVar[str] = "centre and field of view"
    groups_note: ClassVar[str] = ""

    @abstractmethod
    def details(self, metrics: Metrics, request: Request) -> Details:
        """Return what the template's `details` needs."""

    def measure(self, score: str) -> Measure:
        """Return how a score is named and shown; a score without an entry keeps its own name."""
        return self.measures.get(score, Measure(score.replace("_", " "), scale=None))

    def layout(self, scores: Sequence[str]) -> ScoreLayout:
        """Return the layout of the table of scores: one row for each."""
        return ScoreLayout(["All patients"], [(self.measure(score), [score]) for score in scores])


AnySection = TaskSection[Any]
"""The section of any task."""
