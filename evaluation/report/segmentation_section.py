"""What is special to segmentation: lesions by volume, DSC by volume, worst and best cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.report import charts
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
    Number,
    ScoreText,
    format_number,
    format_score,
    range_name,
)
from evaluation.running.job_store import OUTPUT, JobStore
from evaluation.tasks.segmentation import SegmentationCase, SegmentationMetrics
from evaluation.truth import CaseTruth, read_truth
from shared.editions import Edition
from shared.errors import HecktorError


@dataclass(frozen=True, kw_only=True)
class LesionRow:
    """How many lesions of a range of volumes there are, and how many are detected."""

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
    """

    pictures: CasePictures
    scores: Sequence[tuple[str, Number]]
    errors: Sequence[str]
    rest: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class SegmentationDetails:
    """What only the section of segmentation has.

    Attributes
    ----------
    by_volume : DSC of each case against the true volume.
    worst, best : the worst case first, and the best case first.
    problems : why pictures are missing.
    """

    lesions: Sequence[LesionRow]
    by_volume: FigureFiles
    worst: Sequence[CaseBlock]
    best: Sequence[CaseBlock]
    problems: Sequence[str]

    @property
    def figures(self) -> list[FigureFiles]:
        """All figures."""
        figures = [self.by_volume]
        for block in (*self.worst, *self.best):
            slices = block.pictures.slices
            figures += [block.pictures.projections, *([slices] if slices else [])]
        return figures


def segmentation_details(
    metrics: SegmentationMetrics,
    keys: KeyPath,
    *,
    store: JobStore,
    cases: Path | None,
    truth: Path,
    count: int,
    edition: Edition,
) -> SegmentationDetails:
    """Return the details of segmentation.

    Parameters
    ----------
    keys : lead to the metrics.
    cases : folder of the case folders; by default the one that the jobs were made from.
    truth : the ground truth.
    count : number of worst cases, and of best cases, with pictures.
    """
    blocks: dict[str, list[CaseBlock]] = {"worst": [], "best": []}
    problems: list[str] = []
    worst, best = worst_and_best(metrics, count)
    try:
        truths = read_truth(truth)
        folder = cases or Path(store.origin().cases)
    except HecktorError as error:
        truths, folder, worst, best = {}, Path(), [], []
        problems = [str(error)]
    for kind, results in (("worst", worst), ("best", best)):
        for result in results:
            try:
                pictures = _pictures(
                    result,
                    metrics,
                    store=store,
                    case_input=folder / result.case_id / "input",
                    truth=truths[result.case_id],
                    edition=edition,
                )
            except HecktorError as error:
                problems.append(f"{result.case_id}: {error}")
                continue
            blocks[kind].append(_block(metrics, keys, pictures))
    return SegmentationDetails(
        lesions=_lesion_rows(metrics, keys),
        by_volume=render(
            "segmentation_dice_by_volume",
            "DSC of each case against the true volume of the GTVp and of the GTVn.",
            partial(charts.draw_dice_by_volume, metrics),
        ),
        worst=blocks["worst"],
        best=blocks["best"],
        problems=problems,
    )


def _pictures(
    result: SegmentationCase,
    metrics: SegmentationMetrics,
    *,
    store: JobStore,
    case_input: Path,
    truth: CaseTruth,
    edition: Edition,
) -> CasePictures:
    assert truth.mask is not None, "a case without a true mask is not scored"
    assert result.pk is not None, "a case without a job has failed"
    return picture_case(
        result,
        case_input=case_input,
        truth_path=truth.mask,
        output=store.folder / result.pk / OUTPUT,
        rules=metrics.rules,
        edition=edition,
    )


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


def _block(metrics: SegmentationMetrics, keys: KeyPath, pictures: CasePictures) -> CaseBlock:
    index = metrics.results.index(pictures.result)
    path = (*keys, "results", index, "labels")
    scores = [
        (label, Number((*path, label, "dice"), scores.dice, format_number(scores.dice, 3)))
        for label, scores in pictures.result.labels.items()
    ]
    return CaseBlock(
        pictures=pictures,
        scores=scores,
        errors=[_words(error) for error in pictures.errors[:MOST_ERRORS]],
        rest=[_words(error) for error in pictures.errors[MOST_ERRORS:]],
    )


def _words(error: LesionError) -> str:
    return f"{error.kind}, {error.volume_ml:.2f} ml"
