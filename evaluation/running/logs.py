"""Reads what an algorithm of this repository says about a case in its log."""

from __future__ import annotations

import re


def peak_memory_gb(stdout: str) -> float | None:
    """Return the peak memory in GB that the last line states, or None if it states none."""
    return _number_in_last_line(r"peak memory (\d+(?:\.\d+)?) GB", stdout)


def cpu_seconds(stdout: str) -> float | None:
    """Return the CPU time in seconds that the last line states, or None if it states none."""
    return _number_in_last_line(r"CPU time (\d+(?:\.\d+)?) s", stdout)


def hpv_probability(stdout: str) -> float | None:
    """Return the logged probability of HPV-positive disease, or None if there is none.

    The platform receives only the decision; the log has the probability with three decimals.
    """
    matches = re.findall(r"^HPV: .*\bprobability ([01]\.\d+)", stdout, flags=re.MULTILINE)
    return float(matches[-1]) if matches else None


def doubts(stdout: str) -> list[str]:
    """Return the reasons to look at the case that the log names, in its order."""
    return re.findall(r"^doubt: (.+)$", stdout, flags=re.MULTILINE)


def last_line(text: str) -> str | None:
    """Return the last line that is not blank; the platform shows the last line of stderr."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def _number_in_last_line(pattern: str, text: str) -> float | None:
    match = re.search(pattern, last_line(text) or "")
    return float(match[1]) if match else None
