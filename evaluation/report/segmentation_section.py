"""The report's section on segmentation: lesions by volume, DSC by volume, worst and best cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from evaluation.job_folder import OUTPUT
from evaluation.report import charts, pictures
from evaluation.report.case_files import CaseFiles
from evaluation.report.case_pictures import (
    MOST_ERRORS,
    CasePictures,
    picture_case,
    worst_and_best,
)
from evaluation.report.errors import LesionError
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.numbers import (
    KeyPath,
    Measure,
    Number,
    ScoreText,
    format_number,
    format_score,
    range_name,
)
from evaluation.report.task_section import (
    CaseColumn,
    Details,
    Request,
    ScoreLayout,
    TaskSection,
    case_column,
)
from evaluation.report.viewer.pages import CasePage
from evaluation.tasks.segmentation import SegmentationCase, SegmentationMetrics
from evaluation.truth import read_truth
from shared.conventions import LESIONS
from shared.errors import HecktorError

LABELS: Final = {name.lower(): name for name in LESIONS}
"""Names of the labels by the word that their scores begin with: "gtvp" for "GTVp"."""


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """The number of lesions in a range of volumes, and the fraction that is detected."""

    name: str
    lesions: Number
    patients: Number
    sensitivity: ScoreText


@dataclass(frozen=True, kw_only=True)
class CaseBlock:
    """A case with its pictures.

    Attributes
    ----------
    scores : DSC by label.
    errors : the pictured errors in words.
    rest : the other errors in words.
    viewer : address of the case's viewer page; None if it has none.
    """

    pictures: CasePictures
    scores: Sequence[tuple[str, Number]]
    errors: Sequence[str]
    rest: Sequence[str]
    viewer: str | None


@dataclass(frozen=True, kw_only=True)
class SegmentationDetails(Details):
    """The content that only the section on segmentation has.

    Attributes
    ----------
    by_volume : figure of the DSC of each case against the true volume.
    worst, best : the worst cases, worst first, and the best cases, best first.
    pages : the viewer pages of the cases, by name.
    problems : why pictures or viewer pages are missing.
    legend : legend of the outlines; it is on the page, but not among the files.
    most_errors : the largest number of errors of one case that have a picture.
    """

    lesions: Sequence[LesionRow]
    by_volume: FigureFiles
    worst: Sequence[CaseBlock]
    best: Sequence[CaseBlock]
    pages: Mapping[str, CasePage]
    problems: Sequence[str]
    legend: FigureFiles
    pet_window_suv: tuple[float, float] = pictures.PET_WINDOW_SUV
    ct_window_hu: tuple[float, float] = pictures.CT_WINDOW_HU
    most_errors: int = MOST_ERRORS

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures."""
        figures = [self.by_volume]
        for block in (*self.worst, *self.best):
            slices = block.pictures.slices
            figures += [block.pictures.projections, *([slices] if slices else [])]
        return figures

    def case_pages(self) -> Mapping[str, CasePage]:
        """Return the viewer pages of the cases, by name."""
        return self.pages


