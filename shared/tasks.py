"""Defines tasks and algorithms: what an algorithm writes, and which models it needs.

A *task* is a question about a case: segmentation, survival or HPV status. An *algorithm* is one
container; it answers one or more tasks. An *edition* is the challenge of one year. `editions` has
the algorithms of each edition, so a new task needs an entry there too.

This module needs only the standard library, so any script or test can import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal, TypeAlias, get_args

TaskName: TypeAlias = Literal["segmentation", "survival", "hpv"]
"""The names of the tasks in model cards, metrics and commands."""
TASK_NAMES: Final[tuple[TaskName, ...]] = get_args(TaskName)


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input socket of the platform, and its path unless `inputs.json` states another path.

    The path is relative to the input folder.
    """

    slug: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """One file that an algorithm writes.

    Attributes
    ----------
    task : the task that the file answers.
    slug : slug of the output socket.
    path : path of the file below the output folder.
    risk_sign : for survival, 1 if the platform expects higher = earlier recurrence, -1 for the
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
        """The path that the platform lists: that of the file or, for an image, of its folder."""
        return str(PurePosixPath(self.path).parent) if self.is_image else self.path


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One container.

    Attributes
    ----------
    name : name of the algorithm's folder in the repository.
    outputs : the files that the algorithm writes, one for each task that it answers.
    bundled : the other algorithms whose models the image also contains. The key is the name of the
        folder below the algorithm's own model folder, the value is the name of the other algorithm.
    """

    name: str
    outputs: tuple[Output, ...]
    bundled: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """The tasks that the algorithm answers."""
        return tuple(output.task for output in self.outputs)

    def model_folders(self, root: Path) -> dict[str, Path]:
        """Return the model folders in a checkout that the algorithm's image contains.

        Returns
        -------
        The folders by their path below the image's model folder; "." is the algorithm's own model.
        """
        owners = {".": self.name, **self.bundled}
        return {place: root / owner / "model" for place, owner in owners.items()}

    def bundled_models(self, model_dir: Path) -> dict[str, Path]:
        """Return the folders of the bundled models.

        Parameters
        ----------
        model_dir : the folder of the algorithm's own model. In an image, it contains the bundled
            models. In a checkout, they are in the folders of the other algorithms.

        Returns
        -------
        The model folders by their names in `bundled`. A folder that is in neither place is
        returned as a folder in `model_dir`.
        """
        checkout = model_dir.resolve().parent.parent
        folders = {}
        for place, owner in self.bundled.items():
            beside = checkout / owner / "model"
            inside = model_dir / place
            folders[place] = beside if beside.is_dir() and not inside.exists() else inside
        return folders
