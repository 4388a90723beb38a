"""Reads `predictions.json`, the platform's list of a submission's jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter

from evaluation import strict_json

PREDICTIONS: Final = "predictions.json"


class _PlatformRecord(BaseModel):
    """A record that the platform writes; keys that are not needed here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Socket(_PlatformRecord):
    """A slot for an input or output.

    Attributes
    ----------
    relative_path : path of the file below the job's folder; for an image, the path of the folder
        that the image file is in.
    """

    slug: str
    relative_path: str


class ImageName(_PlatformRecord):
    """The platform's name of a scan or a mask."""

    name: str


class Value(_PlatformRecord):
    """What a job has in one socket; older files call the socket an interface."""

    socket: Socket = Field(validation_alias=AliasChoices("socket", "interface"))
    image: ImageName | None = None


class Prediction(_PlatformRecord):
    """One entry of `predictions.json`: a job of the algorithm on one case.

    A job without a status counts as succeeded.
    """

    pk: str
    status: str = "Succeeded"
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


_PREDICTIONS: TypeAdapter[tuple[Prediction, ...]] = TypeAdapter(tuple[Prediction, ...])


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """Read `predictions.json`; the jobs keep the file's order.

    Raises
    ------
    InputError
        If the file is missing or is not a list of jobs.
    """
    return strict_json.read(path, _PREDICTIONS, "a list of jobs with pk, inputs and outputs")
