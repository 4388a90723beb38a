"""The base class of a task's scoring: what the truth is, and how answers are read and scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from evaluation.job_folder import output_folder
from evaluation.jobs import Job
from evaluation.schema import CaseResult, TaskMetrics
from evaluation.scoring import GroupOf, Scores, aggregate, group_aggregates
from evaluation.scoring_rules import ScoringRules
from evaluation.truth import CaseTruth
from shared.editions import Edition
from shared.errors import InputError, one_line
from shared.tasks import TaskName

Truth = TypeVar("Truth")
Result = TypeVar("Result", bound=CaseResult)
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Entry(Generic[Truth]):
    """A case to score.

    Attributes
    ----------
    case : the row and the mask of the case in the ground truth.
    truth : the truth of the task to score.
    job : the job of the case; None if there is none.
    input_dir : folder that holds the folders of the jobs.
    failure : if the case has already failed, the reason; its outputs are then not read.
    """

    case: CaseTruth
    truth: Truth
    job: Job | None
    input_dir: Path
    failure: str | None = None

    def read(self, read_output: Callable[[Path], Answer]) -> tuple[Answer | None, str | None]:
        """Return the job's answer and None, or None and the reason why the case counts as failed.

        Parameters
        ----------
        read_output : reads the answer from the folder of the job's outputs; an `InputError` fails
            the case.
        """
        if self.failure is not None:
            return None, self.failure
        if self.job is None:
            return None, "no job has this case"
        if not self.job.succeeded:
            return None, f"the job ended as '{self.job.status}'"
        try:
            return read_output(output_folder(self.input_dir, self.job.pk)), None
        except InputError as error:
            return None, str(error)
        except OSError as error:
            return None, f"expected outputs that can be read, found an error: {error.strerror}"

    def common_fields(self, failure: str | None) -> dict[str, Any]:
        """Return the fields of `CaseResult`."""
        return {
            "case_id": self.case.case_id,
            "pk": self.job.pk if self.job else None,
            "centre": self.case.centre,
            "field_of_view": self.case.field_of_view,
            "failure": None if failure is None else one_line(failure),
        }


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submission, and how to score it.

    Attributes
    ----------
    edition : defines the names of the outputs and the sign of the risk.
    jobs : the jobs by case.
    rules : the scoring rules.
    workers : number of processes that read and score masks.
    """

    edition: Edition
    jobs: Mapping[str, Job]
    rules: ScoringRules
    workers: int


class TaskScoring(ABC, Generic[Truth, Result]):
    """Defines the scoring of one task; an instance has no state.

    Attributes
    ----------
    task : name of the task, and of the file that defines this class.
    metrics : the record of the task in `metrics.json`.
    ranked : names of the scores that the challenge ranks by.
    failure_rule : how a failed or missing case is scored, in words.
    truth_columns : for each column that the task adds to the table of the ground truth, the key of
        `truth.json` that holds the same value.
    group_kinds : how cases are grouped, in addition to centre and field of view.
    """

    task: ClassVar[TaskName]
    metrics: ClassVar[type[TaskMetrics]]
    ranked: ClassVar[tuple[str, ...]]
    failure_rule: ClassVar[str]
    truth_columns: ClassVar[Mapping[str, str]] = {}
    group_kinds: ClassVar[Mapping[str, GroupOf[Any]]] = {}

    @abstractmethod
    def truth_of(self, case: CaseTruth) -> Truth | None:
        """Return the truth of a case, or None if it is unknown.

        Raises
        ------
        InputError
            If the table has an invalid value.
        """

    @abstractmethod
    def score(self, entries: Sequence[Entry[Truth]], submission: Submission) -> TaskMetrics:
        """Return the metrics; `common_parts` returns the parts that all tasks have.

        Parameters
        ----------
        entries : the cases with a truth, at least one, sorted by case.
        """

    @abstractmethod
    def scores_of(self, results: Sequence[Result]) -> Scores:
        """Return the scores of some cases by name; the names do not depend on the cases."""

    def rank(self, methods: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return the challenge's rank of each method, best first; equal methods share a rank.

        A task with several ranked scores must override this method.

        Parameters
        ----------
        methods : the ranked scores of each method; NaN stands for a missing score and ranks last.
        """
        # Imported here, because only `compare` needs scipy.stats.
        from shared.metrics.ranking import ranks

        (score,) = self.ranked
        values = ranks([scores[score] for scores in methods.values()]).tolist()
        return {name: rank for rank, name in sorted(zip(values, methods, strict=True))}

    def common_parts(self, results: Sequence[Result], submission: Submission) -> dict[str, Any]:
        """Return the parts of the metrics that all tasks have, by name."""
        case_ids = {result.case_id for result in results}
        samples = submission.rules.bootstrap_samples
        return {
            "edition": submission.edition.name,
            "rules": submission.rules,
            "failure_rule": self.failure_rule,
            "ranked": self.ranked,
            "cases": len(results),
            "failed": sum(result.failure is not None for result in results),
            "unscored": tuple(case_id for case_id in submission.jobs if case_id not in case_ids),
            "aggregates": aggregate(results, self.scores_of, samples),
            "groups": group_aggregates(results, self.scores_of, self.group_kinds, samples=samples),
        }
