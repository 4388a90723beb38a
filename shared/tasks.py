"""The registry of tasks and algorithms: what each algorithm writes, needs and may take.

A *task* is a question about a case: segmentation, survival or HPV status. An *algorithm* is one
container; it answers one task or several. An *edition* is one year's challenge, see `editions`.

This module uses only the standard library, so scripts and tests can read it anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal, TypeAlias, get_args

TaskName: TypeAlias = Literal["segmentation", "survival", "hpv"]
"""The tasks by the names that model cards, metrics and commands use."""
TASK_NAMES: Final[tuple[TaskName, ...]] = get_args(TaskName)


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input socket, and where it lies below the input folder if `inputs.json` does not say."""

    slug: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file that an algorithm writes.

    Attributes
    ----------
    task : the question that it answers.
    slug : of the output socket.
    path : of the file below the output folder.
    risk_sign : for survival, 1 if the platform wants higher = earlier recurrence, -1 for the
        reverse.
    """

    task: TaskName
    slug: str
    path: str
    risk_sign: Literal[1, -1] = 1

    @property
    def is_image(self) -> bool:
        """Whether the file is an image; otherwise it is JSON."""
        return PurePosixPath(self.path).suffix != ".json"

    @property
    def socket_path(self) -> str:
        """What the platform lists: of an image the folder, since the platform names the file."""
        return str(PurePosixPath(self.path).parent) if self.is_image else self.path


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One container.

    Attributes
    ----------
    name : of its folder in the repository.
    outputs : the files that it writes; one for each task that it answers.
    limit_s : seconds that the platform grants for a case, start-up included.
    bundled : algorithms whose model folders its image also holds, by the name of the folder below
        its own model folder.
    """

    name: str
    outputs: tuple[Output, ...]
    limit_s: int
    bundled: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """The tasks that it answers."""
        return tuple(output.task for output in self.outputs)

    def model_folders(self, root: Path) -> dict[str, Path]:
        """Return the model folders of its image in a checkout.

        Returns
        -------
        By the path below the image's model folder; "." is the algorithm's own.
        """
        owners = {".": self.name, **self.bundled}
        return {place: root / owner / "model" for place, owner in owners.items()}
