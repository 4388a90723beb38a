"""The editions of the challenge: one `Edition` per year states inputs and algorithms.

To add a year, add a constant here. To add a task, add its name to `shared.tasks` and its output to
an existing or a new algorithm here. The containers, the training and the evaluation use `CURRENT`.
This module needs only the standard library.

The limits of the platform are in `evaluation/running/profiles`, because only the code that runs the
containers needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shared.tasks import Algorithm, Input, Output, TaskName


@dataclass(frozen=True, kw_only=True)
class Edition:
    """The challenge of one year.

    Attributes
    ----------
    name : name of the challenge, with the year.
    ct, pet, ehr : the inputs that every algorithm reads.
    unused : inputs that no algorithm reads; the log mentions them if present.
    algorithms : the algorithms, in the order of the task numbers.
    """

    name: str
    ct: Input
    pet: Input
    ehr: Input
    unused: tuple[Input, ...] = ()
    algorithms: tuple[Algorithm, ...]

    @property
    def outputs(self) -> dict[TaskName, Output]:
        """The output of each task, whichever algorithm writes it."""
        return {output.task: output for each in self.algorithms for output in each.outputs}

    def algorithm(self, task: TaskName) -> Algorithm:
        """Return the algorithm that answers a task.

        Raises
        ------
        KeyError
            If the edition does not have this task.
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
        ),
        Algorithm(
            name="task2_survival",
            outputs=(Output(task="survival", slug="rfs", path="rfs.json"),),
            bundled={"segmentation": "task1_segmentation", "hpv": "task3_hpv"},
        ),
        Algorithm(
            name="task3_hpv",
            outputs=(Output(task="hpv", slug="hpv-status", path="hpv-status.json"),),
            bundled={"segmentation": "task1_segmentation"},
        ),
    ),
)

CURRENT: Final = HECKTOR_2025
"""The edition that the containers, the training and the evaluation use."""
