"""What a job has written, read and checked; what cannot be scored says why.

Every check that fails is an `InputError`, and the case counts as failed for that reason. A mask is
never resampled: on another grid than the truth it cannot be scored, as the challenge says.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Final

from evaluation.images import grid_difference, read_grid, read_labels
from shared.conventions import LabelVolume
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import IMAGE_READERS
from shared.tasks import Edition

HPV_PROBABILITY: Final = "hpv-probability.json"
"""May lie beside Task 3's output: a JSON number, the probability of HPV-positive disease. The
challenge asks for the decision only, so the platform has none; whoever runs an algorithm elsewhere
can add it, and then AUC, Brier score and calibration are measured too."""


def read_mask(output: Path, edition: Edition, truth: Grid) -> LabelVolume:
    """Return the label map of Task 1, indexed [z, y, x].

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
    """Return the risk of Task 2, higher = earlier recurrence, whatever the edition's sign.

    Raises
    ------
    InputError
        If there is no finite number.
    """
    survival = edition.outputs["survival"]
    return survival.risk_sign * _number(output / survival.path)


def read_decision(output: Path, edition: Edition) -> bool:
    """Return the decision of Task 3.

    Raises
    ------
    InputError
        If there is no JSON boolean.
    """
    path = output / edition.outputs["hpv"].path
    value = _json(path)
    if not isinstance(value, bool):
        raise InputError(f"expected true or false in {path.name}, found {_shortened(value)}")
    return value


def read_probability(output: Path) -> float | None:
    """Return the probability of HPV-positive disease, or None where the job has none.

    Raises
    ------
    InputError
        If there is something else than a number from 0 to 1.
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
    # A boolean is a number to Python, and a text of digits is none to the challenge.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(number) <= sys.float_info.max:
        raise InputError(f"expected a finite number in {path.name}, found {_shortened(value)}")
    return float(number)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path.name}, found no such file") from None
    except (ValueError, RecursionError):
        raise InputError(f"expected JSON in {path.name}, found a file that is none") from None


def _shortened(value: object) -> str:
    return json.dumps(value)[:40]
