"""Puts the page together: what is known of a run, as a template's words, numbers and figures.

The page is one file: its style is inline, its figures are in it, it has no script, and a content
security policy forbids every request.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.__main__ import METRICS
from evaluation.report import charts, pictures
from evaluation.report.cases import MOST_ERRORS, ShownCase, show_case, worst_and_best
from evaluation.report.drawing import Drawn, draw
from evaluation.report.errors import LesionError
from evaluation.report.numbers import (
    LABELS,
    Measure,
    Number,
    Shown,
    label_measure,
    measure,
    natural_list,
    show,
    write,
)
from evaluation.report.risk import risk_groups
from evaluation.running.store import OUTPUT, RunStore
from evaluation.running.tasks import TASKS
from evaluation.schema import (
    Group,
    HpvMetrics,
    Metrics,
    SegmentationMetrics,
    SurvivalMetrics,
    read_metrics,
)
from evaluation.truth import read_truth
from shared.errors import HecktorError, InputError

PAGE: Final = "report.html"
FIGURES: Final = "figures"
PIXELS_AN_INCH: Final = 100
"""So that 10 points, the charts' type, are 14 pixels, a little below the page's 16."""
GROUP_NAMES: Final = {
    "centre": "Centre",
    "field_of_view": "Field of view",
    "gtvp_volume_ml": "True GTVp of a patient, ml",
    "gtvn_volume_ml": "True GTVn of a patient, ml",
}
FIELDS_OF_VIEW: Final = {"head_neck": "head and neck", "whole_body": "whole body"}
TITLES: Final = {
    "segmentation": "Task 1: segmentation",
    "survival": "Task 2: recurrence-free survival",
    "hpv": "Task 3: HPV status",
}


@dataclass(frozen=True)
class Sources:
    """Where a report reads from.

    Attributes
    ----------
    run : folder of a run; `<task>/metrics.json` for each task that was scored.
    cases : folder of the case folders, for the pictures; by default what the run's card says.
    truth : the ground truth, for the pictures.
    """

    run: Path
    cases: Path | None
    truth: Path


def write_report(sources: Sources, out: Path, title: str, count: int) -> Path:
    """Write the page and its figures to a folder, and return the page's path.

    Parameters
    ----------
    title : of the page.
    count : how many of the worst and how many of the best cases are shown.

    Raises
    ------
    InputError
        If no task of the run has been scored.
    """
    found = {
        task.name: read_metrics(sources.run / task.name / METRICS)
        for task in TASKS
        if (sources.run / task.name / METRICS).is_file()
    }
    if not found:
        raise InputError(
            f"expected {TASKS[0].name}/{METRICS} or another task's in {sources.run}, found none; "
            "run `python -m evaluation score` first"
        )
    sections = [_section(name, metrics, sources, count) for name, metrics in found.items()]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals = {"number": number_tag, "figure": figure_tag, "write": write}
    text = environment.get_template("page.html.j2").render(
        title=title,
        sections=sections,
        failures=[failure for section in sections for failure in section["failures"]],
        legend=draw("legend", "Legend of the outlines.", pictures.legend, vector=False),
        pet_window=pictures.PET_WINDOW_SUV,
        ct_window=pictures.CT_WINDOW_HU,
        most_errors=MOST_ERRORS,
        rules=next(iter(found.values())).rules,
        notices=sorted({notice for section in sections for notice in section["notices"]}),
    )
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for section in sections:
        for drawn in section["figures"]:
            (out / FIGURES / f"{drawn.name}.png").write_bytes(drawn.png)
    (out / PAGE).write_text(text, encoding="utf-8")
    return out / PAGE


def number_tag(number: Number) -> Markup:
    """Return a number as HTML that tells where it comes from."""
    return Markup('<data value="{}" data-path="{}">{}</data>').format(
        "" if number.value is None else repr(number.value),
        "/".join(str(key).replace("/", "~1") for key in number.path),
        number.text,
    )


def figure_tag(drawn: Drawn) -> Markup:
    """Return a figure as HTML that needs no other file; charts keep the size of their type."""
    if drawn.svg is None:
        kind, content, style, name = "png", drawn.png, "", "voxels"
    else:
        kind, content, name = "svg+xml", drawn.svg, "chart"
        style = f"width: {drawn.width_inches * PIXELS_AN_INCH:.0f}px"
    encoded = base64.b64encode(content).decode("ascii")
    return Markup('<img class="{}" style="{}" alt="{}" src="data:image/{};base64,{}">').format(
        name, style, drawn.alt, kind, encoded
    )


def _section(name: str, metrics: Metrics, sources: Sources, count: int) -> dict[str, Any]:
    """Return what the template says of a task."""
    ranked = [_tile(name, metrics, score) for score in metrics.ranked]
    forest = _forest(name, metrics)
    store = RunStore(sources.run / name)
    section: dict[str, Any] = {
        "name": name,
        "title": TITLES[metrics.task],
        "kind": metrics.task,
        "metrics": metrics,
        "ranked": ranked,
        "cases": Number((name, "cases"), metrics.cases, str(metrics.cases)),
        "failed": Number((name, "failed"), metrics.failed, str(metrics.failed)),
        "table": _score_table(name, metrics),
        "groups": _group_tables(name, metrics),
        "forest": forest,
        "figures": [] if forest is None else [forest],
        "alternatives": _alternatives(name, metrics),
        "failures": _failures(metrics, store),
        "notices": _notices(store, metrics),
        "run": _run_facts(store),
    }
    if isinstance(metrics, SegmentationMetrics):
        section |= _segmentation(metrics, sources, sources.run / name, count)
    elif isinstance(metrics, SurvivalMetrics):
        section |= _survival(metrics)
    else:
        section |= _hpv(metrics)
    section["figures"] += section["own_figures"]
    return section


def _forest(name: str, metrics: Metrics) -> Drawn | None:
    """Return the ranked scores of each group as a figure; None where no case is in a group."""
    groups = _groups(metrics)
    if not groups:
        return None
    measures = {score: measure(score) for score in metrics.ranked}
    return draw(
        f"{name}_groups",
        f"{TITLES[metrics.task]}: "
        + natural_list([known.name for known in measures.values()])
        + " with 95 % intervals, by "
        + natural_list([kind.lower() for kind, _ in groups])
        + "; the numbers are in the table below.",
        partial(charts.forest, metrics.aggregates, groups, measures),
    )


def _tile(name: str, metrics: Metrics, score: str) -> dict[str, Any]:
    known = measure(score)
    shown = show(metrics.aggregates[score], (name, "aggregates", score), known.digits)
    return {"measure": known, "shown": shown}


def _score_table(name: str, metrics: Metrics) -> dict[str, Any]:
    """Return the scores as rows; those of a label are columns beside each other."""

    def shown(score: str, known: Measure) -> Shown:
        return show(metrics.aggregates[score], (name, "aggregates", score), known.digits)

    labelled = {score.partition("_")[0] for score in metrics.aggregates}
    labels = [label for label in LABELS if label in labelled]
    if not labels:
        rows = [
            {"measure": measure(score), "cells": [shown(score, measure(score))]}
            for score in metrics.aggregates
        ]
        return {"columns": ["All patients"], "rows": rows}
    plain = list(dict.fromkeys(score.partition("_")[2] for score in metrics.aggregates))
    rows = [
        {
            "measure": label_measure(score),
            "cells": [
                shown(f"{label}_{score}", label_measure(score))
                if f"{label}_{score}" in metrics.aggregates
                else None
                for label in labels
            ],
        }
        for score in plain
    ]
    return {"columns": [LABELS[label] for label in labels], "rows": rows}


def _groups(metrics: Metrics) -> list[tuple[str, list[tuple[str, Group]]]]:
    return [
        (
            GROUP_NAMES.get(kind, kind.replace("_", " ")),
            [(_group_name(group), members) for group, members in groups.items()],
        )
        for kind, groups in metrics.groups.items()
        if groups
    ]


def _group_name(name: str) -> str:
    if name == "0":
        return "absent"
    return FIELDS_OF_VIEW.get(name, re.sub(r"(\d)-(\d)", r"\1–\2", name))


def _group_tables(name: str, metrics: Metrics) -> list[dict[str, Any]]:
    """Return a table for each kind of group, of the ranked scores."""
    tables = []
    for kind, groups in metrics.groups.items():
        rows = []
        for group, members in groups.items():
            path = (name, "groups", kind, group)
            cells = [
                show(members.aggregates[score], (*path, "aggregates", score), measure(score).digits)
                for score in metrics.ranked
            ]
            patients = Number((*path, "patients"), members.patients, str(members.patients))
            rows.append({"name": _group_name(group), "patients": patients, "cells": cells})
        if rows:
            title = GROUP_NAMES.get(kind, kind.replace("_", " "))
            columns = [measure(score).name for score in metrics.ranked]
            tables.append({"title": title, "columns": columns, "rows": rows})
    return tables


def _alternatives(name: str, metrics: Metrics) -> list[dict[str, Any]]:
    return [
        {
            "score": measure(score).name,
            "rule": rule,
            "number": Number(
                (name, "alternatives", score, rule), value, write(value, measure(score).digits)
            ),
        }
        for score, rules in metrics.alternatives.items()
        for rule, value in rules.items()
    ]


def _failures(metrics: Metrics, store: RunStore) -> list[dict[str, str]]:
    """Return the failed cases with the evaluation's reason and the algorithm's own last words."""
    failures = []
    for result in metrics.results:
        if result.failure is not None:
            record = store.record(result.pk) if result.pk is not None else None
            failures.append(
                {
                    "task": TITLES[metrics.task],
                    "case": result.case_id,
                    "failure": result.failure,
                    "reason": (record.reason if record else None) or "",
                }
            )
    return failures


def _notices(store: RunStore, metrics: Metrics) -> set[str]:
    """Return what the models say of themselves in a log, such as that they know only phantoms."""
    for result in metrics.results:
        log = store.folder / (result.pk or "") / "stdout.txt"
        if result.pk and log.is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            return {line for line in lines if line.startswith("NOTICE")}
    return set()


def _run_facts(store: RunStore) -> list[tuple[str, str]]:
    """Return how the run was made; nothing where the jobs come from elsewhere."""
    records = store.records()
    if not records:
        return []
    card = store.card()
    seconds = sorted(record.seconds for record in records)
    peaks = [record.peak_memory_gb for record in records if record.peak_memory_gb is not None]
    facts = [
        ("Run by", card.engine),
        ("Made by", card.made_by),
        ("Seconds a case", f"median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}"),
    ]
    return facts + ([("Peak memory", f"{max(peaks):.2f} GB")] if peaks else [])


def _segmentation(
    metrics: SegmentationMetrics, sources: Sources, folder: Path, count: int
) -> dict[str, Any]:
    by_volume = draw(
        "task1_dice_by_volume",
        "DSC of each case against the true volume of the GTVp and of the GTVn.",
        partial(charts.dice_by_volume, metrics),
    )
    shown: dict[str, list[ShownCase]] = {"worst": [], "best": []}
    problems: list[str] = []
    worst, best = worst_and_best(metrics, count)
    try:
        truth = read_truth(sources.truth)
        cases = sources.cases or Path(RunStore(folder).card().cases)
    except HecktorError as error:
        problems, worst, best = [str(error)], [], []
    for kind, results in (("worst", worst), ("best", best)):
        for result in results:
            mask = truth[result.case_id].mask
            assert mask is not None  # or it would not have been scored
            assert result.pk is not None  # or it would have failed
            output = folder / result.pk / OUTPUT
            try:
                case = show_case(
                    result, cases / result.case_id / "input", mask, output, metrics.rules
                )
            except HecktorError as error:
                problems.append(f"{result.case_id}: {error}")
                continue
            shown[kind].append(case)
    figures = [by_volume]
    for case in (*shown["worst"], *shown["best"]):
        figures += [case.projections, *([case.slices] if case.slices else [])]
    return {
        "lesions": _lesion_rows(metrics),
        "by_volume": by_volume,
        "worst": [_case(metrics, case) for case in shown["worst"]],
        "best": [_case(metrics, case) for case in shown["best"]],
        "picture_problems": problems,
        "own_figures": figures,
    }


def _lesion_rows(metrics: SegmentationMetrics) -> list[dict[str, Any]]:
    """Return rows of lesion-wise sensitivity: how many lesions of a volume, and which are found."""
    rows = []
    for label, groups in metrics.lesions_by_volume_ml.items():
        for volume, group in groups.items():
            path = (TASKS[0].name, "lesions_by_volume_ml", label, volume)
            rows.append(
                {
                    "name": f"{label}, {_group_name(volume)} ml",
                    "lesions": Number((*path, "lesions"), group.lesions, str(group.lesions)),
                    "patients": Number(
                        (*path, "sensitivity", "patients"),
                        group.sensitivity.patients,
                        str(group.sensitivity.patients),
                    ),
                    "sensitivity": show(group.sensitivity, (*path, "sensitivity"), 3),
                }
            )
    return rows


def _case(metrics: SegmentationMetrics, case: ShownCase) -> dict[str, Any]:
    index = metrics.results.index(case.result)
    scores = [
        (label, Number((TASKS[0].name, "results", index, "labels", label, "dice"), scores.dice,
                       write(scores.dice, 3)))
        for label, scores in case.result.labels.items()
    ]  # fmt: skip
    return {
        "case": case,
        "scores": scores,
        "errors": [_error_words(error) for error in case.pictured],
        "rest": [_error_words(error) for error in case.errors[MOST_ERRORS:]],
    }


def _error_words(error: LesionError) -> str:
    return f"{error.kind}, {error.volume_ml:.2f} ml"


def _survival(metrics: SurvivalMetrics) -> dict[str, Any]:
    groups = risk_groups(metrics.results)
    figures = []
    if groups.curves:
        figures.append(
            draw(
                "task2_survival",
                "Kaplan-Meier curves of recurrence-free survival by group of predicted risk: "
                + natural_list(
                    [
                        f"{curve.name}, {curve.events} of {curve.patients} recurred"
                        for curve in groups.curves
                    ]
                )
                + ".",
                partial(charts.survival, groups),
            )
        )
    return {
        "risk": groups,
        "p_value": None if groups.p_value is None else charts.p_value(groups.p_value),
        "events": sum(result.event for result in metrics.results),
        "own_figures": figures,
    }


def _hpv(metrics: HpvMetrics) -> dict[str, Any]:
    known = [(r.probability, r.truth) for r in metrics.results if r.probability is not None]
    figures: list[Drawn] = []
    if len({truth for _, truth in known}) == 2:
        auc = write(metrics.aggregates["auc"].value, 3)
        figures.append(
            draw(
                "task3_roc",
                f"ROC curve of the HPV probability, AUC {auc}.",
                partial(charts.roc, metrics),
            )
        )
    if known:
        points = natural_list(
            [
                f"{one.mean_probability:.2f} predicted, {one.observed_fraction:.2f} observed"
                for one in metrics.calibration
            ]
        )
        figures.append(
            draw(
                "task3_calibration",
                f"Calibration of the HPV probability: {points}.",
                partial(charts.calibration, metrics.calibration, [p for p, _ in known]),
            )
        )
    return {
        "confusion": confusion(metrics),
        "probabilities": len(known),
        "bins": [
            [
                Number((TASKS[2].name, "calibration", index, key), value, write(value, digits))
                for key, value, digits in (
                    ("patients", one.patients, 0),
                    ("mean_probability", one.mean_probability, 3),
                    ("observed_fraction", one.observed_fraction, 3),
                )
            ]
            for index, one in enumerate(metrics.calibration)
        ],
        "classes": sorted({result.truth for result in metrics.results}),
        "curves": figures,
        "own_figures": figures,
    }


def confusion(metrics: HpvMetrics) -> Mapping[bool, Sequence[int]]:
    """Return, by truth, how many were decided positive, negative, and not at all."""
    return {
        truth: [
            sum(r.truth is truth and r.decision is decision for r in metrics.results)
            for decision in (True, False, None)
        ]
        for truth in (True, False)
    }
