"""Pictures are upright and follow the radiological convention, for any orientation on disk."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.colors import to_hex, to_rgb
from numpy.typing import NDArray

from evaluation.report import pictures
from evaluation.report.errors import LesionError
from evaluation.report.pictures import (
    View,
    draw_projections,
    make_view,
    project_coronal,
    project_sagittal,
    slice_axial,
)
from evaluation.report.places import LesionPlace
from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import Label
from shared.geometry import Grid

SPACING = 6.0
SIZE = 40
LEFT_FRONT_LOW = np.array([48.0, -36.0, -60.0])
"""World point (LPS) of the primary: on the patient's left, in front, towards the feet."""
ROTATED = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4).GetMatrix()


def head(direction: tuple[float, ...]) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """Return CT, PET and labels of a body of water, on a grid with the given direction.

    The primary is hot. The node is to its right, behind it and above it, and is not hot.
    """
    matrix = np.asarray(direction).reshape(3, 3)
    origin = -matrix @ np.full(3, SPACING * (SIZE - 1) / 2)
    grid = Grid((SIZE,) * 3, (SPACING,) * 3, tuple(origin.tolist()), direction)
    zyx = np.indices(grid.shape_zyx).reshape(3, -1)[::-1].T.astype(float)
    world = grid.world_mm(zyx)
    body = np.hypot(world[:, 0], world[:, 1]) < 75
    primary = np.linalg.norm(world - LEFT_FRONT_LOW, axis=1) < 14
    node = np.linalg.norm(world + LEFT_FRONT_LOW, axis=1) < 14
    ct = np.where(body, 0, -1000).astype(np.int16)
    pet = np.where(body, 1.0, 0.0).astype(np.float32)
    pet[primary] = 9
    labels = np.zeros(len(world), np.uint8)
    labels[primary], labels[node] = Label.GTVP, Label.GTVN
    ct_image, pet_image, label_image = (
        grid.image(values.reshape(grid.shape_zyx)) for values in (ct, pet, labels)
    )
    return ct_image, pet_image, label_image


def directions() -> list[tuple[float, ...]]:
    flips = [
        tuple(np.diag(signs).ravel().tolist()) for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    turned = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return [*flips, turned, tuple(ROTATED)]


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return row and column of a mask's centre, as fractions of the picture."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean() / mask.shape[0]), float(columns.mean() / mask.shape[1])


@pytest.mark.parametrize("direction", directions())
def test_pictures_follow_the_radiological_convention(direction: tuple[float, ...]) -> None:
    ct, pet, labels = head(direction)
    view = make_view(Case(ct_hu=ct, pet=pet, clinical=ClinicalRecord()), labels, labels)
    assert np.array_equal(view.truth, view.prediction)
    primary, node = view.truth == Label.GTVP, view.truth == Label.GTVN
    p_row, p_column = centre(project_coronal(primary))
    n_row, n_column = centre(project_coronal(node))
    assert p_column > n_column  # the patient's left on the viewer's right
    assert p_row > n_row  # towards the feet is down
    p_row, p_column = centre(project_sagittal(primary))
    n_row, n_column = centre(project_sagittal(node))
    assert p_column < n_column  # the front on the viewer's left
    assert p_row > n_row
    x, y, z = np.round(view.grid.index(LEFT_FRONT_LOW[None])[0]).astype(int)
    plane = slice_axial(primary, z)
    assert plane[y, x]
    assert not plane[y, view.grid.size_xyz[0] - 1 - x]
    row, column = centre(plane)
    middle_y, middle_x = view.grid.index(np.zeros((1, 3)))[0][[1, 0]]
    assert row * plane.shape[0] < middle_y  # the front is up
    assert column * plane.shape[1] > middle_x
    # The hot spot of the PET lies where the label lies.
    hottest = np.unravel_index(
        np.argmax(project_coronal(view.pet_suv)), project_coronal(primary).shape
    )
    assert project_coronal(primary)[hottest]


def test_windows_are_those_of_the_paper() -> None:
    low, high = pictures.PET_WINDOW_SUV
    assert ((low + high) / 2, high - low) == (3, 7)


def small_view() -> View:
    grid = Grid((100, 100, 100), (2.0,) * 3, (0.0, 0.0, 0.0))
    labels = np.zeros(grid.shape_zyx, np.uint8)
    labels[40:50, 40:50, 60:70] = Label.GTVP
    labels[70:75, 40:50, 30:36] = Label.GTVN
    empty = np.zeros_like(labels)
    volume = np.ones(grid.shape_zyx, np.float32)
    return View(grid=grid, ct_hu=volume, pet_suv=volume, truth=labels, prediction=empty)


def test_outlines_have_the_colours_of_the_paper_and_surround_labels_only() -> None:
    figure = draw_projections(small_view())
    coronal_truth, coronal_prediction, *_ = figure.axes
    colours = [to_hex(np.asarray(line.get_edgecolor())[0]) for line in coronal_truth.collections]
    assert colours == [pictures.OUTLINE["GTVp"], pictures.OUTLINE["GTVn"]]
    for name, (red, green, blue) in {n: to_rgb(c) for n, c in pictures.OUTLINE.items()}.items():
        assert green > 0.8 > 0.4 > blue
        assert (red > 0.8) == (name == "GTVn")  # GTVn yellow, GTVp green
    assert not coronal_prediction.collections
    image = coronal_truth.get_images()[0]
    assert image.get_clim() == pictures.PET_WINDOW_SUV


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_error_has_a_ct_and_a_pet_slice_even_at_the_edge(count: int) -> None:
    places = [(130.0, 90.0, 90.0), (0.0, 0.0, 0.0), (198.0, 198.0, 250.0)][:count]
    errors = [
        LesionError(kind="missed node", volume_ml=1.0, centre_mm=place, radius_mm=6.0)
        for place in places
    ]
    figure = pictures.draw_error_slices(small_view(), errors)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert len(shown) == 2 * count
    for axis in shown:
        assert axis.get_images()[0].get_size() == (60, 60)
    titles = [axis.texts[0].get_text() for axis in shown]
    assert titles[:2] == ["1  CT", "1  PET"]
    solid = shown[0].collections
    assert solid  # the primary's outline, because the first slice shows it


def test_prediction_has_projections_then_slices_with_solid_outlines() -> None:
    view = small_view()
    place = LesionPlace(volume_ml=1.0, centre_mm=(130.0, 90.0, 90.0), radius_mm=6.0)
    figure = pictures.draw_prediction(view, view.truth, [place, place])
    shown = [axis for axis in figure.axes if axis.get_visible()]
    titles = [axis.texts[0].get_text() for axis in shown]
    assert titles == ["PET, coronal", "PET, sagittal", "1  CT", "1  PET", "2  CT", "2  PET"]
    colours = [to_hex(np.asarray(line.get_edgecolor())[0]) for line in shown[0].collections]
    assert colours == [pictures.OUTLINE["GTVp"], pictures.OUTLINE["GTVn"]]
    (outline,) = shown[2].collections  # only the primary is in this plane
    linestyles: Any = outline.get_linestyle()
    assert linestyles == [(0, None)]  # solid
    names = {text.get_text(): text.get_color() for text in shown[0].texts}
    assert names["GTVp"] == pictures.OUTLINE["GTVp"]
