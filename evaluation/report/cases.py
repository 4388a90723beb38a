"""Makes the page of all cases: a table to sort and to filter, with a thumbnail of each case.

The page is one file. Its script only sorts rows and hides some of them; a content security policy
forbids every request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evaluation.report.html import render_page
from evaluation.report.numbers import Number, number_tag
from evaluation.report.sections import Section
from evaluation.report.viewer.pages import CasePage

CASES: Final = "cases.html"


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """A row of the table.

    Attributes
    ----------
    cells : the number in each column; None if the case has none.
    doubts : reasons to look at the case, as the logs state them.
    failures : the tasks in which the case failed, with the reason.
    page : the viewer page; None if there is none.
    """

    case: str
    centre: str
    cells: Sequence[Number | None]
    doubts: Sequence[str]
    failures: Sequence[str]
    page: CasePage | None

    @property
    def doubt_kinds(self) -> list[str]:
        """The doubts without their details, such as "metal"."""
        return sorted({doubt.partition(":")[0] for doubt in self.doubts})


def render_cases(sections: Sequence[Section], *, title: str, report: str) -> str:
    """Return the page.

    Parameters
    ----------
    title : title of the report.
    report : address of the report's page.
    """
    rows = case_rows(sections)
    values = {
        "title": title,
        "report": report,
        "columns": [column.name for section in sections for column in section.case_columns],
        "rows": rows,
        "centres": sorted({row.centre for row in rows if row.centre}),
        "doubts": sorted({kind for row in rows for kind in row.doubt_kinds}),
        "has_pages": any(row.page for row in rows),
    }
    return render_page("cases.html.j2", values=values, functions={"number": number_tag})


def case_rows(sections: Sequence[Section]) -> list[CaseRow]:
    """Return a row for each case that a task has scored, by name."""
    columns = [column for section in sections for column in section.case_columns]
    centres: dict[str, str] = {}
    failures: dict[str, list[str]] = {}
    pages: dict[str, CasePage] = {}
    for section in sections:
        for result in section.metrics.results:
            centres[result.case_id] = result.centre or centres.get(result.case_id, "")
            if result.failure is not None:
                words = f"{section.title}: {result.failure}"
                failures.setdefault(result.case_id, []).append(words)
        pages |= section.details.case_pages()
    doubts = {doubt for section in sections for doubt in section.doubts}
    return [
        CaseRow(
            case=case,
            centre=centre,
            cells=[column.numbers.get(case) for column in columns],
            doubts=sorted(doubt.reason for doubt in doubts if doubt.case == case),
            failures=failures.get(case, []),
            page=pages.get(case),
        )
        for case, centre in sorted(centres.items(), key=lambda item: item[0].casefold())
    ]
