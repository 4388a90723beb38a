"""The report's section on HPV status: confusion matrix, ROC curve and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from evaluation.report import charts
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.numbers import KeyPath, Measure, Number, format_number, natural_list
from evaluation.report.task_section import (
    CaseColumn,
    Details,
    Request,
    TaskSection,
    case_column,
)
from evaluation.tasks.hpv import HpvMetrics


@dataclass(frozen=True, kw_only=True)
class HpvDetails(Details):
    """The content that only the section on HPV status has.

    Attributes
    ----------
    confusion : for each true status, the number of patients with a positive decision, with a
        negative decision, and without a decision.
    probabilities : number of patients with a probability.
    bins : the numbers of the calibration, one row per bin.
    classes : the true statuses that occur.
    curves : the figures of the ROC curve and of the calibration, if they are defined.
    """

    confusion: Mapping[bool, Sequence[int]]
    probabilities: int
    bins: Sequence[Sequence[Number]]
    classes: Sequence[bool]
    curves: Sequence[FigureFiles]

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures."""
        return list(self.curves)


class HpvSection(TaskSection[HpvMetrics]):
    """The section of HPV status."""

    title = "HPV status"
    template = "hpv_section.html.j2"
    measures: ClassVar = {
        "balanced_accuracy": Measure("Balanced accuracy"),
        "sensitivity": Measure("Sensitivity"),
        "specificity": Measure("Specificity"),
        "auc": Measure("AUC"),
        "brier": Measure("Brier score", better="lower"),
        "calibration_error": Measure("Calibration error", better="lower"),
    }

    def case_columns(self, metrics: HpvMetrics, keys: KeyPath) -> list[CaseColumn]:
        """Return the predicted probability and the true status, 1 for positive."""
        return [
            case_column("HPV probability", metrics, keys, path=("probability",), digits=3),
            case_column("HPV, true", metrics, keys, path=("truth",), digits=0),
        ]

    def details(self, metrics: HpvMetrics, request: Request) -> HpvDetails:
        """Return the confusion matrix, and the curves if there are probabilities."""
        rows = [(r.probability, r.truth) for r in metrics.results if r.probability is not None]
        curves = []
        if len({truth for _, truth in rows}) == 2:
            auc = format_number(metrics.aggregates["auc"].value, 3)
            curves.append(
                render(
                    "hpv_roc",
                    f"ROC curve of the HPV probability, AUC {auc}.",
                    partial(charts.draw_roc, metrics),
                )
            )
        if rows:
            points = natural_list(
                [
                    f"{each.mean_probability:.2f} predicted, {each.observed_fraction:.2f} observed"
                    for each in metrics.calibration
                ]
            )
            curves.append(
                render(
                    "hpv_calibration",
                    f"Calibration of the HPV probability: {points}.",
                    partial(charts.draw_calibration, metrics.calibration, [p for p, _ in rows]),
                )
            )
        return HpvDetails(
            confusion=confusion(metrics),
            probabilities=len(rows),
            bins=_bins(metrics, request.keys),
            classes=sorted({result.truth for result in metrics.results}),
            curves=curves,
        )


SECTION: Final = HpvSection()


def confusion(metrics: HpvMetrics) -> Mapping[bool, Sequence[int]]:
    """Count the positive, negative and missing decisions for each true status."""
    return {
        truth: [
            sum(r.truth is truth and r.decision is decision for r in metrics.results)
            for decision in (True, False, None)
        ]
        for truth in (True, False)
    }


def _bins(metrics: HpvMetrics, keys: KeyPath) -> list[list[Number]]:
    return [
        [
            Number((*keys, "calibration", index, key), value, format_number(value, digits))
            for key, value, digits in (
                ("patients", each.patients, 0),
                ("mean_probability", each.mean_probability, 3),
                ("observed_fraction", each.observed_fraction, 3),
            )
        ]
        for index, each in enumerate(metrics.calibration)
    ]
