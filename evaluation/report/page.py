"""Puts the page together from its sections and a template.

The page is one file: its style is inline, its figures are embedded, it has no script, and a content
security policy forbids every request. It links to the page of all cases, and to the viewer pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from evaluation.metrics_io import METRICS
from evaluation.report.cases import CASES, render_cases
from evaluation.report.html import render_page
from evaluation.report.numbers import format_number, number_tag
from evaluation.report.sections import Section, read_sections
from evaluation.report.task_section import Sources
from evaluation.report.viewer.pages import Viewers
from shared.editions import CURRENT, Edition
from shared.errors import InputError

PAGE: Final = "report.html"
FIGURES: Final = "figures"


def write_report(
    sources: Sources,
    out: Path,
    *,
    title: str,
    count: int,
    viewers: Viewers | None = None,
    edition: Edition = CURRENT,
) -> Path:
    """Write the page, its figures and the page of all cases to a folder; return the page's path.

    Parameters
    ----------
    title : title of the page.
    count : number of worst cases, and of best cases, with pictures.
    viewers : writes the interactive pages of the cases; None for no pages.

    Raises
    ------
    InputError
        If no algorithm's jobs have been scored, or the viewer is not installed.
    """
    sections = read_sections(sources, count=count, viewers=viewers, edition=edition)
    if not sections:
        raise InputError(
            f"expected the {METRICS} of at least one algorithm in {sources.results}, such as "
            f"{edition.algorithms[0].name}/{METRICS}, found none; run `python -m evaluation score` "
            "first"
        )
    text = _render_page(sections, title)
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for section in sections:
        for figure in section.figures:
            (out / FIGURES / f"{figure.name}.png").write_bytes(figure.png)
    cases = render_cases(sections, title=title, report=PAGE)
    (out / CASES).write_text(cases, encoding="utf-8")
    (out / PAGE).write_text(text, encoding="utf-8")
    return out / PAGE


def _render_page(sections: list[Section], title: str) -> str:
    values = {
        "title": title,
        "cases": CASES,
        "has_pages": any(section.details.case_pages() for section in sections),
        "sections": sections,
        "failures": [failure for section in sections for failure in section.failures],
        "doubts": sorted({doubt for section in sections for doubt in section.doubts}),
        "rules": sections[0].metrics.rules,
        "notices": sorted({notice for section in sections for notice in section.notices}),
    }
    return render_page(
        "page.html.j2", values=values, functions={"number": number_tag, "write": format_number}
    )
