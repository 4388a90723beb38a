"""Reads the JSON value that a job wrote.

An output that cannot be scored raises `InputError`. The case then counts as failed, with the
message as the reason. The values are small, so they are read in the main process.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Final

from evaluation.job_folder import find_inside
from shared.errors import InputError, one_line
from shared.regular_files import FileError, read_regular

HPV_PROBABILITY: Final = "hpv-probability.json"
"""An optional file next to the HPV decision: a JSON number, the probability of HPV-positive
disease. The challenge asks only for the decision, so jobs of the platform do not have this file.
If you run an algorithm elsewhere and add the file, AUC, Brier score and calibration are measured
too."""
MOST_BYTES: Final = 1 << 16
"""Largest size of a JSON file. A number or a boolean needs about 20 bytes."""


def read_number(output: Path, path: str) -> float:
    """Return the number in a JSON file.

    Parameters
    ----------
    output : folder of the job's outputs.
    path : path of the file, relative to `output`.

    Raises
    ------
    InputError
        If the path is not a small regular file in this folder with a finite number.
    """
    value, text = _read_json(output, path)
    # Python counts a boolean as a number. The challenge does not.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(number) <= sys.float_info.max:
        raise InputError(f"expected a finite number in {path}, found {text}")
    return float(number)


def read_boolean(output: Path, path: str) -> bool:
    """Return the boolean in a JSON file.

    Parameters
    ----------
    output : folder of the job's outputs.
    path : path of the file, relative to `output`.

    Raises
    ------
    InputError
        If the path is not a small regular file in this folder with a JSON boolean.
    """
    value, text = _read_json(output, path)
    if not isinstance(value, bool):
        raise InputError(f"expected true or false in {path}, found {text}")
    return value


def _read_json(output: Path, path: str) -> tuple[object, str]:
    """Return the JSON value in a file, and the beginning of its text for messages."""
    try:
        content = read_regular(find_inside(output, path), MOST_BYTES)
    except FileError as problem:
        raise InputError(f"expected a file {path} with a JSON value, but it {problem}") from None
    try:
        value = json.loads(content)
    # Python refuses integers of more than 4300 digits with a ValueError.
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON") from None
    return value, one_line(content.decode("utf-8", "replace"), 40)
