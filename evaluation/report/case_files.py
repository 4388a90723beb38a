"""Where the files of a scored case are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class CaseFiles:
    """Where the files of a case are.

    Attributes
    ----------
    case_input : the case's input folder in the platform's layout.
    truth : the true label map.
    output : folder of the job's outputs.
    """

    case_input: Path
    truth: Path
    output: Path
