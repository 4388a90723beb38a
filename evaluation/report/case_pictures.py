"""Which cases of Task 1 are shown, and what is shown of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.images import read_grid, read_labels
from evaluation.outputs import read_mask
from evaluation.report import pictures
from evaluation.report.drawing import Drawn, draw
from evaluation.report.errors import LesionError, find_errors
from evaluation.schema import Rules, SegmentationCase, SegmentationMetrics
from shared.grand_challenge.inputs import read_case
from shared.tasks import CURRENT

MOST_ERRORS: Final = 4
"""Errors of a case that are pictured, the largest; the others are named."""


@dataclass(frozen=True)
class ShownCase:
    """A case on the page.

    Attributes
    ----------
    result : its scores.
    errors : all of them, largest first; the first `MOST_ERRORS` are pictured.
    projections : PET projections with truth and prediction.
    slices : planes through the errors; None where there are none.
    """

    result: SegmentationCase
    errors: tuple[LesionError, ...]
    projections: Drawn
    slices: Drawn | None

    @property
    def pictured(self) -> tuple[LesionError, ...]:
        """The errors with a picture."""
        return self.errors[:MOST_ERRORS]


def rank(metrics: SegmentationMetrics) -> list[SegmentationCase]:
    """Return the answered cases from the worst to the best, by the mean DSC of both labels."""
    answered = [result for result in metrics.results if result.failure is None]
    return sorted(
        answered,
        key=lambda result: (sum(s.dice for s in result.labels.values()), result.case_id),
    )


def worst_and_best(
    metrics: SegmentationMetrics, count: int
) -> tuple[list[SegmentationCase], list[SegmentationCase]]:
    """Return the worst cases, the worst first, and the best, the best first; none is in both."""
    ranked = rank(metrics)
    count = min(count, len(ranked))
    worst = ranked[:count]
    best = ranked[max(count, len(ranked) - count) :][::-1]
    return worst, best


def show_case(
    result: SegmentationCase, case_input: Path, truth_path: Path, output: Path, rules: Rules
) -> ShownCase:
    """Read a case with its masks and draw it.

    Parameters
    ----------
    case_input : its input folder in the platform's layout.
    truth_path : the true label map.
    output : folder of the job's outputs.

    Raises
    ------
    InputError
        If one of them cannot be read.
    """
    grid, truth = read_grid(truth_path), read_labels(truth_path)
    found = read_mask(output, CURRENT, grid)
    errors = tuple(find_errors(found, truth, grid, rules))
    shown = pictures.view(read_case(case_input, CURRENT), grid.image(truth), grid.image(found))
    pictured = errors[:MOST_ERRORS]
    slices = None
    if pictured:
        words = ", ".join(f"{n} {error.kind}" for n, error in enumerate(pictured, 1))
        slices = draw(
            f"{result.case_id}_errors",
            f"Axial CT and PET slices of case {result.case_id} through: {words}. Truth solid, "
            "prediction dashed, GTVp green, GTVn yellow.",
            lambda: pictures.error_slices(shown, pictured),
            vector=False,
        )
    scores = ", ".join(f"{name} DSC {s.dice:.3f}" for name, s in result.labels.items())
    projections = draw(
        f"{result.case_id}_projections",
        f"Coronal and sagittal PET projections of case {result.case_id} with the true and the "
        f"predicted outlines, GTVp green, GTVn yellow; {scores}.",
        lambda: pictures.projections(shown),
        vector=False,
    )
    return ShownCase(result, errors, projections, slices)
