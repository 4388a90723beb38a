"""Draws pictures of a case: PET projections with outlines, and axial slices through its errors.

A case is resampled to the head-and-neck region, a box along the world axes. Pictures are therefore
upright for any direction cosines of the scan: the head is up and, by the radiological convention,
the patient's left is on the viewer's right. Sagittal views face left. A PET in Bq/mL is converted
to SUV by the same function as for the algorithms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from evaluation.report.places import LesionPlace
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
"""Edge length of the picture of a slice, which shows the neck and its surroundings."""
BLACK: Final = "#000000"
PANEL_INCHES: Final = 3.0
THUMBNAIL_INCHES: Final = 1.2
DPI: Final = 110

Picture = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A direction of projection, with the letters for the left and the right of the picture."""

    name: str
    project: Callable[[NDArray[Any]], NDArray[Any]]
    left: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The images of a case as the pictures show them.

    Attributes
    ----------
    grid : an isotropic grid along the world's axes (LPS).
    ct_hu, pet_suv : the images on this grid, indexed [z, y, x].
    """

    grid: Grid
    ct_hu: Volume
    pet_suv: Volume

    def labels(self, image: sitk.Image) -> LabelVolume:
        """Return a label map resampled from its own grid to this grid."""
        whole = sitk.Cast(image, sitk.sitkUInt8)
        labels: LabelVolume = sitk.GetArrayFromImage(
            resample(whole, self.grid, interpolation="nearest", outside=0)
        )
        return labels


@dataclass(frozen=True, kw_only=True)
class View(Scene):
    """A case with its label maps as the pictures show it.

    Attributes
    ----------
    truth, prediction : the label maps on the grid of the images.
    """

    truth: LabelVolume
    prediction: LabelVolume


def make_scene(case: Case) -> Scene:
    """Resample a case to the region that the pictures show.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    prepared = prepare(case, DISPLAY)
    return Scene(grid=prepared.undo.region, ct_hu=prepared.ct_hu, pet_suv=prepared.pet_suv)


def make_view(case: Case, truth: sitk.Image, prediction: sitk.Image) -> View:
    """Resample a case and its label maps, on any grids, to the region that the pictures show.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    scene = make_scene(case)
    return View(**vars(scene), truth=scene.labels(truth), prediction=scene.labels(prediction))


def project_coronal(volume_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum along y as a picture: head at row 0, the patient's left on the right."""
    picture: NDArray[Any] = volume_zyx.max(axis=1)[::-1]
    return picture


