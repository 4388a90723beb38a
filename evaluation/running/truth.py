"""Makes the evaluation's ground truth from case folders, where they hold `truth.*`.

The masks are links: the cases stay where they are.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from evaluation.running.cases import Case, CaseError
from evaluation.truth import MASKS, TABLE
from shared.files import locked

GROUND_TRUTH: Final = "ground_truth"
"""Its folder in the folder of a run."""
COLUMNS: Final = ("PatientID", "CenterID", "FieldOfView", "Relapse", "RFS", "HPV Status")


def write_ground_truth(cases: Sequence[Case], folder: Path) -> Path:
    """Write what the cases tell of their truth to a folder, in place of the earlier one.

    It is replaced once the new one is whole, and by one run at a time.

    `truth.json` holds `relapse`, `rfs_days` and `hpv`, and may hold the phantoms' `facts`; the
    centre is the health record's.

    Raises
    ------
    CaseError
        If a `truth.json` is none.
    """
    folder = folder.resolve()
    # Made beside it, so that a relative link from the one is good from the other.
    draft, old = (folder.with_name(f".{folder.name}.{what}") for what in ("draft", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for left in (draft, old):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        _write(cases, draft)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _write(cases: Sequence[Case], folder: Path) -> None:
    (folder / MASKS).mkdir(parents=True)
    rows = []
    for case in cases:
        if case.truth is not None:
            (folder / MASKS / f"{case.name}.nii.gz").symlink_to(
                os.path.relpath(case.truth, (folder / MASKS).resolve())
            )
        truth = _read(case.input.parent / "truth.json")
        rows.append(_row(case, truth))  # also where nothing is known: the case has a job
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _row(case: Case, truth: Mapping[str, Any]) -> dict[str, object]:
    whole_body = truth.get("facts", {}).get("whole_body")
    hpv = truth.get("hpv")
    try:
        centre = _read(case.input / "ehr.json").get("CenterID")
    except CaseError:  # the algorithm's to complain of
        centre = None
    values = (
        case.name,
        centre,
        None if whole_body is None else ("whole_body" if whole_body else "head_neck"),
        truth.get("relapse"),
        truth.get("rfs_days"),
        None if hpv is None else int(hpv),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CaseError(f"expected a JSON object in {path}, found something else; mend it")
    return found
