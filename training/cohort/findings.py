"""Findings: the reasons why patients cannot be used for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from shared.schema import Strict

Problem: TypeAlias = Literal[
    "duplicate ID", "missing file", "unreadable", "other grid", "unknown label", "unusable"
]


class Finding(Strict):
    """The reason why one patient cannot be used for training."""

    patient_id: str
    problem: Problem
    detail: str


def table_of(findings: Sequence[Finding]) -> str:
    """Return findings as a text table, one finding per line."""
    lines = [("patient", "problem", "detail")]
    lines += [(f.patient_id, f.problem, f.detail) for f in findings]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in lines)
