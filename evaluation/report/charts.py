"""Draws the charts: scores by group, survival, ROC, calibration, DSC against volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from evaluation.report.figure_style import BLUE, GREEN, INK, ORANGE, PALE, VERMILION
from evaluation.report.numbers import Measure, format_number, format_p_value
from evaluation.report.risk import Curve, RiskGroups
from evaluation.schema import Estimate, Group
from evaluation.tasks.hpv import HpvMetrics
from evaluation.tasks.segmentation import SegmentationMetrics
from shared.metrics.calibration import CalibrationBin

CURVE_STYLES = {
    "low risk": (BLUE, "-"),
    "middle risk": (ORANGE, "--"),
    "high risk": (VERMILION, "-."),
}
LABEL_STYLES = {"GTVp": (GREEN, "o"), "GTVn": (ORANGE, "^")}


def draw_forest(
    overall: Mapping[str, Estimate],
    groups: Sequence[tuple[str, Sequence[tuple[str, Group]]]],
    scores: Mapping[str, Measure],
) -> Figure:
    """Draw scores of groups with their intervals, one column per score, one row per group.

    Parameters
    ----------
    overall : the scores of all patients, drawn as a line down the column.
    groups : kinds of groups in words, each with the groups by name.
    scores : the scores to draw.
    """
    rows: list[tuple[str, Group | None]] = []
    for kind, members in groups:
        rows += [(kind, None), *members]
    height = 0.62 + 0.27 * len(rows)
    figure = Figure(figsize=(2.6 + 2.3 * len(scores), height), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axis, (score, measure) in zip(axes, scores.items(), strict=True):
        whole = overall[score]
        if whole.value is not None:
            axis.axvline(whole.value, color=PALE, linewidth=1.5, zorder=0)
        for row, (_, group) in enumerate(rows):
            if group is not None:
                _interval(axis, group.aggregates[score], row)
        axis.set_title(measure.name, fontsize=10)
        if measure.scale is not None:
            axis.set_xlim(-0.03, 1.03)
            axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    names = [name if group is None else f"{name}  (n = {group.patients})" for name, group in rows]
    axes[0].set_yticks(range(len(rows)), names)
    for text, (_, group) in zip(axes[0].get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if group is None else "normal")
    return figure


def _interval(axis: Axes, estimate: Estimate, row: int) -> None:
    if estimate.value is None:
        axis.text(0.5, row, "not defined", ha="center", va="center", fontsize=8, color="#6b7680")
        return
    if estimate.low is not None and estimate.high is not None:
        axis.plot([estimate.low, estimate.high], [row, row], color=BLUE, linewidth=1.6)
    else:
        axis.plot(estimate.value, row, marker="o", markersize=9, color="none",
                  markeredgecolor=PALE)  # fmt: skip
    axis.plot(estimate.value, row, marker="o", markersize=5, color=BLUE)


def draw_dice_by_volume(metrics: SegmentationMetrics) -> Figure:
    """Draw the DSC of each case against the volume of the true lesions, for both labels."""
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (label, (colour, marker)) in zip(axes, LABEL_STYLES.items(), strict=True):
        scores = [result.labels[label] for result in metrics.results]
        failed = [result.failure is not None for result in metrics.results]
        volumes = np.array([score.truth_mm3 / 1000 for score in scores])
        dice = np.array([score.dice for score in scores])
        present = volumes > 0
        lowest = volumes[present].min() if present.any() else 1.0
        absent_at = lowest / 3
        where = np.where(present, volumes, absent_at)
        axis.scatter(where, dice, s=26, marker=marker, facecolor=colour, edgecolor=INK,
                     linewidth=0.5, alpha=0.85)  # fmt: skip
        if any(failed):
            axis.scatter(where[failed], dice[failed], s=60, marker="x", color=VERMILION,
                         label="failed case")  # fmt: skip
            axis.legend(loc="lower right")
        axis.set_xscale("log")
        axis.set_xlabel(f"true {label} volume, ml")
        axis.set_ylim(-0.04, 1.04)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        marks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
        ticks = [mark for mark in marks if lowest / 1.2 <= mark <= where.max() * 1.2]
        names = [f"{tick:g}" for tick in ticks]
        if not present.all():
            ticks, names = [absent_at, *ticks], ["absent", *names]
            axis.axvline(absent_at * 1.7, color=PALE, linewidth=1)
        axis.set_xticks(ticks, names)
        axis.minorticks_off()
        axis.set_title(label)
    axes[0].set_ylabel("DSC of the case")
    return figure


def draw_survival(groups: RiskGroups) -> Figure:
    """Draw Kaplan-Meier curves with intervals and censoring, and the numbers at risk below."""
    rows = len(groups.curves)
    figure = Figure(figsize=(7.6, 4.3 + 0.22 * rows))
    bottom = (0.85 + 0.22 * rows) / figure.get_figheight()
    top = 1 - 0.62 / figure.get_figheight()
    axis = figure.add_axes((0.17, bottom, 0.8, top - bottom))
    last = max(float(curve.times_years.max()) for curve in groups.curves)
    step = next(step for step in (1, 2, 3, 5, 10) if last / step <= 8)
    ticks = np.arange(0, last + 1e-9, step)
    for curve in groups.curves:
        _curve(axis, curve)
    axis.set_xlim(0, last * 1.02)
    axis.set_ylim(0, 1.03)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xlabel("years")
    axis.set_ylabel("recurrence-free survival")
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    test = None if groups.p_value is None else f"log-rank test: {format_p_value(groups.p_value)}"
    figure.legend(loc="upper center", ncols=3, title=test, fontsize=9, columnspacing=1.2,
                  borderaxespad=0.2)  # fmt: skip
    # Below the axis: one row per group, its numbers under the ticks.
    inch = 1 / (figure.get_figheight() * axis.get_position().height)
    row_style: dict[str, Any] = {
        "ha": "right",
        "va": "center",
        "fontsize": 9,
        "transform": axis.transAxes,
    }
    axis.text(-0.05, -0.56 * inch, "at risk", fontweight="bold", **row_style)
    for row, curve in enumerate(groups.curves):
        y = -(0.78 + 0.22 * row) * inch
        axis.text(-0.05, y, curve.name, **row_style)
        for tick in ticks:
            axis.text(tick, y, str(curve.at_risk(tick)), ha="center", va="center", fontsize=9,
                      transform=axis.get_xaxis_transform())  # fmt: skip
    return figure


def _curve(axis: Axes, curve: Curve) -> None:
    colour, style = CURVE_STYLES[curve.name]
    label = f"{curve.name}: {curve.events} of {curve.patients} recurred"
    axis.step(curve.years, curve.survival, where="post", color=colour, linestyle=style,
              linewidth=2, label=label)  # fmt: skip
    axis.fill_between(curve.years, curve.low, curve.high, step="post", color=colour, alpha=0.12,
                      linewidth=0)  # fmt: skip
    axis.plot(curve.censored_years, curve.survival_at(curve.censored_years), linestyle="none",
              marker="|", markersize=7, color=colour)  # fmt: skip


def draw_roc(metrics: HpvMetrics) -> Figure:
    """Draw the ROC curve of the probability, and the point of the decisions."""
    rows = [(r.probability, r.truth) for r in metrics.results if r.probability is not None]
    probabilities, truths = zip(*rows, strict=True)
    false_positive, true_positive, _ = roc_curve(truths, probabilities)
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, linestyle=":")
    auc = metrics.aggregates["auc"]
    axis.plot(false_positive, true_positive, color=BLUE, linewidth=2,
              label=f"probability, AUC {format_number(auc.value, 3)}")  # fmt: skip
    sensitivity = metrics.aggregates["sensitivity"].value
    specificity = metrics.aggregates["specificity"].value
    if sensitivity is not None and specificity is not None:
        axis.plot(1 - specificity, sensitivity, marker="o", markersize=8, linestyle="none",
                  color=VERMILION, label="the decisions")  # fmt: skip
    axis.set_xlabel("1 − specificity")
    axis.set_ylabel("sensitivity")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_aspect("equal")
    axis.legend(loc="lower right")
    return figure


def draw_calibration(bins: Sequence[CalibrationBin], probabilities: Sequence[float]) -> Figure:
    """Draw observed against predicted frequencies with 95 % Wilson intervals, and a histogram."""
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axis, below = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    axis.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, linestyle=":", label="ideal")
    for each in bins:
        events = round(each.observed_fraction * each.patients)
        interval = binomtest(events, each.patients).proportion_ci(method="wilson")
        axis.plot([each.mean_probability] * 2, [interval.low, interval.high], color=BLUE,
                  linewidth=1.4)  # fmt: skip
    axis.plot([b.mean_probability for b in bins], [b.observed_fraction for b in bins], color=BLUE,
              marker="o", markersize=6, linewidth=1, label="patients in bins")  # fmt: skip
    axis.set_ylabel("observed fraction HPV-positive")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.legend(loc="upper left")
    below.hist(probabilities, bins=np.linspace(0, 1, 21), color=PALE)
    below.set_xlabel("predicted probability of HPV-positive disease")
    below.set_ylabel("patients", fontsize=9)
    return figure
