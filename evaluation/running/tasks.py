"""What the platform expects of each task, written from its contract and not from our code."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal


@dataclass(frozen=True)
class Task:
    """One algorithm, or the evaluation.

    Attributes
    ----------
    name : its folder in the repository.
    output : the one file that it writes, below /output.
    kind : what that file holds.
    limit_s : seconds that the platform grants for a run.
    bundled : model folders of other tasks that it needs, by their name below its own.
    program : what Python is told to run, below the application's folder.
    """

    name: str
    output: str
    kind: Literal["mask", "number", "boolean", "metrics"]
    limit_s: int
    bundled: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("inference.py",)


TASKS: Final = (
    Task(
        "task1_segmentation", "images/tumor-lymph-node-segmentation/output.mha", "mask", limit_s=600
    ),
    Task(
        "task2_survival",
        "rfs.json",
        "number",
        limit_s=900,
        bundled={"segmentation": "task1_segmentation", "hpv": "task3_hpv"},
    ),
    Task(
        "task3_hpv",
        "hpv-status.json",
        "boolean",
        limit_s=600,
        bundled={"segmentation": "task1_segmentation"},
    ),
)

EVALUATION: Final = Task(
    "evaluation", "metrics.json", "metrics", limit_s=600, program=("-m", "evaluation")
)
"""600 s are this project's own aim, for 400 cases; the platform grants an hour."""

LABELS: Final = {"GTVp": 1, "GTVn": 2}
"""Values in the mask; 0 is background."""

MEMORY_LIMIT_BYTES: Final = 15 * 2**30
"""The platform's 16 GB, less the 1 GiB that it reserves."""


def stage_model(root: Path, task: Task, folder: Path) -> None:
    """Copy the models of a task to a folder, laid out as they are in its image."""
    shutil.copytree(root / task.name / "model", folder)
    for name, owner in task.bundled.items():
        shutil.copytree(root / owner / "model", folder / name)
