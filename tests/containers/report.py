"""Reports: progress and a table for the user, JUnit XML for machines."""

from __future__ import annotations

import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from evaluation.running.job_store import JobRecord
from evaluation.running.limit_use import describe_use
from evaluation.running.limits import Limits
from tests.containers.checks import Check
from tests.containers.contract import LABELS

_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


@dataclass(frozen=True, kw_only=True)
class Group:
    """The checks of one step, such as building an image, running a case or rejecting bad inputs.

    Attributes
    ----------
    container, name : the container, and the name of the step.
    checks : the checks in order; there is at least one.
    seconds : duration of the step or, for a case, of the first run.
    limits : limits of the run; None if the step has no row in the table.
    record : how much of the limits the run used; None if `limits` is None.
    dsc : DSC with the truth, by label; empty if there is no truth.
    note : text at the end of the printed line.
    logs : folder of the logs.
    """

    container: str
    name: str
    checks: Sequence[Check]
    seconds: float
    limits: Limits | None = None
    record: JobRecord | None = None
    dsc: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    logs: Path | None = None

    @property
    def failures(self) -> list[Check]:
        """The checks that found a problem."""
        return [check for check in self.checks if not check.passed]


class Report:
    """Collects groups of checks, and prints each group as soon as it is added."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = self._stream.isatty() and "NO_COLOR" not in os.environ
        self.groups: list[Group] = []

    @property
    def counts(self) -> tuple[int, int]:
        """Number of checks that passed, and that failed."""
        failed = sum(len(group.failures) for group in self.groups)
        return sum(len(group.checks) for group in self.groups) - failed, failed

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def add(self, group: Group) -> None:
        """Keep a group, and print a line about it, its problems and the folder of its logs."""
        if not self.groups or self.groups[-1].container != group.container:
            self.say(f"\n{group.container}")
        self.groups.append(group)
        passed = len(group.checks) - len(group.failures)
        count = f"{passed}/{len(group.checks)}"
        line = f"  {self._verdict(group)}  {group.name:<20} {count:>6} {group.seconds:6.1f} s"
        self.say(f"{line}  {group.note}".rstrip())
        for check in group.failures:
            self.say(
                f"          {check.name}: " + (check.problem or "").replace("\n", "\n" + 12 * " ")
            )
        if group.failures and group.logs is not None:
            self.say(f"          see {_relative(group.logs)}")

    def print_table(self) -> None:
        """Print one row for each step with a time limit: cases and runs of the evaluation."""
        header = (
            "container",
            "case",
            "checks",
            "seconds",
            "limit",
            "peak GB",
            *(f"DSC {n}" for n in LABELS),
        )
        rows = [
            (
                group.container,
                group.name,
                f"{len(group.failures)} failed" if group.failures else "passed",
                f"{group.seconds:.1f}",
                str(group.limits.time_s),
                _number(group.record.peak_memory_gb if group.record else None),
                *(_number(group.dsc.get(label)) for label in LABELS),
            )
            for group in self.groups
            if group.limits is not None
        ]
        if not rows:
            return
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        self.say()
        for row in (header, tuple("-" * width for width in widths), *rows):
            words = (
                f"{w:<{n}}" if i < 3 else f"{w:>{n}}"
                for i, (w, n) in enumerate(zip(row, widths, strict=True))
            )
            self.say("  ".join(words).rstrip())

    def print_limits(self) -> None:
        """Print how much of each limit the cases of each container used, with warnings."""
        groups = [group for group in self.groups if group.limits and group.record]
        for container in dict.fromkeys(group.container for group in groups):
            of_container = [group for group in groups if group.container == container]
            records = [group.record for group in of_container if group.record]
            limits = next(group.limits for group in of_container if group.limits)
            self.say()
            for line in describe_use(container, records, limits):
                self.say(line)

    def write_junit(self, path: Path) -> None:
        """Write all checks as JUnit XML: one suite per container, one test case per check."""
        passed, failed = self.counts
        root = ET.Element("testsuites", tests=str(passed + failed), failures=str(failed))
        for container in dict.fromkeys(group.container for group in self.groups):
            groups = [group for group in self.groups if group.container == container]
            suite = ET.SubElement(
                root,
                "testsuite",
                name=container,
                tests=str(sum(len(group.checks) for group in groups)),
                failures=str(sum(len(group.failures) for group in groups)),
                errors="0",
                time=f"{sum(group.seconds for group in groups):.3f}",
            )
            for group in groups:
                _add_cases(suite, group)
        path.parent.mkdir(parents=True, exist_ok=True)
        ET.indent(root)
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)

    def _verdict(self, group: Group) -> str:
        word, code = ("FAILED", 31) if group.failures else ("passed", 32)
        return f"\x1b[{code}m{word}\x1b[0m" if self._colour else word


def _add_cases(suite: ET.Element, group: Group) -> None:
    name = f"{group.container}.{group.name}"
    # The time is known only for the whole step, so the first check of the step states it.
    times: Iterable[float] = (group.seconds, *(0.0 for _ in group.checks[1:]))
    for check, seconds in zip(group.checks, times, strict=True):
        case = ET.SubElement(
            suite, "testcase", classname=name, name=check.name, time=f"{seconds:.3f}"
        )
        if check.problem is not None:
            problem = _NOT_IN_XML.sub("?", check.problem)
            failure = ET.SubElement(case, "failure", message=problem.splitlines()[0])
            failure.text = f"{problem}\n{group.logs or ''}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _relative(path: Path) -> Path:
    folder = Path.cwd()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
