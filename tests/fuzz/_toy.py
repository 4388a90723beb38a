"""A kind with one case for each way in which a case can end, for the tests of the core."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.fuzz.core import FuzzCase, Verdict

ENDS = ("answered", "refused", "wrong end", "exception", "death", "no memory", "answered")


def make(rng: np.random.Generator, folder: Path) -> FuzzCase:
    """Draw one of the ends."""
    end = ENDS[int(rng.integers(len(ENDS)))]
    (folder / "case").write_text(end)
    return FuzzCase(folder=folder, what=end, expected="refused" if end == "refused" else "answered")


def judge(case: FuzzCase) -> Verdict:
    """End as the case says."""
    end = (case.folder / "case").read_text()
    if end == "exception":
        raise ZeroDivisionError
    if end == "death":
        os.abort()
    if end == "no memory":
        np.ones(10**9)
    if end == "refused" or end == "wrong end":
        return Verdict.of(case, "refused", "a line")
    return Verdict.of(case, "answered", "")
