"""Functions that replace the scoring of a mask and end their process; each process imports them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.tasks import segmentation
from evaluation.tasks.base import Entry


def crash_or_exhaust(entry: Entry[Path], **options: Any) -> Any:
    """Crash with the mask of MDA-000, and need too much memory with the mask of CHUP-001."""
    if entry.failure is None and entry.case.case_id == "MDA-000":
        os.kill(os.getpid(), signal.SIGSEGV)
    if entry.failure is None and entry.case.case_id == "CHUP-001":
        np.ones(10**9)
    return segmentation._score_case(entry, **options)


def crash(entry: Entry[Path], **options: Any) -> Any:
    """Crash with every case, even with a case that has already failed."""
    os.kill(os.getpid(), signal.SIGSEGV)
