"""The platform's contract, written from the platform's own description and not from our code.

`shared.tasks`, `shared.editions` and the profiles of `evaluation.running` state the same facts for
our code; a test compares them with this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, TypeAlias

Holds: TypeAlias = Literal["mask", "number", "boolean", "metrics"]

LABELS: Final = {"GTVp": 1, "GTVn": 2}
"""Values in a mask; 0 is background."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that a container must write.

    Attributes
    ----------
    path : path below /output.
    holds : what the file contains.
    higher_is_earlier : for a risk, whether higher means earlier recurrence.
    """

    path: str
    holds: Holds
    higher_is_earlier: bool = True

    @property
    def socket_path(self) -> str:
        """The path that the platform lists; for an image it is the folder."""
        return str(PurePosixPath(self.path).parent) if self.holds == "mask" else self.path


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The platform's requirements for a container.

    Attributes
    ----------
    name : name of the container's folder in the repository.
    files : the files that the container must write; it must not write any other file.
    limit_s : seconds for a run, including start-up.
    memory_gib : memory for a run: the platform's 16 GiB, minus the 1 GiB that it reserves.
    ct_slug : slug of the input socket of the CT. The file name of the CT is the name of the case.
    """

    name: str
    files: tuple[File, ...]
    limit_s: int
    memory_gib: float = 15
    ct_slug: str = "ct-image"

    @property
    def paths(self) -> list[str]:
        """Paths of the files, sorted."""
        return sorted(file.path for file in self.files)


ALGORITHMS: Final = (
    Contract(
        name="task1_segmentation",
        files=(File(path="images/tumor-lymph-node-segmentation/output.mha", holds="mask"),),
        limit_s=600,
    ),
    Contract(name="task2_survival", files=(File(path="rfs.json", holds="number"),), limit_s=900),
    Contract(name="task3_hpv", files=(File(path="hpv-status.json", holds="boolean"),), limit_s=600),
)

EVALUATION: Final = Contract(
    name="evaluation", files=(File(path="metrics.json", holds="metrics"),), limit_s=600
)
"""The limit of 600 s is this project's own, for 400 cases; the platform allows an hour."""
