"""A doubt: a reason not to trust the answer for a case before somebody has looked at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Check: TypeAlias = Literal[
    "field of view", "displacement", "SUV scale", "metal", "lesion at the edge", "no lesion"
]
"""The checks, by their names in the log."""


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A doubt about a case.

    Attributes
    ----------
    check : the check that raised the doubt.
    reason : a sentence without a full stop.
    """

    check: Check
    reason: str

    @property
    def line(self) -> str:
        """The line for the log."""
        return f"doubt: {self.check}: {self.reason}"
