"""Describes the programs that an engine starts: the algorithms and the evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from shared.editions import CURRENT, Edition
from shared.tasks import Algorithm


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an engine must know about a container of this repository.

    Attributes
    ----------
    name : name of the folder in the repository and of the image.
    arguments : arguments of Python, which starts in the application's folder.
    code : files and folders of the checkout that the application's folder holds.
    models : model folders in the checkout, by their place below the application's model folder.
    environment, lock : virtual environment for native runs, and the lock file it is made from.
    upload_mount : where the platform unpacks what is uploaded separately from the image.
    upload_option : the option that names this place on the command line.
    limit_s : seconds for a run, including start-up.
    memory_limit_bytes : memory for a run.
    has_variants : whether there are images for CPU and for GPU, or only for CPU.
    """

    name: str
    arguments: tuple[str, ...]
    code: tuple[str, ...]
    models: Mapping[str, Path] = field(default_factory=dict)
    environment: str
    lock: str
    upload_mount: PurePosixPath
    upload_option: str
    limit_s: int
    memory_limit_bytes: int
    has_variants: bool = True

    @property
    def memory_limit(self) -> str:
        """The memory limit as text."""
        return f"{self.memory_limit_bytes / 2**30:g} GB"


def program_of(algorithm: Algorithm, edition: Edition = CURRENT) -> Program:
    """Return what an engine must know about an algorithm."""
    return Program(
        name=algorithm.name,
        arguments=("inference.py",),
        code=(f"{algorithm.name}/inference.py",),
        models=algorithm.model_folders(Path()),
        environment=".venv-containers",
        lock=f"{algorithm.name}/requirements-cpu.lock",
        upload_mount=PurePosixPath("/opt/ml/model"),
        upload_option="--model",
        limit_s=algorithm.limit_s,
        memory_limit_bytes=edition.memory_limit_bytes,
    )


EVALUATION: Final = Program(
    name="evaluation",
    arguments=("-m", "evaluation.container"),
    code=("evaluation",),
    environment=".venv-evaluation",
    lock="evaluation/requirements.lock",
    upload_mount=PurePosixPath("/opt/ml/input/data/ground_truth"),
    upload_option="--truth",
    limit_s=600,
    memory_limit_bytes=CURRENT.memory_limit_bytes,
    has_variants=False,
)
"""The evaluation container. The limit of 600 s is this project's own, for 400 cases; the platform
allows an hour."""


def stage_models(folders: Mapping[str, Path], target: Path) -> None:
    """Copy model folders to a new folder, laid out as in an image.

    Parameters
    ----------
    folders : the model folders by their place below `target`; "." is the algorithm's own.
    """
    for place, folder in sorted(folders.items()):
        shutil.copytree(folder, target / place)
