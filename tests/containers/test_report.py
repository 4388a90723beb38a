"""The report has the right counts, and its JUnit XML is well formed."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from evaluation.running.job_store import JobRecord
from evaluation.running.limits import current_profile
from tests.containers.checks import Check
from tests.containers.report import Group, Report

LIMITS = current_profile().limits


def group(container: str, name: str, checks: list[Check], seconds: float, **options: Any) -> Group:
    return Group(container=container, name=name, checks=checks, seconds=seconds, **options)


def record(case: str, seconds: float, **measured: Any) -> JobRecord:
    values: dict[str, Any] = {"peak_memory_gb": None, "reason": None, **measured}
    return JobRecord(case=case, status="Succeeded", seconds=seconds, **values)


def example() -> tuple[Report, io.StringIO]:
    stream = io.StringIO()
    report = Report(stream)
    report.add(group("task1_segmentation", "image", [Check("build")], 20.0, note="0.6 GB"))
    report.add(
        group(
            "task1_segmentation",
            "whole_body",
            [Check("exit code"), Check("truth", "GTVp: expected <0.9>\nfound \x1b[31m0.8")],
            4.25,
            limits=LIMITS,
            record=record("whole_body", 4.25, peak_memory_gb=1.234, cpu_seconds=8.5),
            dsc={"GTVp": 0.8, "GTVn": 1.0},
            logs=Path("logs/whole_body"),
        )
    )
    report.add(
        group(
            "task3_hpv",
            "whole_body",
            [Check("exit code")],
            301.0,
            limits=LIMITS,
            record=record("whole_body", 301.0),
        )
    )
    return report, stream


def test_failures_are_printed_with_their_logs() -> None:
    report, stream = example()
    assert report.counts == (3, 1)
    text = stream.getvalue()
    assert "truth: GTVp: expected <0.9>" in text
    assert "see logs/whole_body" in text


def test_table_has_one_row_per_case_but_none_for_images() -> None:
    report, stream = example()
    stream.truncate(0)
    stream.seek(0)
    report.print_table()
    header, _, *rows = stream.getvalue().strip().splitlines()
    assert header.split() == (
        [
            "container",
            "case",
            "checks",
            "seconds",
            "limit",
            "peak",
            "GB",
            "DSC",
            "GTVp",
            "DSC",
            "GTVn",
        ]
    )
    assert rows[0].split() == (
        ["task1_segmentation", "whole_body", "1", "failed", "4.2", "600", "1.23", "0.80", "1.00"]
    )
    assert len(rows) == 2


def test_use_of_each_limit_is_printed_with_a_warning_from_half_of_it() -> None:
    report, stream = example()
    stream.truncate(0)
    stream.seek(0)
    report.print_limits()
    assert stream.getvalue().strip().splitlines() == [
        "task1_segmentation: mode: exec",
        "task1_segmentation: time: at most 4.2 s of 600 s (1 %), in the case whole_body",
        "task1_segmentation: memory: at most 1.23 GB of 16.11 GB (8 %), in the case whole_body",
        "task1_segmentation: CPU: at most 2.0 CPUs of 4 CPUs (50 %), in the case whole_body",
        "",
        "task3_hpv: mode: exec",
        "task3_hpv: time: at most 301.0 s of 600 s (50 %), in the case whole_body",
        "task3_hpv: WARNING: 1 case used half of the time limit or more: whole_body",
    ]


def test_junit_xml_is_valid_and_complete(tmp_path: Path) -> None:
    report, _ = example()
    report.write_junit(tmp_path / "new" / "report.xml")
    root = ET.parse(tmp_path / "new" / "report.xml").getroot()
    assert root.tag == "testsuites"
    assert (root.get("tests"), root.get("failures")) == ("4", "1")
    assert [suite.get("name") for suite in root] == ["task1_segmentation", "task3_hpv"]
    (failure,) = root.iter("failure")
    assert failure.get("message") == "GTVp: expected <0.9>"
    assert "found ?[31m0.8" in (failure.text or "")
    (case,) = (c for c in root.iter("testcase") if c.find("failure") is not None)
    assert (case.get("classname"), case.get("name")) == ("task1_segmentation.whole_body", "truth")