class SegmentationSection(TaskSection[SegmentationMetrics]):
    """The section of segmentation."""

    title = "Segmentation"
    template = "segmentation_section.html.j2"
    measures: ClassVar = {
        "dice": Measure("Mean DSC"),
        "aggregated_dice": Measure("Aggregated DSC"),
        "aggregated_f1": Measure("Aggregated F1"),
        "sensitivity": Measure("Lesion sensitivity"),
        "false_positives_per_case": Measure(
            "False lesions per case", better="lower", digits=2, scale=None
        ),
        "hd95_mm": Measure("HD95, mm", better="lower", digits=1, scale=None),
        "surface_dice": Measure("Surface DSC"),
    }
    group_titles: ClassVar = {
        "gtvp_volume_ml": "True GTVp of a patient, ml",
        "gtvn_volume_ml": "True GTVn of a patient, ml",
    }
    grouped_by = "centre, field of view and tumour volume"
    groups_note = "The volume is the total of all true lesions of the label in a patient."

    def measure(self, score: str) -> Measure:
        """Return how a score is named and shown: `gtvp_dice` is "GTVp mean DSC"."""
        label, _, rest = score.partition("_")
        plain = self._without_label(rest)
        name = plain.name if plain.name[1].isupper() else plain.name[0].lower() + plain.name[1:]
        return replace(plain, name=f"{LABELS[label]} {name}")

    def _without_label(self, score: str) -> Measure:
        return super().measure(score)

    def layout(self, scores: Sequence[str]) -> ScoreLayout:
        """Return the layout of the table of scores, with one column for each label."""
        names = dict.fromkeys(score.partition("_")[2] for score in scores)
        rows = [
            (
                self._without_label(name),
                [f"{label}_{name}" if f"{label}_{name}" in scores else None for label in LABELS],
            )
            for name in names
        ]
        return ScoreLayout(list(LABELS.values()), rows)

    def case_columns(self, metrics: SegmentationMetrics, keys: KeyPath) -> list[CaseColumn]:
        """Return the DSC of each label."""
        return [
            case_column(f"{name} DSC", metrics, keys, path=("labels", name, "dice"), digits=3)
            for name in LABELS.values()
        ]

    def details(self, metrics: SegmentationMetrics, request: Request) -> SegmentationDetails:
        """Return lesions by volume, DSC by volume, and the pictures; write the viewer pages."""
        blocks: dict[str, list[CaseBlock]] = {"worst": [], "best": []}
        problems: list[str] = []
        worst, best = worst_and_best(metrics, request.count)
        ascending, _ = worst_and_best(metrics, metrics.cases)
        try:
            files = _case_files(ascending, request)
        except HecktorError as error:
            files, ascending, worst, best = {}, [], [], []
            problems = [str(error)]
        pages: dict[str, CasePage] = {}
        if request.viewers and files:
            pages, unviewed = request.viewers.write(
                ascending, files, rules=metrics.rules, edition=request.edition
            )
            problems += unviewed
        for kind, results in (("worst", worst), ("best", best)):
            for result in results:
                case = files[result.case_id]
                try:
                    picture = picture_case(
                        result,
                        case_input=case.case_input,
                        truth_path=case.truth,
                        output=case.output,
                        rules=metrics.rules,
                        edition=request.edition,
                    )
                except HecktorError as error:
                    problems.append(f"{result.case_id}: {error}")
                    continue
                page = pages.get(result.case_id)
                viewer = page.address if page else None
                blocks[kind].append(_block(metrics, request.keys, picture, viewer))
        return SegmentationDetails(
            lesions=_lesion_rows(metrics, request.keys),
            by_volume=render(
                "segmentation_dice_by_volume",
                "DSC of each case against the true volume of the GTVp and of the GTVn.",
                partial(charts.draw_dice_by_volume, metrics),
            ),
            legend=render("legend", "Legend of the outlines.", pictures.draw_legend, vector=False),
            worst=blocks["worst"],
            best=blocks["best"],
            pages=pages,
            problems=list(dict.fromkeys(problems)),  # picture and page may have the same problem
        )


SECTION: Final = SegmentationSection()


def _case_files(results: Sequence[SegmentationCase], request: Request) -> dict[str, CaseFiles]:
    """Return the files of cases that have an answer."""
    truths = read_truth(request.sources.truth)
    folder = request.sources.cases or Path(request.store.origin().cases)
    files = {}
    for result in results:
        truth = truths[result.case_id].mask
        assert truth is not None, "a case without a true mask is not scored"
        assert result.pk is not None, "a case without a job has failed"
        files[result.case_id] = CaseFiles(
            case_input=folder / result.case_id / "input",
            truth=truth,
            output=request.store.folder / result.pk / OUTPUT,
        )
    return files


def _lesion_rows(metrics: SegmentationMetrics, keys: KeyPath) -> list[LesionRow]:
    rows = []
    for label, groups in metrics.lesions_by_volume_ml.items():
        for volume, group in groups.items():
            path = (*keys, "lesions_by_volume_ml", label, volume)
            patients = group.sensitivity.patients
            rows.append(
                LesionRow(
                    name=f"{label}, {range_name(volume)} ml",
                    lesions=Number((*path, "lesions"), group.lesions, str(group.lesions)),
                    patients=Number((*path, "sensitivity", "patients"), patients, str(patients)),
                    sensitivity=format_score(group.sensitivity, (*path, "sensitivity"), 3),
                )
            )
    return rows


def _scores(
    metrics: SegmentationMetrics, keys: KeyPath, result: SegmentationCase
) -> list[tuple[str, Number]]:
    path = (*keys, "results", metrics.results.index(result), "labels")
    return [
        (label, Number((*path, label, "dice"), scores.dice, format_number(scores.dice, 3)))
        for label, scores in result.labels.items()
    ]


def _block(
    metrics: SegmentationMetrics, keys: KeyPath, pictures: CasePictures, viewer: str | None
) -> CaseBlock:
    return CaseBlock(
        pictures=pictures,
        scores=_scores(metrics, keys, pictures.result),
        errors=[_words(error) for error in pictures.errors[:MOST_ERRORS]],
        rest=[_words(error) for error in pictures.errors[MOST_ERRORS:]],
        viewer=viewer,
    )


def _words(error: LesionError) -> str:
    return f"{error.kind}, {error.volume_ml:.2f} ml"
