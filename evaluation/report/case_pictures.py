"""Chooses the segmentation cases that the report shows, and makes their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.images import read_grid, read_labels
from evaluation.report import pictures
from evaluation.report.errors import LesionError, find_errors
from evaluation.report.figure_style import FigureFiles, render
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.masks import read_mask
from evaluation.tasks.segmentation import SegmentationCase, SegmentationMetrics
from shared.editions import Edition
from shared.grand_challenge.inputs import read_case

MOST_ERRORS: Final = 4
"""Only this many of a case's errors, the largest ones, are pictured; the others are just named."""


@dataclass(frozen=True, kw_only=True)
class CasePictures:
    """A case with its pictures.

    Attributes
    ----------
    result : scores of the case.
    errors : all errors, largest first; the first `MOST_ERRORS` have a picture.
    projections : PET projections with truth and prediction.
    slices : planes through the errors; None without errors.
    """

    result: SegmentationCase
    errors: tuple[LesionError, ...]
    projections: FigureFiles
    slices: FigureFiles | None


def worst_and_best(
    metrics: SegmentationMetrics, count: int
) -> tuple[list[SegmentationCase], list[SegmentationCase]]:
    """Return the worst cases, worst first, and the best, best first, by the mean DSC of the labels.

    Failed cases are left out, and no case is in both lists.
    """
    answered = [result for result in metrics.results if result.failure is None]
    ascending = sorted(
        answered,
        key=lambda result: (sum(s.dice for s in result.labels.values()), result.case_id),
    )
    count = min(count, len(ascending))
    worst = ascending[:count]
    best = ascending[max(count, len(ascending) - count) :][::-1]
    return worst, best


def picture_case(
    result: SegmentationCase,
    *,
    case_input: Path,
    truth_path: Path,
    output: Path,
    rules: ScoringRules,
    edition: Edition,
) -> CasePictures:
    """Read a case with its masks and draw it.

    Parameters
    ----------
    case_input : the case's input folder in the platform's layout.
    truth_path : the true label map.
    output : folder of the job's outputs.

    Raises
    ------
    InputError
        If one of the files cannot be read.
    """
    grid, truth = read_grid(truth_path), read_labels(truth_path)
    prediction = read_mask(output, edition, grid)
    errors = tuple(find_errors(prediction, truth, grid=grid, rules=rules))
    view = pictures.make_view(
        read_case(case_input, edition), grid.image(truth), grid.image(prediction)
    )
    largest = errors[:MOST_ERRORS]
    slices = None
    if largest:
        words = ", ".join(f"error {n} ({error.kind})" for n, error in enumerate(largest, 1))
        slices = render(
            f"{result.case_id}_errors",
            f"Axial CT and PET slices of case {result.case_id} through {words}. Truth solid, "
            "prediction dashed, GTVp green, GTVn yellow.",
            lambda: pictures.draw_error_slices(view, largest),
            vector=False,
        )
    scores = ", ".join(f"{name} DSC {s.dice:.3f}" for name, s in result.labels.items())
    projections = render(
        f"{result.case_id}_projections",
        f"Coronal and sagittal PET projections of case {result.case_id} with the true and the "
        f"predicted outlines, GTVp green, GTVn yellow; {scores}.",
        lambda: pictures.draw_projections(view),
        vector=False,
    )
    return CasePictures(result=result, errors=errors, projections=projections, slices=slices)
