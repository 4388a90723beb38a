"""The synthetic patient: the outline of the body, and all organs in painting order.

Later organs overwrite earlier ones. Positions are canonical (see `shapes`): skull base at z = 0,
vertex near 145 mm, oropharynx near -55, glottis near -112, clavicles near -170. Sizes are those of
an average adult in anatomy textbooks, rounded, with random variation between patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.phantom.places import LEVELS, SIDES, SITES
from training.phantom.pose import Pose, draw_pose
from training.phantom.shapes import Array, Bounds, Capsule, Column, Ellipsoid, Point
from training.phantom.slab import Slab
from training.phantom.synthetic.builder import SOFT, Builder
from training.phantom.synthetic.head import add_face, add_skull_and_brain, add_teeth
from training.phantom.synthetic.neck import add_airway, add_neck
from training.phantom.synthetic.trunk import add_spine, add_trunk_organs
from training.phantom.tissue import Organ, T, draw_looks

# Knots of columns, see `shapes.Knot`.
TRUNK = (
    (-905, 0, 10, 175, 100), (-850, 0, 5, 182, 103), (-760, 0, 0, 172, 106), (-640, 0, 0, 150, 108),
    (-520, 0, 0, 155, 110), (-430, 0, -5, 165, 113), (-330, 0, -4, 172, 110),
    (-260, 0, 5, 188, 100),
    (-225, 0, 15, 195, 88), (-200, 0, 22, 180, 78), (-180, 0, 24, 140, 68), (-160, 0, 22, 92, 60),
    (-140, 0, 18, 55, 52),
)  # fmt: skip
NECK = (
    (-185, 0, 5, 95, 66), (-165, 0, 3, 78, 66), (-140, 0, -3, 62, 66), (-115, 0, -10, 58, 69),
    (-95, 0, -11, 58, 70), (-60, 0, -8, 60, 66), (-20, 0, 8, 64, 62), (10, 0, 10, 60, 62),
)  # fmt: skip
FACE = (
    (-112, 0, -50, 34, 38), (-97, 0, -52, 48, 54), (-75, 0, -52, 57, 64), (-45, 0, -54, 64, 68),
    (-20, 0, -56, 67, 68), (0, 0, -58, 68, 65), (30, 0, -56, 66, 64), (40, 0, -50, 60, 66),
)  # fmt: skip
COUCH_Y_MM = 147.0


@dataclass(frozen=True, kw_only=True)
class SyntheticBody:
    """A patient without tumours, made of analytic organs; a `body.Body`."""

    organs: tuple[Organ, ...]
    pose: Pose
    ct_hu: Array  # by tissue
    pet_suv: Array  # by tissue
    metal_mm: tuple[Point, ...]  # canonical centres of metal fillings
    grain: float = 1.0
    z_range_mm: tuple[float, float] = (-np.inf, np.inf)

    def paint_background(self, slab: Slab) -> None:
        """See `Body`: the background is air."""

    def hu(self, slab: Slab) -> Array:
        """See `Body`."""
        return self.ct_hu[slab.tissue]

    def has_room(self, place: str, side: float) -> bool:
        """See `Body`: there is room everywhere."""
        return True

    def draw_seat(
        self, rng: np.random.Generator, *, place: str, side: float, volume_ml: float
    ) -> Point:
        """See `Body`: a random point near the centre of the place.

        The centres of large primaries lie further outwards.
        """
        if place in SITES:
            centre_mm, spread_mm = SITES[place][0], (2.0, 2.0, 5.0)
            shift_mm = 0.25 * np.cbrt(volume_ml) * np.array([side, -0.3, 0])
        else:
            (centre_mm, spread_mm, _), shift_mm = LEVELS[place], np.zeros(3)
        seat = np.array([side * centre_mm[0], *centre_mm[1:]]) + shift_mm + rng.normal(0, spread_mm)
        return tuple(map(float, seat))  # type: ignore[return-value]


def make_body(rng: np.random.Generator, *, arms_up: bool, coarse: bool = False) -> SyntheticBody:
    """Draw one patient without tumours.

    Parameters
    ----------
    rng
        Source of every random number.
    arms_up
        Whether the arms lie next to the head (some whole-body scans) or next to the trunk.
    coarse
        Whether thin bones are thicker, so that coarse voxels do not miss them.
    """
    builder = Builder(rng)
    extra_mm = 0.7 if coarse else 0.0
    fat_mm = float(np.clip(rng.gamma(4.0, 2.2), 2, 24))
    _add_couch(builder)
    _add_outline(builder, fat_mm, arms_up)
    add_neck(builder)
    add_trunk_organs(builder)
    add_spine(builder)
    add_face(builder, extra_mm)
    metal_mm = add_teeth(builder)
    add_skull_and_brain(builder)
    add_airway(builder, extra_mm)
    if rng.random() < 0.06:
        for side in SIDES:
            builder.egg(T.BROWN_FAT, (side * 55, 15, -158), (12, 10, 12), replaces=(T.FAT, T.LOOSE))
    ct_hu, pet_suv = draw_looks(rng)
    pose = draw_pose(
        rng, size_sd=0.035, stretch_sd=0.02, turn_degrees_sd=4, bend_mm_sd=5, max_ripple_mm=1.4
    )
    return SyntheticBody(
        organs=tuple(builder.organs), pose=pose, ct_hu=ct_hu, pet_suv=pet_suv, metal_mm=metal_mm
    )


def _add_couch(builder: Builder) -> None:
    shell = Column(((-1100, 0, COUCH_Y_MM, 225, 26), (240, 0, COUCH_Y_MM, 205, 26)))
    foam = Column(((-1100, 0, COUCH_Y_MM, 221, 22), (240, 0, COUCH_Y_MM, 201, 22)))
    rest = ((-120, 0, 20, 125, 90), (200, 0, -2, 118, 92))
    builder.add(T.COUCH_SHELL, shell)
    builder.add(T.COUCH_FOAM, foam)
    builder.add(T.COUCH_FOAM, _HeadRest(Column(rest, wall_mm=14)))
    builder.add(T.COUCH_SHELL, _HeadRest(Column(rest, wall_mm=2)))


def _add_outline(builder: Builder, fat_mm: float, arms_up: bool) -> None:
    """Add skin, fat and muscle of all parts, and the bones of the limbs.

    Each layer is painted for all parts before the next one, so that the parts merge.
    """
    add, egg = builder.add, builder.egg
    limbs: list[tuple[Capsule, float]] = []  # with the radius of their bone in mm
    for side in SIDES:
        elbow = (side * 188, -5, 45) if arms_up else (side * 232, 30, -500)
        hand = (side * 85, -40, 250) if arms_up else (side * 195, -30, -770)
        shoulder = (side * 178, 22, -212)
        limbs += [(Capsule(shoulder, elbow, 44), 11), (Capsule(elbow, hand, 33), 12)]
        limbs.append((Capsule((side * 88, 18, -880), (side * 82, 18, -1150), 82), 15))
    width = builder.rng.normal(1, 0.03)
    trunk = Column(tuple((z, x, y, rx * width + 0.5 * fat_mm, ry) for z, x, y, rx, ry in TRUNK))
    for tissue, trunk_mm, head_mm in ((T.SKIN, 0, 0), (T.FAT, 2, 2), (T.MUSCLE, 2 + fat_mm, 5)):
        add(tissue, trunk.grown(-trunk_mm))
        add(tissue, Column(NECK).grown(-min(trunk_mm, 8)))
        add(tissue, Column(FACE).grown(-head_mm))
        add(tissue, Ellipsoid((0, -22, 60), (81 - head_mm, 101 - head_mm, 88 - head_mm)))
        egg(tissue, (0, -120, -14), (14 - head_mm, 18 - head_mm, 22 - head_mm), vary=0)
        for side in SIDES:  # ears
            egg(tissue, (side * 79, -8, 5), (8 - head_mm / 2, 15 - head_mm, 28 - head_mm), vary=0)
        for limb, _ in limbs:
            add(tissue, Capsule(limb.start, limb.stop, limb.radius_mm - min(trunk_mm, 14)))
    for limb, bone_mm in limbs:
        add(T.BONE, Capsule(limb.start, limb.stop, bone_mm), SOFT)
        add(T.SPONGY, Capsule(limb.start, limb.stop, bone_mm - 4), (T.BONE,))


@dataclass(frozen=True)
class _HeadRest:
    """The back half of a column."""

    column: Column
    y_start_mm: float = 35.0

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        lower, upper = self.column.bounds()
        return (lower[0], self.y_start_mm, lower[2]), upper

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        return np.where(y < self.y_start_mm, np.float32(2), self.column.field(x, y, z))
