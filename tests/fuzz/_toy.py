"""For the tests of the core: a kind whose cases end in every possible way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from tests.fuzz.core import FuzzCase, Verdict

ENDS = ("answered", "refused", "wrong end", "exception", "death", "no memory", "answered")


def make(rng: np.random.Generator, folder: Path) -> FuzzCase:
    """Write a case that ends in a random way."""
    end = ENDS[int(rng.integers(len(ENDS)))]
    (folder / "case").write_text(end)
    return FuzzCase(folder=folder, what=end, expected="refused" if end == "refused" else "answered")


def judge(case: FuzzCase) -> Verdict:
    """End in the way that the case states."""
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
