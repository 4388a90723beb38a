"""A drawn head with shoulders, made of ellipsoids at known positions, on any grid.

The centre of the skull is the world's origin (LPS, mm). The lower end of its cavity is at
`CAVITY_END_MM`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import Triple
from shared.geometry import Grid
from shared.preprocessing.region import Preparation

CAVITY_MM = np.array([65.0, 80.0, 62.0])
CAVITY_END_MM = -62.0
SKULL_MM, SCALP_MM = 8.0, 14.0
NECK_RADIUS_MM, NECK_END_MM, TRUNK_TOP_MM = 60.0, -230.0, -190.0
LESIONS = {1: ((12.0, -10.0, -110.0), 22.0), 2: ((-30.0, 8.0, -145.0), 24.0)}
"""Centre and radius of the spheres GTVp and GTVn, by label."""

REGION = Preparation(spacing_mm=4, size_xyz=(72, 72, 72), interpolation="linear")
FINE_REGION = Preparation(spacing_mm=2, size_xyz=(144, 144, 144), interpolation="linear")


@dataclass(frozen=True)
class Body:
    """The options of the drawing.

    Attributes
    ----------
    neck_xy_mm : centre of neck and trunk.
    arms_up : whether the arms are next to the head.
    couch : whether the patient lies on a couch, a flat plate.
    padding_hu : HU in the corners of the CT, more than 200 mm from the axis.
    metal : whether there is a tooth filling of 27000 HU.
    """

    neck_xy_mm: tuple[float, float] = (0.0, 10.0)
    arms_up: bool = False
    couch: bool = False
    padding_hu: float = -1000.0
    metal: bool = False


def points_mm(grid: Grid) -> tuple[NDArray[np.float32], ...]:
    """Return the world x, y and z of each voxel as three volumes."""
    indices = np.indices(grid.shape_zyx).reshape(3, -1)[::-1].T.astype(float)
    world = grid.world_mm(indices).reshape(*grid.shape_zyx, 3)
    return tuple(world[..., axis].astype(np.float32) for axis in range(3))


def _masks(body: Body, grid: Grid) -> dict[str, NDArray[np.bool_]]:
    x, y, z = points_mm(grid)
    nx, ny = x - body.neck_xy_mm[0], y - body.neck_xy_mm[1]

    def ellipsoid(added_mm: float) -> NDArray[np.bool_]:
        a, b, c = CAVITY_MM + added_mm
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1

    neck = (nx**2 + ny**2 < NECK_RADIUS_MM**2) & (z < -30) & (z > NECK_END_MM)
    trunk = ((nx / 200) ** 2 + (ny / 120) ** 2 < 1) & (z < TRUNK_TOP_MM)
    solid = ellipsoid(SCALP_MM) | neck | trunk
    if body.arms_up:
        for side in (-1, 1):
            solid |= ((x - side * 130) ** 2 + (y - 20) ** 2 < 40**2) & (z < 60)
    return {
        "solid": solid,
        "cavity": ellipsoid(0),
        "skull": ellipsoid(SKULL_MM) & ~ellipsoid(0),
        "spine": (nx**2 + (ny - 30) ** 2 < 14**2) & (z < -70),
        "airway": (nx**2 + (ny + 25) ** 2 < 8**2) & (z < -80) & solid,
        "couch": (np.abs(y - 145) < 8) & (np.abs(x) < 180),
        "metal": (np.abs(nx) < 3) & (np.abs(ny + 45) < 3) & (np.abs(z + 90) < 3),
        "corner": x**2 + y**2 > 200**2,
    }


def ct_of(grid: Grid, body: Body = Body()) -> sitk.Image:
    """Return the CT on a grid, int16."""
    masks = _masks(body, grid)
    hu = np.where(masks["solid"], 40.0, -1000.0)
    hu[masks["cavity"]] = 35
    hu[masks["skull"]] = 900
    hu[masks["spine"] & masks["solid"]] = 700
    hu[masks["airway"]] = -1000
    if body.couch:
        hu[masks["couch"]] = 100
    if body.metal:
        hu[masks["metal"]] = 27000
    hu[masks["corner"]] = body.padding_hu
    return grid.image(hu.astype(np.int16))


def pet_of(grid: Grid, body: Body = Body()) -> sitk.Image:
    """Return the PET on a grid, float32 SUV: 0.8 in the body, 6 in the brain, 12 in lesions."""
    masks = _masks(body, grid)
    suv = np.where(masks["solid"], 0.8, 0.0)
    suv[masks["cavity"]] = 6
    suv[sitk.GetArrayFromImage(labels_of(grid)) > 0] = 12
    return grid.image(suv.astype(np.float32))


def labels_of(grid: Grid) -> sitk.Image:
    """Return the lesions on a grid, uint8."""
    x, y, z = points_mm(grid)
    labels = np.zeros(grid.shape_zyx, np.uint8)
    for label, ((a, b, c), radius) in LESIONS.items():
        labels[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2] = label
    return grid.image(labels)


def axial(spacing_mm: Triple, low_mm: float, high_mm: float, half_width_mm: float = 210) -> Grid:
    """Return a grid along the world's axes that covers a range of heights."""
    x, y, z = spacing_mm
    plane = int(2 * half_width_mm / x), int(2 * half_width_mm / y)
    size = (*plane, max(1, round((high_mm - low_mm) / z)))
    first = (-half_width_mm + x / 2, -half_width_mm + y / 2, low_mm + z / 2)
    return Grid(size, spacing_mm, first)


def oblique(grid: Grid, degrees: float) -> Grid:
    """Return a grid rotated about the neck: by an angle about x and by half of it about z."""
    a, b = np.radians([degrees, degrees / 2])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turn = about_z @ about_x
    pivot = np.array([0.0, 0.0, -120.0])
    origin = turn @ (np.array(grid.origin_mm) - pivot) + pivot
    return Grid(
        grid.size_xyz, grid.spacing_mm, tuple(origin.tolist()), tuple(turn.ravel().tolist())
    )


def orientations() -> Iterator[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Yield the 48 ways to store an image: the order of the axes, and which are reversed."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield order, flips


def reorient(image: sitk.Image, order: tuple[int, ...], flips: tuple[bool, ...]) -> sitk.Image:
    """Return the same image, at the same world position, with other image axes."""
    permuted = sitk.PermuteAxes(image, order)
    result: sitk.Image = sitk.Flip(permuted, flips, flipAboutOrigin=False)
    return result
