"""The jobs of a submission, and the case of each job.

A case has the name of its CT on the platform, `inputs[ct-image].image.name`. Jobs come in any
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from evaluation.case_name import case_name
from evaluation.predictions import Prediction
from shared.editions import Edition
from shared.errors import InputError, one_line
from shared.tasks import TaskName

SUCCEEDED: Final = "succeeded"
"""Status of a job that succeeded, in lower case. A job with any other status counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job: one case through one algorithm.

    Attributes
    ----------
    pk : the platform's identifier, and the name of the job's folder below the input folder.
    case_id : the job's case.
    status : the status that the platform states.
    outputs : relative paths of the job's output sockets.
    """

    pk: str
    case_id: str
    status: str
    outputs: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether the job succeeded."""
        return self.status.lower() == SUCCEEDED


def jobs_by_case(predictions: Sequence[Prediction], edition: Edition) -> dict[str, Job]:
    """Return the jobs by case, sorted.

    Raises
    ------
    InputError
        If a job does not name exactly one CT, or two jobs have the same case or the same `pk`.
    """
    jobs: dict[str, Job] = {}
    pks: set[str] = set()
    for prediction in predictions:
        job = _job(prediction, edition)
        if job.pk in pks:
            raise InputError(
                f"expected a different pk for each job in predictions.json, found "
                f"{one_line(job.pk)} twice; use the platform's own predictions.json"
            )
        pks.add(job.pk)
        if job.case_id in jobs:
            raise InputError(
                f"expected one job for each case in predictions.json, found "
                f"{one_line(jobs[job.case_id].pk)} and {one_line(job.pk)} for the case "
                f"{one_line(job.case_id)}; remove one of them"
            )
        jobs[job.case_id] = job
    return dict(sorted(jobs.items()))


def answered_tasks(jobs: Mapping[str, Job], edition: Edition) -> tuple[TaskName, ...]:
    """Return the tasks that the jobs' output sockets answer, in the order of the edition.

    Raises
    ------
    InputError
        If the output sockets answer no task.
    """
    paths = {path for job in jobs.values() for path in job.outputs}
    tasks = tuple(
        task
        for task, output in edition.outputs.items()
        if output.path in paths or output.socket_path in paths
    )
    if not tasks:
        raise InputError(
            f"expected an output socket of {edition.name} in predictions.json, found "
            f"{one_line(', '.join(sorted(paths))) or 'no outputs'}; choose the task to score"
        )
    return tasks


def _job(prediction: Prediction, edition: Edition) -> Job:
    names = [
        value.image.name
        for value in prediction.inputs
        if value.socket.slug == edition.ct.slug and value.image is not None
    ]
    if len(names) != 1 or not case_name(names[0]):
        raise InputError(
            f"expected the job {one_line(prediction.pk)} to have one input {edition.ct.slug} with "
            f"an image name, found {len(names)}; use the platform's own predictions.json"
        )
    return Job(
        pk=prediction.pk,
        case_id=case_name(names[0]),
        status=prediction.status,
        outputs=tuple(value.socket.relative_path.rstrip("/") for value in prediction.outputs),
    )
