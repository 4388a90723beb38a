"""What an algorithm of this repository says of a case in its log, beside what it writes."""

from __future__ import annotations

import re


def peak_memory_gb(stdout: str) -> float | None:
    """Return the peak memory that the last line states, in GB, or None where it states none."""
    last = (stdout.strip().splitlines() or [""])[-1]
    match = re.search(r"peak memory (\d+(?:\.\d+)?) GB", last)
    return float(match[1]) if match else None


def hpv_probability(stdout: str) -> float | None:
    """Return the probability of HPV-positive disease that Task 3 logs, or None where it does not.

    The platform is given the decision alone; the log has three decimals of what led to it.
    """
    found = re.findall(r"^HPV: .*\bprobability ([01]\.\d+)", stdout, flags=re.MULTILINE)
    return float(found[-1]) if found else None


def last_line(text: str) -> str | None:
    """Return the last line that is not blank: of stderr, what the platform shows its user."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None
