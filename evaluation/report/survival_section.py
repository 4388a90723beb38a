"""The report's section on survival: curves of risk groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from evaluation.report import charts
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.numbers import KeyPath, Measure, format_p_value, natural_list
from evaluation.report.risk import RiskGroups, risk_groups
from evaluation.report.task_section import (
    CaseColumn,
    Details,
    Request,
    TaskSection,
    case_column,
)
from evaluation.tasks.survival import SurvivalMetrics


@dataclass(frozen=True, kw_only=True)
class SurvivalDetails(Details):
    """The content that only the section on survival has.

    Attributes
    ----------
    p_value : the p-value of the log-rank test as text; None without a test.
    events : number of patients with a recurrence.
    curves : the figure; None if no patient has a risk.
    """

    groups: RiskGroups
    p_value: str | None
    events: int
    curves: FigureFiles | None

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures."""
        return [self.curves] if self.curves else []


class SurvivalSection(TaskSection[SurvivalMetrics]):
    """The section of survival."""

    title = "Recurrence-free survival"
    template = "survival_section.html.j2"
    measures: ClassVar = {
        "c_index": Measure("C-index"),
        "auc_2_years": Measure("AUC at 2 years"),
        "auc_5_years": Measure("AUC at 5 years"),
    }

    def case_columns(self, metrics: SurvivalMetrics, keys: KeyPath) -> list[CaseColumn]:
        """Return the predicted risk, the days of follow-up, and the outcome, 1 for a recurrence."""
        return [
            case_column("Risk", metrics, keys, path=("risk",), digits=3),
            case_column("Days", metrics, keys, path=("time_days",), digits=0),
            case_column("Recurrence", metrics, keys, path=("event",), digits=0),
        ]

    def details(self, metrics: SurvivalMetrics, request: Request) -> SurvivalDetails:
        """Return the curves of the risk groups."""
        groups = risk_groups(metrics.results)
        figure = None
        if groups.curves:
            counts = [
                f"{curve.name}, {curve.events} of {curve.patients} recurred"
                for curve in groups.curves
            ]
            figure = render(
                "survival_curves",
                "Kaplan-Meier curves of recurrence-free survival by group of predicted risk: "
                f"{natural_list(counts)}.",
                partial(charts.draw_survival, groups),
            )
        return SurvivalDetails(
            groups=groups,
            p_value=None if groups.p_value is None else format_p_value(groups.p_value),
            events=sum(result.event for result in metrics.results),
            curves=figure,
        )


SECTION: Final = SurvivalSection()
