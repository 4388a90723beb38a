"""The one registry: what each algorithm writes, what it needs, and what each year's challenge asks.

A *task* is a question about a case: segmentation, survival or HPV status. An *algorithm* is one
container; it answers one task or several. An *edition* is one year's challenge: its inputs, its
algorithms and its limits. Another year is another `Edition`, not another code path.

This module needs the standard library alone, so scripts and tests can read it anywhere.
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
        return self.task == "segmentation"

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


@dataclass(frozen=True, kw_only=True)
class Edition:
    """One year's challenge.

    Attributes
    ----------
    name : of the challenge, with its year.
    ct, pet, ehr : the inputs that every algorithm reads.
    unused : inputs that no algorithm here reads; the log says if they are present.
    algorithms : in the order of their numbers.
    memory_limit_bytes : what a job may use.
    """

    name: str
    ct: Input
    pet: Input
    ehr: Input
    unused: tuple[Input, ...] = ()
    algorithms: tuple[Algorithm, ...]
    memory_limit_bytes: int

    @property
    def outputs(self) -> dict[TaskName, Output]:
        """The output that answers each task, whichever algorithm writes it."""
        return {output.task: output for each in self.algorithms for output in each.outputs}

    def algorithm(self, task: TaskName) -> Algorithm:
        """Return the algorithm that answers a task.

        Raises
        ------
        KeyError
            If the edition does not ask for this task.
        """
        return {name: each for each in self.algorithms for name in each.tasks}[task]


HECKTOR_2025: Final = Edition(
    name="HECKTOR 2025",
    ct=Input(slug="ct-image", path="images/ct"),
    pet=Input(slug="pet-image", path="images/pet"),
    ehr=Input(slug="electronic-health-record", path="ehr.json"),
    unused=(
        Input(slug="planning-ct-image", path="images/ct-planning"),
        Input(slug="rt-dose-image", path="images/rt-dose"),
    ),
    algorithms=(
        Algorithm(
            name="task1_segmentation",
            outputs=(
                Output(
                    task="segmentation",
                    slug="tumor-lymph-node-segmentation",
                    path="images/tumor-lymph-node-segmentation/output.mha",
                ),
            ),
            limit_s=600,
        ),
        Algorithm(
            name="task2_survival",
            outputs=(Output(task="survival", slug="rfs", path="rfs.json"),),
            limit_s=900,
            bundled={"segmentation": "task1_segmentation", "hpv": "task3_hpv"},
        ),
        Algorithm(
            name="task3_hpv",
            outputs=(Output(task="hpv", slug="hpv-status", path="hpv-status.json"),),
            limit_s=600,
            bundled={"segmentation": "task1_segmentation"},
        ),
    ),
    memory_limit_bytes=15 * 2**30,  # 16 GB, of which the platform reserves 1 GiB
)

CURRENT: Final = HECKTOR_2025
"""The edition that the containers, the training and the evaluation serve."""
