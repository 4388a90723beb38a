"""Make the picture and the page of a prediction. Neither needs other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from evaluation.report import pictures
from evaluation.report.figure_style import FigureFiles, render
from evaluation.report.html import render_page
from evaluation.report.places import LesionPlace
from prediction.lesions import Lesion
from shared.case import Case
from shared.clinical import EHR_VARIABLES
from shared.conventions import LESIONS
from shared.geometry import Grid
from shared.models.hpv import HpvPrediction

MOST_PLACES: Final = 5
"""Largest number of lesions that the picture shows as slices."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The predictions of the models for a case.

    Attributes
    ----------
    mask : label map on the CT's grid.
    lesions : the lesions of the mask, in the order of their numbers on the page.
    risk : higher = earlier recurrence; 0 is the average risk of the training patients.
    notices : the notices in the model cards, which limit the use of the models.
    remarks : sentences about what is unusual in the case.
    """

    mask: sitk.Image
    lesions: Sequence[Lesion]
    hpv: HpvPrediction
    risk: float
    notices: Sequence[str]
    remarks: Sequence[str]


def draw_picture(case: Case, result: Result) -> FigureFiles:
    """Draw PET projections, and CT and PET slices through the lesions, with outlines.

    Without lesions, the slices go through the centre of the region.
    """
    scene = pictures.make_scene(case)
    places: Sequence[LesionPlace] = result.lesions[:MOST_PLACES] or [_centre(scene.grid)]
    labels = scene.labels(result.mask)
    return render(
        "picture",
        "Coronal and sagittal PET projections, and axial CT and PET slices, with the outlines of "
        f"the predicted lesions: {describe_lesions(result.lesions)}.",
        lambda: pictures.draw_prediction(scene, labels, places),
        vector=False,
    )


def render_prediction(case: Case, result: Result, picture: FigureFiles, *, title: str) -> str:
    """Return the page of a prediction as HTML."""
    values = {name: getattr(case.clinical, each.key) for name, each in EHR_VARIABLES.items()}
    totals = {
        name: [lesion.volume_ml for lesion in result.lesions if lesion.label == name]
        for name in LESIONS
    }
    return render_page(
        "prediction.html.j2",
        values={
            "title": title,
            "result": result,
            "picture": picture,
            "totals": totals,
            "most_places": MOST_PLACES,
            "images": {"CT": Grid.of(case.ct_hu), "PET": Grid.of(case.pet)},
            "clinical": {name: value for name, value in values.items() if value is not None},
            "missing": [name for name, value in values.items() if value is None],
            "pet_window_suv": pictures.PET_WINDOW_SUV,
            "ct_window_hu": pictures.CT_WINDOW_HU,
        },
        functions={},
        folders=[Path(__file__).parent],
    )


def describe_lesions(lesions: Sequence[Lesion]) -> str:
    """Return the lesions in words: "1 GTVp, 2 GTVn", or "no lesion"."""
    counts = {name: sum(lesion.label == name for lesion in lesions) for name in LESIONS}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no lesion"


def _centre(grid: Grid) -> LesionPlace:
    low, high = grid.extent_mm()
    x, y, z = ((low + high) / 2).tolist()
    return LesionPlace(volume_ml=0.0, centre_mm=(x, y, z), radius_mm=0.0)
