"""Reads nnU-Net's checkpoints without running code that a file may contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from shared.conventions import Axis
from shared.errors import InputError, escaped
from shared.schema import Strict
from training.export.nnunet.results import Foreign
from training.records import first_problem

CheckpointName: TypeAlias = Literal["best", "final"]

_AXES: Final[tuple[Axis, ...]] = ("z", "y", "x")
"""The names of nnU-Net's axes 0, 1 and 2."""

_SCALAR: Final = np.float64(0).__reduce__()[0]
"""The function with which NumPy reads a number from a pickle."""

_NUMBERS: Final[list[Any]] = [
    np.dtype,
    np.ndarray,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
]
"""What a checkpoint holds in addition to tensors: nnU-Net logs losses and scores as NumPy numbers.
NumPy 1 calls the module `numpy.core`, NumPy 2 calls it `numpy._core`."""


class _InitArguments(Foreign):
    configuration: str


class _Header(Foreign):
    """What a checkpoint says in addition to its weights."""

    trainer_name: Annotated[str, Field(pattern=r"^nnUNetTrainer")]
    init_args: _InitArguments
    inference_allowed_mirroring_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] | None = None


class Header(Strict):
    """The properties that must be the same in all folds."""

    configuration: str
    mirror_axes: tuple[Axis, ...]


def checkpoint_path(results: Path, fold: str, name: CheckpointName) -> Path:
    """Return the path of a fold's checkpoint."""
    return results / f"fold_{fold}" / f"checkpoint_{name}.pth"


def read_checkpoint(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Return what a checkpoint says, and its weights by name.

    Raises
    ------
    InputError
        If the file is missing or cut short, contains anything but numbers and texts, or is not a
        checkpoint of nnU-Net v2.
    """
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(
            f"expected a trained fold with {path.name} in {path.parent}, found none; train this "
            "fold to the end, or choose other folds or another checkpoint"
        ) from None
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than numbers ({_reason(error)}) and was not read, because loading "
            "it could run code; export a checkpoint that nnU-Net v2 itself wrote"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or cut short ({_reason(error)}); copy it again"
        ) from None
    weights = content.get("network_weights") if isinstance(content, dict) else None
    try:
        header = _Header.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{path} is not a checkpoint of nnU-Net v2: {escaped(first_problem(error)[:200])}"
        ) from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise InputError(f"{path} is not a checkpoint of nnU-Net v2: it has no network_weights")
    axes = header.inference_allowed_mirroring_axes or ()
    return Header(
        configuration=header.init_args.configuration,
        mirror_axes=tuple(_AXES[axis] for axis in axes),
    ), weights


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if "GLOBAL" in line), lines[0] if lines else "")
    return escaped(text)[:160] or type(error).__name__
