"""Where the files of a scored case are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """The files of one scored case.

    Attributes
    ----------
    case_input : the case's input folder in the platform's layout.
    truth : file of the true label map, on the CT's grid.
    output : the job's output folder, which is `/output` in the container.
    """

    case_input: Path
    truth: Path
    output: Path