def project_sagittal(volume_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return the maximum along x as a picture: head at row 0, the face on the left."""
    picture: NDArray[Any] = volume_zyx.max(axis=2)[::-1]
    return picture


SIDES: Final = (
    Side(name="coronal", project=project_coronal, left="R", right="L"),
    Side(name="sagittal", project=project_sagittal, left="A", right="P"),
)


def slice_axial(volume_zyx: NDArray[Any], z: int) -> NDArray[Any]:
    """Return an axial plane as a picture: face at row 0, the patient's left on the right."""
    plane: NDArray[Any] = volume_zyx[z]
    return plane


def draw_projections(view: View) -> Figure:
    """Draw coronal and sagittal PET projections, each with the truth and with the prediction."""
    figure, axes = _panels(1, 4)
    masks = {"truth": view.truth, "prediction": view.prediction}
    for column, side in enumerate(SIDES):
        for offset, (name, labels) in enumerate(masks.items()):
            _draw_projection(axes[0, 2 * column + offset], view, side, labels)
            _mark(axes[0, 2 * column + offset], f"{side.name}, {name}", side.left, side.right)
    _scale_bar(axes[0, 0], view.grid.spacing_mm[0])
    return figure


def draw_error_slices(view: View, errors: Sequence[LesionPlace]) -> Figure:
    """Draw CT and PET of the axial plane through each error, two errors per row."""
    figure, axes = _panels((len(errors) + 1) // 2, 4)
    for axis in axes.flat[2 * len(errors) :]:
        axis.set_visible(False)
    masks = ((view.truth, "-"), (view.prediction, "--"))
    for number, error in enumerate(errors):
        pair = axes.flat[2 * number : 2 * number + 2]
        _draw_slices(pair, view, error, title=str(number + 1), masks=masks)
        for axis in pair:
            _encircle(axis, view, error)
    return figure


def draw_prediction(scene: Scene, labels: LabelVolume, places: Sequence[LesionPlace]) -> Figure:
    """Draw PET projections, then CT and PET of the axial plane through each place.

    Parameters
    ----------
    labels : the predicted label map on the grid of the images.
    places : lesions, or other places to show, in the order of their numbers.
    """
    panels = len(SIDES) + 2 * len(places)
    figure, axes = _panels((panels + 3) // 4, 4)
    for axis in axes.flat[panels:]:
        axis.set_visible(False)
    for axis, side in zip(axes.flat, SIDES, strict=False):
        _draw_projection(axis, scene, side, labels)
        _mark(axis, f"PET, {side.name}", side.left, side.right)
    for number, place in enumerate(places):
        pair = axes.flat[len(SIDES) + 2 * number :][:2]
        _draw_slices(pair, scene, place, title=str(number + 1), masks=((labels, "-"),))
    _scale_bar(axes[0, 0], scene.grid.spacing_mm[0])
    for row, (name, colour) in enumerate(OUTLINE.items()):
        axes[0, 0].text(0.97, 0.03 + 0.06 * row, name, color=colour, ha="right", fontweight="bold",
                        transform=axes[0, 0].transAxes)  # fmt: skip
    return figure


def draw_thumbnail(scene: Scene, labels: LabelVolume) -> Figure:
    """Draw a small coronal PET projection with the outlines of a label map on the scene's grid."""
    figure = Figure(figsize=(THUMBNAIL_INCHES,) * 2, facecolor=BLACK, dpi=DPI)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    _draw_projection(axis, scene, SIDES[0], labels)
    return figure


def draw_legend() -> Figure:
    """Draw the legend of the outlines."""
    figure = Figure(figsize=(6.4, 0.32), facecolor=BLACK, dpi=DPI)
    lines = [Line2D([], [], color=colour, label=name) for name, colour in OUTLINE.items()]
    lines += [
        Line2D([], [], color="white", linestyle="-", label="truth"),
        Line2D([], [], color="white", linestyle="--", label="prediction"),
        Line2D([], [], color="white", linestyle=":", label="the error"),
    ]
    figure.legend(handles=lines, loc="center", ncols=5, labelcolor="white", frameon=False)
    return figure


def _draw_projection(axis: Axes, scene: Scene, side: Side, labels: LabelVolume) -> None:
    _pet(axis, side.project(scene.pet_suv))
    for label, colour in OUTLINE.items():
        _outline(axis, side.project(labels == LESIONS[label]), colour, "-")


def _draw_slices(
    axes: Iterable[Axes],
    scene: Scene,
    place: LesionPlace,
    *,
    title: str,
    masks: Sequence[tuple[LabelVolume, str]],
) -> None:
    """Draw CT and PET of the axial plane through a place on two axes.

    Parameters
    ----------
    masks : label maps, each with the style of its outlines.
    """
    plane, cut = _cut_around(scene.grid, place)
    for axis, modality in zip(axes, ("CT", "PET"), strict=True):
        if modality == "CT":
            low, high = CT_WINDOW_HU
            axis.imshow(slice_axial(scene.ct_hu, plane)[cut], cmap="gray", vmin=low, vmax=high)
        else:
            _pet(axis, slice_axial(scene.pet_suv, plane)[cut])
        for labels, style in masks:
            for label, colour in OUTLINE.items():
                _outline(axis, slice_axial(labels == LESIONS[label], plane)[cut], colour, style)
        _mark(axis, f"{title}  {modality}", "R", "L")


def _cut_around(grid: Grid, place: LesionPlace) -> tuple[int, tuple[slice, slice]]:
    """Return the axial plane through a place, and rows and columns around it, inside the grid."""
    half = round(SLICE_MM / grid.spacing_mm[0] / 2)
    x, y, z = grid.index(np.array([place.centre_mm]))[0]
    plane = int(np.clip(round(z), 0, grid.size_xyz[2] - 1))
    left, top = (
        int(np.clip(round(c) - half, 0, size - 2 * half))
        for c, size in zip((x, y), grid.size_xyz[:2], strict=True)
    )
    return plane, (slice(top, top + 2 * half), slice(left, left + 2 * half))


def _encircle(axis: Axes, scene: Scene, place: LesionPlace) -> None:
    """Draw a circle around a place on a slice that `_draw_slices` has drawn."""
    _, (rows, columns) = _cut_around(scene.grid, place)
    x, y, _ = scene.grid.index(np.array([place.centre_mm]))[0]
    angle = np.linspace(0, 2 * np.pi, 60)
    radius = (place.radius_mm + 7) / scene.grid.spacing_mm[0]
    axis.plot(
        x - columns.start + radius * np.cos(angle),
        y - rows.start + radius * np.sin(angle),
        color="white",
        linewidth=0.9,
        linestyle=":",
    )
    axis.set_xlim(-0.5, columns.stop - columns.start - 0.5)
    axis.set_ylim(rows.stop - rows.start - 0.5, -0.5)


def _panels(rows: int, columns: int) -> tuple[Figure, NDArray[Any]]:
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
