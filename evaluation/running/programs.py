"""Describes the programs that an engine starts: the algorithms and the evaluation."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from evaluation.running.limits import Limits, current_profile
from shared.tasks import Algorithm

EVALUATION: Final = "evaluation"
"""Name of the folder and of the container of the evaluation."""


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
    limits : the limits of a run.
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
    limits: Limits
    has_variants: bool = True


def program_of(algorithm: Algorithm, limits: Limits | None = None) -> Program:
    """Return what an engine must know about an algorithm.

    Parameters
    ----------
    limits : for a run; by default those of the current edition.
    """
    return Program(
        name=algorithm.name,
        arguments=("inference.py",),
        code=(f"{algorithm.name}/inference.py",),
        models=algorithm.model_folders(Path()),
        environment=".venv-containers",
        lock=f"{algorithm.name}/requirements-cpu.lock",
        upload_mount=PurePosixPath("/opt/ml/model"),
        upload_option="--model",
        limits=limits or current_profile().of(algorithm.name),
    )


def evaluation_program(limits: Limits | None = None) -> Program:
    """Return what an engine must know about the evaluation.

    Parameters
    ----------
    limits : for a run; by default those of the current edition.
    """
    return Program(
        name=EVALUATION,
        arguments=("-m", "evaluation.container"),
        code=("evaluation",),
        environment=".venv-evaluation",
        lock="evaluation/requirements.lock",
        upload_mount=PurePosixPath("/opt/ml/input/data/ground_truth"),
        upload_option="--truth",
        limits=limits or current_profile().of(EVALUATION),
        has_variants=False,
    )


def lay_out(program: Program, *, root: Path, folder: Path) -> None:
    """Arrange the files of a program in a new folder as they are in its image.

    Parameters
    ----------
    root : the checkout. Folders with code are linked; single files and model folders are copied.
    """
    folder.mkdir(parents=True)
    for path in ("shared", *program.code):
        source = root / path
        if source.is_dir():
            (folder / source.name).symlink_to(source)
        else:
            # Copied, because Python would import from the folder of a link's target.
            shutil.copy(source, folder)
    models = {place: root / source for place, source in program.models.items()}
    stage_models(models, folder / "model")


def stage_models(folders: Mapping[str, Path], target: Path) -> None:
    """Copy model folders to a new folder, laid out as in an image.

    Parameters
    ----------
    folders : the model folders by their place below `target`; "." is the algorithm's own.
    """
    for place, folder in sorted(folders.items()):
        shutil.copytree(folder, target / place)
