"""Reads the JSON value that a job wrote.

An output that cannot be scored raises `InputError`. The case then counts as failed, with the
message as the reason.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Final

from shared.errors import InputError

HPV_PROBABILITY: Final = "hpv-probability.json"
"""An optional file next to the HPV decision: a JSON number, the probability of HPV-positive
disease. The challenge asks for the decision only, so jobs of the platform do not have this file. If
you run an algorithm elsewhere and add it, AUC, Brier score and calibration are measured too."""


def read_number(path: Path) -> float:
    """Return the number in a JSON file.

    Raises
    ------
    InputError
        If the file does not hold a finite number.
    """
    value = _read_json(path)
    # Python counts a boolean as a number. The challenge does not.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not abs(number) <= sys.float_info.max:
        raise InputError(f"expected a finite number in {path.name}, found {_excerpt(value)}")
    return float(number)


def read_boolean(path: Path) -> bool:
    """Return the boolean in a JSON file.

    Raises
    ------
    InputError
        If the file does not hold a JSON boolean.
    """
    value = _read_json(path)
    if not isinstance(value, bool):
        raise InputError(f"expected true or false in {path.name}, found {_excerpt(value)}")
    return value


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path.name}, found no such file") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path.name} is not valid JSON") from None


def _excerpt(value: object) -> str:
    return json.dumps(value)[:40]
