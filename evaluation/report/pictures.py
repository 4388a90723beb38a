"""Draws pictures of a case: PET projections with outlines, and axial slices through its errors.

A case is resampled to the head-and-neck region as the algorithms see it, a box along the world
axes. So pictures are upright for any direction cosines of the scan: head up and, by the
radiological convention, the patient's left on the viewer's right; sagittal views face left. PETs in
Bq/mL are scaled to SUV as for the algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from evaluation.report.errors import LesionError
from shared.case import Case
from shared.conventions import LESIONS, LabelVolume, Volume
from shared.geometry import Grid, resample
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation

DISPLAY: Final = Preparation(spacing_mm=1.5, size_xyz=(192, 192, 192), interpolation="linear")
"""The 288 mm region of the paper, with voxels that suit a screen."""
PET_WINDOW_SUV: Final = (-0.5, 6.5)
"""Centre 3, width 7, as in the paper's Figure 1."""
CT_WINDOW_HU: Final = (-160.0, 240.0)
"""Soft tissue."""
OUTLINE: Final = {"GTVp": "#3ddc4a", "GTVn": "#ffe11a"}
"""Green and yellow, as in the paper's Figure 1."""
SLICE_MM: Final = 120.0
"""Edge length of a slice's picture: a neck with its surroundings."""
BLACK: Final = "#000000"
PANEL_INCHES: Final = 3.0
DPI: Final = 110

Picture = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class View:
    """A case as it is view.

    Attributes
    ----------
    grid : along the world's axes (LPS), isotropic.
    ct_hu, pet_suv : on this grid, indexed [z, y, x].
    truth, prediction : label maps on this grid.
    """

    grid: Grid
    ct_hu: Volume
    pet_suv: Volume
    truth: LabelVolume
    prediction: LabelVolume


def make_view(case: Case, truth: sitk.Image, prediction: sitk.Image) -> View:
    """Resample a case and its label maps, on any grids, to the region that is view.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    prepared = prepare(case, DISPLAY)
    grid = prepared.undo.region
    labels = [
        sitk.GetArrayFromImage(
            resample(sitk.Cast(image, sitk.sitkUInt8), grid, interpolation="nearest", outside=0)
        )
        for image in (truth, prediction)
    ]
    return View(
        grid=grid,
        ct_hu=prepared.ct_hu,
        pet_suv=prepared.pet_suv,
        truth=labels[0],
        prediction=labels[1],
    )


def project_coronal(volume_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum along y as a picture: head at row 0, the patient's left at the right."""
    picture: NDArray[Any] = volume_zyx.max(axis=1)[::-1]
    return picture


