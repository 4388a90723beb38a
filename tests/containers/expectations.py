"""What the repository's sample cases are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.running.cases import Case, CaseError

BOUNDS_FILE = Path(__file__).with_name("bounds.json")


@dataclass(frozen=True)
class Outcome:
    """What became of a patient, as in a case's `truth.json`."""

    hpv: bool
    relapse: bool
    rfs_days: float


def read_outcome(case: Case) -> Outcome | None:
    """Return what became of a case's patient, or None where it is not told."""
    told = case.input.parent / "truth.json"
    if not told.is_file():
        return None
    values = json.loads(told.read_bytes())
    return Outcome(bool(values["hpv"]), bool(values["relapse"]), float(values["rfs_days"]))


def dsc_bounds(case: Case) -> Mapping[str, float]:
    """Return the least DSC that a sample case must reach, by label."""
    bounds: dict[str, dict[str, float]] = json.loads(BOUNDS_FILE.read_text(encoding="utf-8"))
    if case.name not in bounds:
        raise CaseError(f"expected DSC bounds for the sample case {case.name} in {BOUNDS_FILE}")
    return bounds[case.name]
