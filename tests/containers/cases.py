"""What the repository's sample cases are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from evaluation.running.cases import Case, CaseError

BOUNDS_FILE = Path(__file__).with_name("bounds.json")


def dsc_bounds(case: Case) -> Mapping[str, float]:
    """Return the least DSC that a sample case must reach, by label."""
    bounds: dict[str, dict[str, float]] = json.loads(BOUNDS_FILE.read_text(encoding="utf-8"))
    if case.name not in bounds:
        raise CaseError(f"expected DSC bounds for the sample case {case.name} in {BOUNDS_FILE}")
    return bounds[case.name]