def project_sagittal(volume_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum along x as a picture: head at row 0, the face at the left."""
    picture: NDArray[Any] = volume_zyx.max(axis=2)[::-1]
    return picture


def slice_axial(volume_zyx: NDArray[Any], z: int) -> NDArray[Any]:
    """Return a plane as a picture: the face at row 0, the patient's left at the right."""
    plane: NDArray[Any] = volume_zyx[z]
    return plane


def draw_projections(view: View) -> Figure:
    """Draw coronal and sagittal PET projections, each with the truth and with the prediction."""
    figure, axes = _panels(1, 4)
    sides = (("coronal", project_coronal, "R", "L"), ("sagittal", project_sagittal, "A", "P"))
    for column, (name, project, left, right) in enumerate(sides):
        for offset, (what, labels) in enumerate(
            (("truth", view.truth), ("prediction", view.prediction))
        ):
            axis = axes[0, 2 * column + offset]
            _pet(axis, project(view.pet_suv))
            for label, colour in OUTLINE.items():
                _outline(axis, project(labels == LESIONS[label]), colour, "-")
            _mark(axis, f"{name}, {what}", left, right)
    _scale_bar(axes[0, 0], view.grid.spacing_mm[0])
    return figure


def draw_error_slices(view: View, errors: Sequence[LesionError]) -> Figure:
    """Draw CT and PET of the axial plane through each error, two errors per row."""
    rows = (len(errors) + 1) // 2
    figure, axes = _panels(rows, 4)
    for axis in axes.flat[2 * len(errors) :]:
        axis.set_visible(False)
    spacing = view.grid.spacing_mm[0]
    half = round(SLICE_MM / spacing / 2)
    for number, error in enumerate(errors):
        x, y, z = view.grid.index(np.array([error.centre_mm]))[0]
        plane = int(np.clip(round(z), 0, view.grid.size_xyz[2] - 1))
        corner = [
            int(np.clip(round(c) - half, 0, size - 2 * half))
            for c, size in zip((x, y), view.grid.size_xyz[:2], strict=True)
        ]
        cut = np.s_[corner[1] : corner[1] + 2 * half, corner[0] : corner[0] + 2 * half]
        row, column = divmod(number, 2)
        for offset, modality in enumerate(("CT", "PET")):
            axis = axes[row, 2 * column + offset]
            if modality == "CT":
                low, high = CT_WINDOW_HU
                axis.imshow(slice_axial(view.ct_hu, plane)[cut], cmap="gray", vmin=low, vmax=high)
            else:
                _pet(axis, slice_axial(view.pet_suv, plane)[cut])
            for labels, style in ((view.truth, "-"), (view.prediction, "--")):
                for label, colour in OUTLINE.items():
                    _outline(axis, slice_axial(labels == LESIONS[label], plane)[cut], colour, style)
            angle = np.linspace(0, 2 * np.pi, 60)
            radius = (error.radius_mm + 7) / spacing
            axis.plot(
                x - corner[0] + radius * np.cos(angle),
                y - corner[1] + radius * np.sin(angle),
                color="white",
                linewidth=0.9,
                linestyle=":",
            )
            axis.set_xlim(-0.5, 2 * half - 0.5)
            axis.set_ylim(2 * half - 0.5, -0.5)
            _mark(axis, f"{number + 1}  {modality}", "R", "L")
    return figure


def draw_legend() -> Figure:
    """Draw the legend of the lines."""
    figure = Figure(figsize=(6.4, 0.32), facecolor=BLACK, dpi=DPI)
    lines = [Line2D([], [], color=colour, label=name) for name, colour in OUTLINE.items()]
    lines += [
        Line2D([], [], color="white", linestyle="-", label="truth"),
        Line2D([], [], color="white", linestyle="--", label="prediction"),
        Line2D([], [], color="white", linestyle=":", label="the error"),
    ]
    figure.legend(handles=lines, loc="center", ncols=5, labelcolor="white", frameon=False)
    return figure


def _panels(rows: int, columns: int) -> tuple[Figure, NDArray[np.object_]]:
    size = (PANEL_INCHES * columns, PANEL_INCHES * rows)
    figure = Figure(figsize=size, facecolor=BLACK, dpi=DPI)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.01, "hspace": 0.01},
    )
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _pet(axis: Axes, picture: Picture) -> None:
    low, high = PET_WINDOW_SUV
    axis.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")


def _outline(axis: Axes, mask: NDArray[np.bool_], colour: str, style: str) -> None:
    if mask.any():
        axis.contour(mask.astype(np.float32), [0.5], colors=colour, linewidths=1.4,
                     linestyles=style)  # fmt: skip


def _mark(axis: Axes, title: str, left: str, right: str) -> None:
    place: dict[str, Any] = {"transform": axis.transAxes, "color": "white", "fontsize": 9}
    box = {"facecolor": BLACK, "alpha": 0.6, "linewidth": 0, "pad": 2}
    axis.text(0.03, 0.965, title, ha="left", va="top", fontweight="bold", bbox=box, **place)
    axis.text(0.02, 0.5, left, ha="left", va="center", **place)
    axis.text(0.98, 0.5, right, ha="right", va="center", **place)


def _scale_bar(axis: Axes, spacing_mm: float, length_mm: float = 50.0) -> None:
    bottom = axis.get_ylim()[0]
    start = 10 / spacing_mm
    axis.plot([start, start + length_mm / spacing_mm], [bottom - 8 / spacing_mm] * 2,
              color="white", linewidth=2.5)  # fmt: skip
    axis.text(start, bottom - 11 / spacing_mm, f"{length_mm / 10:g} cm", color="white", fontsize=8,
              va="bottom")  # fmt: skip
