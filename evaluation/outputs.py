"""Read and check what a job has written; an output that cannot be scored says why.

Every failed check is an `InputError`, and the case then counts as failed for this reason. A mask is
never resampled: a mask on another grid than the truth cannot be scored, as the challenge states.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Final

from evaluation.images import grid_difference, read_grid, read_labels
from shared.conventions import LabelVolume
from shared.editions import Edition
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import IMAGE_READERS

HPV_PROBABILITY: Final = "hpv-probability.json"
"""An optional file next to the HPV decision: a JSON number, the probability of HPV-positive
disease. The challenge asks for the decision only, so the platform never has it. Whoever runs an
algorithm elsewhere can add it; then AUC, Brier score and calibration are measured too."""


def read_mask(output: Path, edition: Edition, truth: Grid) -> LabelVolume:
    """Return the label map of a job, indexed [z, y, x].

    Parameters
    ----------
    output : folder of the job's outputs.
    truth : the grid that the label map must be on.

    Raises
    ------
    InputError
        If there is not exactly one readable image of whole numbers from 0 to 2 on that grid.
    """
    folder = (output / edition.outputs["segmentation"].path).parent
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    images = [path for path in files if path.suffix.lower() in IMAGE_READERS]
    if len(images) != 1:
        names = ", ".join(path.name for path in images) or "none"
        raise InputError(f"expected one label map in {folder.relative_to(output)}, found {names}")
    # Before the voxels: a grid of the sender's choice might not fit into memory.
    if problem := grid_difference(read_grid(images[0]), truth):
        raise InputError(f"expected the label map on the CT's grid, found {problem}")
    return read_labels(images[0])


def read_risk(output: Path, edition: Edition) -> float:
    """Return the risk of a job, higher = earlier recurrence, whatever the edition's sign.

    Raises
    ------
    InputError
        If the file does not hold a finite number.
    """
    survival = edition.outputs["survival"]
    return survival.risk_sign * _number(output / survival.path)


def read_decision(output: Path, edition: Edition) -> bool:
    """Return the decision on HPV status of a job.

    Raises
    ------
    InputError
        If the file does not hold a JSON boolean.
    """
    path = output / edition.outputs["hpv"].path
    value = _json(path)
    if not isinstance(value, bool):
        raise InputError(f"expected true or false in {path.name}, found {_excerpt(value)}")
    return value


def read_probability(output: Path) -> float | None:
    """Return the probability of HPV-positive disease, or None if the job has no such file.

    Raises
    ------
    InputError
        If the file does not hold a number from 0 to 1.
    """
    path = output / HPV_PROBABILITY
    if not path.is_file():
        return None
    probability = _number(path)
    if not 0 <= probability <= 1:
        raise InputError(f"expected a number from 0 to 1 in {path.name}, found {probability:g}")
    return probability


def _number(path: Path) -> float:
    value = _json(path)
    # In Python a boolean is also a number; for the challenge it is not, nor is a text of digits.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(number) <= sys.float_info.max:
        raise InputError(f"expected a finite number in {path.name}, found {_excerpt(value)}")
    return float(number)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path.name}, found no such file") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path.name} is not valid JSON") from None


def _excerpt(value: object) -> str:
    return json.dumps(value)[:40]
