"""The jobs of a submission: the case of each job, and the folder of its outputs.

A case has the name of its CT on the platform, `inputs[ct-image].image.name`. Jobs come in any
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from evaluation.case_name import case_name
from evaluation.predictions import Prediction
from shared.editions import Edition
from shared.errors import InputError
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
        If a job does not name exactly one CT, its `pk` is not the name of a folder, or two jobs
        have the same case.
    """
    jobs: dict[str, Job] = {}
    for prediction in predictions:
        job = _job(prediction, edition)
        if job.case_id in jobs:
            raise InputError(
                f"expected one job for each case in predictions.json, found {jobs[job.case_id].pk} "
                f"and {job.pk} for the case {job.case_id}; remove one of them"
            )
        jobs[job.case_id] = job
    return dict(sorted(jobs.items()))


def answered_tasks(jobs: Mapping[str, Job], edition: Edition) -> tuple[TaskName, ...]:
    """Return the tasks that the jobs' output sockets answer, in the order of the edition.

    Raises
    ------
    InputError
        If they answer no task.
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
            f"{', '.join(sorted(paths)) or 'no outputs'}; choose the task to score"
        )
    return tasks


def output_folder(input_dir: Path, job: Job) -> Path:
    """Return the folder of a job's outputs."""
    return input_dir / job.pk / "output"


def _job(prediction: Prediction, edition: Edition) -> Job:
    names = [
        value.image.name
        for value in prediction.inputs
        if value.socket.slug == edition.ct.slug and value.image is not None
    ]
    if len(names) != 1 or not case_name(names[0]):
        raise InputError(
            f"expected the job {prediction.pk} to have one input {edition.ct.slug} with an "
            f"image name, found {len(names)}; use the platform's own predictions.json"
        )
    # The name of the folder comes from outside, so the folder must be below the input folder.
    if PurePosixPath(prediction.pk).name != prediction.pk or prediction.pk in ("", ".", ".."):
        raise InputError(
            f"expected pk to be the name of a folder, found '{prediction.pk}'; "
            "use the platform's own predictions.json"
        )
    return Job(
        pk=prediction.pk,
        case_id=case_name(names[0]),
        status=prediction.status,
        outputs=tuple(value.socket.relative_path.rstrip("/") for value in prediction.outputs),
    )
