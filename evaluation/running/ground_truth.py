"""Writes the evaluation's ground truth from the `truth.*` files of case folders.

The masks are links to the files of the cases.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from evaluation.running.case_folders import CaseError, CaseFolder
from evaluation.tasks.discovery import SCORINGS
from evaluation.truth import MASKS, TABLE
from shared.editions import CURRENT, Edition
from shared.files import locked
from shared.tasks import Input

GROUND_TRUTH: Final = "ground_truth"
"""Name of the folder of the ground truth in the results folder."""
TASK_COLUMNS: Final = {
    column: key for scoring in SCORINGS.values() for column, key in scoring.truth_columns.items()
}
"""For each column of the table that holds the truth of a task, the key of `truth.json`."""
COLUMNS: Final = ("PatientID", "CenterID", "FieldOfView", *TASK_COLUMNS)


def write_ground_truth(
    cases: Sequence[CaseFolder], folder: Path, edition: Edition = CURRENT
) -> Path:
    """Write the truth of the cases to a folder, in place of an earlier ground truth.

    The old folder stays until the new one is complete. During this time, a lock keeps other runs
    from writing it.

    The `truth.json` of a case may have `relapse`, `rfs_days`, `hpv`, the keys of tasks that are
    added later, and the `facts` of a phantom, which state the field of view. The centre comes from
    the health record.

    Raises
    ------
    CaseError
        If a `truth.json` is not a JSON object.
    """
    folder = folder.resolve()
    # In the same parent folder, so that relative links stay valid when the folder is renamed.
    draft, old = (folder.with_name(f".{folder.name}.{what}") for what in ("draft", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for leftover in (draft, old):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        _write(cases, draft, edition.ehr)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _write(cases: Sequence[CaseFolder], folder: Path, ehr: Input) -> None:
    (folder / MASKS).mkdir(parents=True)
    rows = []
    for case in cases:
        if case.truth is not None:
            (folder / MASKS / f"{case.name}.nii.gz").symlink_to(
                os.path.relpath(case.truth, (folder / MASKS).resolve())
            )
        truth = _read(case.input.parent / "truth.json")
        # A case without truth also gets a row, because the evaluation refuses a job whose case is
        # neither in the table nor among the masks.
        rows.append(_row(case, truth, ehr))
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _row(case: CaseFolder, truth: Mapping[str, Any], ehr: Input) -> dict[str, object]:
    whole_body = truth.get("facts", {}).get("whole_body")
    try:
        centre = _read(case.input / ehr.path).get("CenterID")
    except CaseError:  # The algorithm reports an unreadable record.
        centre = None
    values = (
        case.name,
        centre,
        None if whole_body is None else ("whole_body" if whole_body else "head_neck"),
        *(_cell(truth.get(key)) for key in TASK_COLUMNS.values()),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _cell(value: object) -> object:
    """Return a value as the challenge's tables hold it: 0 or 1 instead of false or true."""
    return int(value) if isinstance(value, bool) else value


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CaseError(f"expected a JSON object in {path}, found something else; correct the file")
    return content
