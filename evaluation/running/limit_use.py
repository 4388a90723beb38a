"""How much of each limit the cases of a run used.

Time, memory and CPUs are measured; the memory of the GPU only if there is a GPU. The mode is only
stated, because it is not an amount.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from evaluation.running.job_store import JobRecord
from evaluation.running.limits import Limits

WARN_FROM: Final = 0.5
"""A case that uses at least this share of a limit is named in a warning: the platform's machine may
be slower than this one, and hidden cases may be larger."""
MOST_NAMED: Final = 5
"""Largest number of cases that a warning names; more would hide the message."""


@dataclass(frozen=True, kw_only=True)
class LimitUse:
    """How much of one limit the cases used.

    Attributes
    ----------
    limit : name of the limit.
    unit : unit of the amounts.
    allowed : the limit.
    used : the amount that each case used, by case; at least one.
    digits : decimals of the amounts in words.
    warns : whether there is a warning for cases near the limit. There is none for CPUs, because a
        case should use all of them.
    """

    limit: str
    unit: str
    allowed: float
    used: Mapping[str, float]
    digits: int
    warns: bool = True

    @property
    def largest_case(self) -> str:
        """The case that used most."""
        return max(self.used, key=lambda case: self.used[case])

    @property
    def largest(self) -> str:
        """The largest amount in words."""
        return self._in_words(self.used[self.largest_case])

    @property
    def median(self) -> str:
        """The median amount in words."""
        return self._in_words(statistics.median(self.used.values()))

    @property
    def limit_in_words(self) -> str:
        """The limit with its unit."""
        return f"{self.allowed:.4g} {self.unit}"

    @property
    def share(self) -> str:
        """The largest amount in percent of the limit."""
        return f"{100 * self.used[self.largest_case] / self.allowed:.0f} %"

    @property
    def warning(self) -> str | None:
        """A sentence that names the cases near the limit; None if no warning is needed."""
        if not self.warns:
            return None
        cases = [case for case, used in self.used.items() if used >= WARN_FROM * self.allowed]
        if not cases:
            return None
        names = ", ".join(cases[:MOST_NAMED]) + (", …" if len(cases) > MOST_NAMED else "")
        count = f"{len(cases)} case{'s' if len(cases) > 1 else ''}"
        return f"{count} used half of the {self.limit} limit or more: {names}"

    def __str__(self) -> str:
        """Return the largest use in words."""
        return (
            f"{self.limit}: at most {self.largest} of {self.limit_in_words} ({self.share}), "
            f"in the case {self.largest_case}"
        )

    def _in_words(self, amount: float) -> str:
        return f"{amount:.{self.digits}f} {self.unit}"


def limit_uses(records: Sequence[JobRecord], limits: Limits) -> list[LimitUse]:
    """Return how much of each limit the cases used, if known; an empty list without cases.

    The CPUs that a case used are its CPU time divided by its duration.
    """
    seconds = {record.case: record.seconds for record in records}
    cpus = {r.case: _ratio(r.cpu_seconds, r.seconds) for r in records}
    memory = {record.case: record.peak_memory_gb for record in records}
    gpu_memory = {record.case: record.peak_gpu_memory_gb for record in records}
    gpu_gb = limits.gpu_memory_gib * 2**30 / 1e9
    uses = [
        LimitUse(limit="time", unit="s", allowed=limits.time_s, used=seconds, digits=1),
        LimitUse(
            limit="memory",
            unit="GB",
            allowed=limits.memory_bytes / 1e9,
            used=_known(memory),
            digits=2,
        ),
        LimitUse(
            limit="CPU",
            unit="CPUs",
            allowed=limits.cpus,
            used=_known(cpus),
            digits=1,
            warns=False,
        ),
        LimitUse(limit="GPU memory", unit="GB", allowed=gpu_gb, used=_known(gpu_memory), digits=2),
    ]
    return [use for use in uses if use.used]


def describe_use(name: str, records: Sequence[JobRecord], limits: Limits) -> list[str]:
    """Return lines that state the mode, the use of each limit, and warnings; none without cases."""
    uses = limit_uses(records, limits)
    if not uses:
        return []
    lines = [f"mode: {limits.mode}", *map(str, uses)]
    lines += [f"WARNING: {use.warning}" for use in uses if use.warning]
    return [f"{name}: {line}" for line in lines]


def _known(amounts: Mapping[str, float | None]) -> dict[str, float]:
    return {case: amount for case, amount in amounts.items() if amount is not None}


def _ratio(cpu_seconds: float | None, seconds: float) -> float | None:
    return None if cpu_seconds is None or not seconds else cpu_seconds / seconds
