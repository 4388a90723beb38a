"""Cases on disk: a folder with `input/` in the platform's layout and, where known, the truth."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.names import case_name
from shared.errors import HecktorError


class CaseError(HecktorError):
    """A case folder cannot be used; the message tells the next step."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    name : of its folder; for reports.
    input : folder in the platform's layout.
    truth : the reference mask on the CT's grid, where there is one.
    """

    name: str
    input: Path
    truth: Path | None

    def size_bytes(self) -> int:
        """Return the size of all its input files."""
        return sum(p.stat().st_size for p in self.input.rglob("*") if p.is_file())

    def stage(self, folder: Path) -> Path:
        """Copy the input to a new folder that any user may read, and return that folder."""
        shutil.copytree(self.input, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder


def open_case(folder: Path) -> Case:
    """Return the case in a folder, by the folder's own name also where that is a link.

    Raises
    ------
    CaseError
        If it has no `input/`.
    """
    folder = Path(os.path.abspath(folder))  # not resolved: a link's name is the case's
    if not (folder / "input").is_dir():
        raise CaseError(
            f"expected a folder with input/ in the platform's layout, found none in {folder}"
        )
    truth = folder / "truth.nii.gz"
    return Case(folder.name, folder / "input", truth if truth.is_file() else None)


def cases_in(folder: Path) -> list[Case]:
    """Return the cases directly below a folder, by name; names that begin with a dot are none.

    Raises
    ------
    CaseError
        If there are none, or two are the same to the evaluation.
    """
    found = sorted(path.parent for path in folder.glob("*/input"))
    cases = [open_case(path) for path in found if not path.name.startswith(".")]
    _require_different_names(cases)
    if not cases:
        raise CaseError(
            f"expected folders with input/ in {folder}, found none; give the folder of the cases"
        )
    return cases


def _require_different_names(cases: Sequence[Case]) -> None:
    names: dict[str, str] = {}
    for case in cases:
        other = names.setdefault(case_name(case.name), case.name)
        if other != case.name:
            raise CaseError(
                f"expected one folder for each case, found {other} and {case.name} for the case "
                f"{case_name(case.name)}; rename or remove one of them"
            )
