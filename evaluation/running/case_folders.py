"""Case folders: `input/` in the platform's layout and, if known, the truth."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.case_name import case_name
from shared.errors import HecktorError


class CaseError(HecktorError):
    """A case folder cannot be used; the message states the next step."""


@dataclass(frozen=True)
class CaseFolder:
    """A case on disk.

    Attributes
    ----------
    name : name of the folder.
    input : folder in the platform's layout.
    truth : the reference mask on the CT's grid, if any.
    """

    name: str
    input: Path
    truth: Path | None

    def size_bytes(self) -> int:
        """Return the total size of the input files."""
        return sum(p.stat().st_size for p in self.input.rglob("*") if p.is_file())

    def stage(self, folder: Path) -> Path:
        """Copy the input to a new folder that any user may read, and return that folder."""
        shutil.copytree(self.input, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder


def open_case(folder: Path) -> CaseFolder:
    """Return the case in a folder; if the folder is a link, the case has the name of the link.

    Raises
    ------
    CaseError
        If the folder has no `input/`.
    """
    folder = Path(os.path.abspath(folder))  # `resolve` would follow the link
    if not (folder / "input").is_dir():
        raise CaseError(
            f"expected {folder}/input in the platform's layout, found no such folder; name a case "
            "folder"
        )
    truth = folder / "truth.nii.gz"
    return CaseFolder(folder.name, folder / "input", truth if truth.is_file() else None)


def find_cases(folder: Path) -> list[CaseFolder]:
    """Return the cases directly below a folder, by name; hidden folders are left out.

    Raises
    ------
    CaseError
        If the folder holds no case, or the evaluation would give two cases the same name.
    """
    paths = sorted(path.parent for path in folder.glob("*/input"))
    cases = [open_case(path) for path in paths if not path.name.startswith(".")]
    _require_different_names(cases)
    if not cases:
        raise CaseError(
            f"expected folders with input/ in {folder}, found none; name the folder of the cases"
        )
    return cases


def _require_different_names(cases: Sequence[CaseFolder]) -> None:
    names: dict[str, str] = {}
    for case in cases:
        other = names.setdefault(case_name(case.name), case.name)
        if other != case.name:
            raise CaseError(
                f"expected one folder for each case, found {other} and {case.name} for the case "
                f"{case_name(case.name)}; rename or remove one of them"
            )
