"""The report has the right counts, and its JUnit XML is well formed."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from tests.containers.checks import Check
from tests.containers.report import Group, Report


def group(container: str, name: str, checks: list[Check], seconds: float, **options: Any) -> Group:
    return Group(container=container, name=name, checks=checks, seconds=seconds, **options)


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
            limit_s=600,
            peak_gb=1.234,
            dsc={"GTVp": 0.8, "GTVn": 1.0},
            logs=Path("logs/whole_body"),
        )
    )
    report.add(group("task3_hpv", "whole_body", [Check("exit code")], 1.0, limit_s=600))
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
