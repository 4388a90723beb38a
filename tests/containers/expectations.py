"""The outcomes of the sample cases, and the DSC that their predicted masks must reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.running.case_folders import CaseError, CaseFolder

BOUNDS_FILE = Path(__file__).with_name("bounds.json")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a patient, from a case's `truth.json`.

    An unknown HPV status counts as negative, so that the sample cases have both classes.
    """

    hpv: bool
    relapse: bool
    rfs_days: float


def read_outcome(case: CaseFolder) -> Outcome | None:
    """Return the outcome of a case's patient, or None if the case has no `truth.json`."""
    path = case.input.parent / "truth.json"
    if not path.is_file():
        return None
    values = json.loads(path.read_bytes())
    return Outcome(
        hpv=bool(values["hpv"]),
        relapse=bool(values["relapse"]),
        rfs_days=float(values["rfs_days"]),
    )


def dsc_bounds(case: CaseFolder, file: Path = BOUNDS_FILE) -> Mapping[str, float]:
    """Return the lowest permitted DSC of a sample case, by label."""
    bounds: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    if case.name not in bounds:
        raise CaseError(f"expected DSC bounds for the sample case {case.name} in {file}")
    return bounds[case.name]
