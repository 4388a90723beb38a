"""Reads the ground truth: the folder that the platform unpacks from the organisers' tarball.

::

    ground_truth/
      patients.csv               one row per patient
      masks/<PatientID>.nii.gz   (or .mha) only for segmentation: the label map on the CT's grid

`patients.csv` has the columns of the challenge's own tables: `PatientID`, `CenterID` and the
columns of each task (`Relapse`: 1 recurrence, 0 censored; `RFS`: recurrence-free survival in days;
`HPV Status`: 1 positive, 0 negative). It has one more column, `FieldOfView` (head_neck or
whole_body). All columns but `PatientID` may be absent or empty. Segmentation needs no table.
Without a `CenterID`, the centre is read from the patient's ID (`MDA-001`). Without a `FieldOfView`,
the field of view follows from the extent of the mask's image along the body.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, get_args

import numpy as np

from evaluation.case_name import case_name
from evaluation.images import read_grid
from evaluation.schema import FieldOfView
from shared.errors import InputError

TABLE: Final = "patients.csv"
MASKS: Final = "masks"
MASK_SUFFIXES: Final = (".nii.gz", ".mha")
WHOLE_BODY_MM: Final = 600.0
"""Images that are at least this long along the body count as whole-body. Scans of head and neck are
300 to 500 mm long, scans from skull to thigh 900 mm or more."""
CENTRES: Final = {
    1: "CHUM", 2: "CHUP", 3: "CHUS", 4: "CHUV", 5: "MDA", 6: "HGJ", 7: "HMR", 8: "USZ",
}  # fmt: skip
"""Names of the centres by the organisers' CenterID. The test data also have centres that are not in
this table; their number is part of their name, such as "centre 9"."""
_YES_NO: Final = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_MISSING: Final = frozenset({"", "nan", "na", "n/a", "none", "null"})


@dataclass(frozen=True, kw_only=True)
class CaseTruth:
    """The ground truth of a case; unknown values are None.

    Attributes
    ----------
    centre : name of the hospital.
    field_of_view : from the table, else from the length of the mask's image.
    mask : path of the true label map.
    row : the case's row of the table, by column; empty if the table has no row for the case. Each
        task reads its own columns.
    """

    case_id: str
    centre: str | None = None
    field_of_view: FieldOfView | None = None
    mask: Path | None = None
    row: Mapping[str, str] = field(default_factory=dict)

    def flag(self, column: str) -> bool | None:
        """Return the value of a column with 0 or 1 (false or true); None if absent, empty or n/a.

        Raises
        ------
        InputError
            If the column holds something else.
        """
        return _flag(self.case_id, self.row, column)

    def number(self, column: str) -> float | None:
        """Return the value of a column with a finite number; None if absent, empty or n/a.

        Raises
        ------
        InputError
            If the column holds something else.
        """
        return _number(self.case_id, self.row, column)


def read_truth(folder: Path) -> dict[str, CaseTruth]:
    """Return the truth of each case by its ID, sorted; the ID of a case is the patient's ID.

    The columns of a task are checked when the task reads them.

    Raises
    ------
    InputError
        If there is neither a table nor a mask, a patient has two rows or two masks, a row has no
        `PatientID`, or `CenterID` or `FieldOfView` is invalid.
    """
    masks = _masks(folder / MASKS)
    rows = _rows(folder / TABLE)
    if not masks and not rows:
        raise InputError(
            f"expected {TABLE} or {MASKS}/<PatientID>.nii.gz in {folder}, found neither; "
            "put at least one of them there (on the platform: at the root of the tarball)"
        )
    return {
        case_id: _case_truth(case_id, rows.get(case_id, {}), masks.get(case_id))
        for case_id in sorted(masks.keys() | rows.keys())
    }


def _masks(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.endswith(MASK_SUFFIXES):
            continue
        case_id = case_name(path.name)
        if case_id in masks:
            raise InputError(
                f"expected one mask for the case {case_id}, found {masks[case_id]} and {path}; "
                "remove one of them"
            )
        masks[case_id] = path
    return masks


def _rows(path: Path) -> dict[str, Mapping[str, str]]:
    if not path.is_file():
        return {}
    rows: dict[str, Mapping[str, str]] = {}
    # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            case_id = (row.get("PatientID") or "").strip()
            if not case_id or case_id in rows:
                problem = f"'{case_id}' twice" if case_id else "a row without one"
                raise InputError(
                    f"expected a PatientID of its own in each row of {path}, found {problem}; "
                    "correct the table"
                )
            rows[case_id] = {name: (value or "").strip() for name, value in row.items() if name}
    return rows


def _case_truth(case_id: str, row: Mapping[str, str], mask: Path | None) -> CaseTruth:
    return CaseTruth(
        case_id=case_id,
        centre=_centre(case_id, _number(case_id, row, "CenterID")),
        field_of_view=_field_of_view(case_id, _value(row, "FieldOfView"), mask),
        mask=mask,
        row=row,
    )


def _value(row: Mapping[str, str], column: str) -> str | None:
    text = row.get(column, "")
    return None if text.lower() in _MISSING else text


def _flag(case_id: str, row: Mapping[str, str], column: str) -> bool | None:
    text = _value(row, column)
    if text is None:
        return None
    if text.lower() not in _YES_NO:
        raise _invalid(case_id, column, "0 or 1", text)
    return _YES_NO[text.lower()]


def _number(case_id: str, row: Mapping[str, str], column: str) -> float | None:
    text = _value(row, column)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _invalid(case_id, column, "a number", text)
    return number


def _field_of_view(case_id: str, text: str | None, mask: Path | None) -> FieldOfView | None:
    if text is None:
        if mask is None:
            return None
        is_long = float(np.ptp(read_grid(mask).corners_mm()[:, 2])) >= WHOLE_BODY_MM
        return "whole_body" if is_long else "head_neck"
    names: tuple[FieldOfView, ...] = get_args(FieldOfView)
    for name in names:
        if text == name:
            return name
    raise _invalid(case_id, "FieldOfView", " or ".join(names), text)


def _centre(case_id: str, centre_id: float | None) -> str | None:
    if centre_id is not None:
        return CENTRES.get(int(centre_id), f"centre {centre_id:g}")
    match = re.fullmatch(r"([A-Z]+)-\d+", case_id)
    return match[1] if match else None


def _invalid(case_id: str, column: str, expected: str, text: str) -> InputError:
    return InputError(
        f"expected {expected} for {column} of {case_id} in {TABLE}, found '{text}'; "
        "correct the table"
    )
