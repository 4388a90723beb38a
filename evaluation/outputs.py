"""What a job has written, read and checked; what cannot be scored says why.

Every check that fails is an `InputError`, and the case counts as failed for that reason. A mask is
never resampled: on another grid than the truth it cannot be scored, as the challenge says.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge import IMAGE_READERS, Edition, errors_of_libraries_in_log

HPV_PROBABILITY: Final = "hpv-probability.json"
"""May lie beside Task 3's output: a JSON number, the probability of HPV-positive disease. The
challenge asks for the decision only, so the platform has none; whoever runs an algorithm elsewhere
can add it, and then AUC, Brier score and calibration are measured too."""

GRID_TOLERANCE: Final = 1e-3
"""Millimetres, or cosine: a NIfTI truth holds its geometry in 32 bits."""


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
    folder = (output / edition.segmentation).parent
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    images = [path for path in files if path.suffix.lower() in IMAGE_READERS]
    if len(images) != 1:
        names = ", ".join(path.name for path in images) or "none"
        raise InputError(f"expected one label map in {folder.relative_to(output)}, found {names}")
    image = read_image(images[0])
    if problem := grid_difference(Grid.of(image), truth):
        raise InputError(f"expected the label map on the CT's grid, found {problem}")
    return label_volume(image)


def read_image(path: Path) -> sitk.Image:
    """Read a scalar 3-D image of any of the formats that outputs and truths come in.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        with errors_of_libraries_in_log():
            image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"expected a readable image, found {path.name} that is none") from None
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or components != 1:
        raise InputError(
            f"expected a 3-D image with one value a voxel, found {path.name} with "
            f"{image.GetDimension()} dimensions and {components} value(s) a voxel"
        )
    return image


def grid_difference(found: Grid, expected: Grid) -> str | None:
    """Return how a grid differs from the expected one, or None where it is the same."""
    if found.size_xyz != expected.size_xyz:
        return f"size {found.size_xyz} instead of {expected.size_xyz}"
    for name in ("spacing_mm", "origin_mm", "direction"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if not np.allclose(ours, theirs, rtol=0, atol=GRID_TOLERANCE):
            return f"{name} {_rounded(ours)} instead of {_rounded(theirs)}"
    return None


def label_volume(image: sitk.Image) -> LabelVolume:
    """Return a label map's voxels.

    Raises
    ------
    InputError
        If they are not whole numbers by type, or one of them is no label.
    """
    values: NDArray[np.generic] = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"expected a label map of whole numbers, found {values.dtype}")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < min(Label) or highest > max(Label):
        raise InputError(
            f"expected the labels {', '.join(str(int(label)) for label in Label)}, found values "
            f"from {lowest} to {highest}"
        )
    return np.array(values, dtype=np.uint8)


def read_risk(output: Path, edition: Edition) -> float:
    """Return the risk of Task 2, higher = earlier recurrence, whatever the edition's sign.

    Raises
    ------
    InputError
        If there is no finite number.
    """
    return edition.risk_sign * _number(output / edition.risk)


def read_decision(output: Path, edition: Edition) -> bool:
    """Return the decision of Task 3.

    Raises
    ------
    InputError
        If there is no JSON boolean.
    """
    path = output / edition.hpv
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
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"expected a finite number in {path.name}, found {_shortened(value)}")
    return float(value)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path.name}, found no such file") from None
    except (ValueError, RecursionError):
        raise InputError(f"expected JSON in {path.name}, found a file that is none") from None


def _shortened(value: object) -> str:
    return json.dumps(value)[:40]


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
