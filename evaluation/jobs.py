"""The jobs of a submission: which case each has run on, and where its outputs lie.

A case goes by the name of its CT on the platform, `inputs[ct-image].image.name`. Jobs come in any
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from evaluation.names import case_name
from evaluation.schema import Prediction, Task
from shared.errors import InputError
from shared.tasks import Edition

SUCCEEDED: Final = "succeeded"
"""The status of a job that ended well, in lower case. Any other is scored as failed."""


@dataclass(frozen=True)
class Job:
    """One run of the algorithm.

    Attributes
    ----------
    pk : the platform's identifier, and the name of its folder below the input folder.
    case_id : the case that it ran on.
    status : as the platform states it.
    outputs : relative paths of its output sockets.
    """

    pk: str
    case_id: str
    status: str
    outputs: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.status.lower() == SUCCEEDED


def output_paths(edition: Edition) -> dict[Task, str]:
    """Return where each task's output lies below a job's output folder."""
    return {task: output.path for task, output in edition.outputs.items()}


def jobs_by_case(predictions: Sequence[Prediction], edition: Edition) -> dict[str, Job]:
    """Return the jobs by case, sorted.

    Raises
    ------
    InputError
        If a job names no CT or a folder outside its own, or two jobs have one case.
    """
    jobs: dict[str, Job] = {}
    for prediction in predictions:
        job = _job(prediction, edition)
        if job.case_id in jobs:
            raise InputError(
                f"expected one job for each case in predictions.json, found {jobs[job.case_id].pk} "
                f"and {job.pk} for the case {job.case_id}; leave out one of them"
            )
        jobs[job.case_id] = job
    return dict(sorted(jobs.items()))


def recognise_task(jobs: Mapping[str, Job], edition: Edition) -> Task:
    """Return the task that the jobs' output sockets belong to.

    Raises
    ------
    InputError
        If they belong to none or to several.
    """
    paths = {path for job in jobs.values() for path in job.outputs}
    found: list[Task] = [
        task
        for task, output in output_paths(edition).items()
        # An image's socket may name its folder, for the platform chooses the file's name.
        if output in paths or str(PurePosixPath(output).parent) in paths
    ]
    if len(found) != 1:
        raise InputError(
            f"expected the output sockets in predictions.json to be of one task of {edition.name}, "
            f"found {', '.join(found) or 'none'} in {', '.join(sorted(paths)) or 'no outputs'}; "
            "name the task with --task"
        )
    return found[0]


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
            f"image name, found {len(names)}; send the platform's own predictions.json"
        )
    # The folder's name comes from outside; it must stay below the input folder.
    if PurePosixPath(prediction.pk).name != prediction.pk or prediction.pk in ("", ".", ".."):
        raise InputError(
            f"expected pk to be the name of a folder, found '{prediction.pk}'; "
            "send the platform's own predictions.json"
        )
    return Job(
        prediction.pk,
        case_name(names[0]),
        prediction.status,
        tuple(value.socket.relative_path.rstrip("/") for value in prediction.outputs),
    )
