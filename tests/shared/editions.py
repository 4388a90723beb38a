"""Editions that differ from this year's, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from shared.editions import Edition


def with_risk_sign(edition: Edition, sign: Literal[1, -1]) -> Edition:
    """Return an edition whose risk has a given sign."""
    algorithms = tuple(
        replace(each, outputs=tuple(replace(output, risk_sign=sign) for output in each.outputs))
        for each in edition.algorithms
    )
    return replace(edition, algorithms=algorithms)
