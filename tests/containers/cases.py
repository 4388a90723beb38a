"""The cases that the containers run on: the repository's samples, or folders of the user's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BOUNDS_FILE = Path(__file__).with_name("bounds.json")


class CaseError(ValueError):
    """A case folder cannot be used; the message tells the next step."""


@dataclass(frozen=True)
class Outcome:
    """What became of a patient, as in a case's `truth.json`."""

    hpv: bool
    relapse: bool
    rfs_days: float


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    name : for reports.
    input : folder in the platform's layout.
    truth : the reference mask on the CT's grid, where there is one.
    outcome : HPV status, recurrence and time to it, where they are known.
    is_sample : whether it is the repository's own: then outputs must agree with those expected,
        and the DSC must reach its bounds.
    """

    name: str
    input: Path
    truth: Path | None
    is_sample: bool
    outcome: Outcome | None = None

    def size_bytes(self) -> int:
        """Return the size of all its input files."""
        return sum(p.stat().st_size for p in self.input.rglob("*") if p.is_file())

    def stage(self, folder: Path) -> Path:
        """Copy the input to a new folder that any user may read, and return that folder."""
        shutil.copytree(self.input, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder


def sample_cases(root: Path) -> list[Case]:
    """Return the repository's cases, by name."""
    folder = root / "tests" / "cases"
    cases = [_open(path.parent, is_sample=True) for path in sorted(folder.glob("*/input"))]
    if not cases:
        raise CaseError(f"expected sample cases in {folder}, found none; check the files out again")
    return cases


def user_case(folder: Path) -> Case:
    """Return the case in a folder that the user named."""
    return _open(folder.resolve(), is_sample=False)


def dsc_bounds(case: Case) -> Mapping[str, float]:
    """Return the least DSC that a sample case must reach, by label."""
    bounds: dict[str, dict[str, float]] = json.loads(BOUNDS_FILE.read_text(encoding="utf-8"))
    if case.name not in bounds:
        raise CaseError(f"expected DSC bounds for the sample case {case.name} in {BOUNDS_FILE}")
    return bounds[case.name]


def _open(folder: Path, is_sample: bool) -> Case:
    if not (folder / "input").is_dir():
        raise CaseError(
            f"expected a folder with input/ in the platform's layout, found none in {folder}"
        )
    truth, told = folder / "truth.nii.gz", folder / "truth.json"
    outcome = None
    if told.is_file():
        values = json.loads(told.read_bytes())
        outcome = Outcome(bool(values["hpv"]), bool(values["relapse"]), float(values["rfs_days"]))
    return Case(
        folder.name, folder / "input", truth if truth.is_file() else None, is_sample, outcome
    )
