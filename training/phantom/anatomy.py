"""The healthy patient: a list of organs in painting order, and what each tissue looks like.

Later organs overwrite earlier ones. Positions are canonical (see `shapes`): skull base at z = 0,
vertex near 145 mm, oropharynx near -55, glottis near -112, clavicles near -170. Sizes are those
of an average adult from anatomy textbooks, rounded; every patient jitters them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from training.phantom.shapes import (
    Arch,
    Array,
    Bounds,
    Capsule,
    Column,
    Ellipsoid,
    Folded,
    Point,
    Pose,
    Ribs,
    Shape,
    draw_pose,
)

if TYPE_CHECKING:
    from training.phantom.painting import Slab


class Tissue(IntEnum):
    """What a voxel is made of; `LOOKS` says how it shows on CT and PET."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    COUCH_SHELL = 4
    COUCH_FOAM = 5
    LOOSE = 6  # fat with small vessels between the muscles of the neck
    BONE = 7
    SPONGY = 8
    SKULL = 9
    TOOTH = 10
    METAL = 11
    CARTILAGE = 12
    WHITE_MATTER = 13
    GREY_MATTER = 14
    CSF = 15
    CORD = 16
    GLOBE = 17
    CELLS = 18  # mastoid and ethmoid: air cells between thin bone
    PAROTID = 19
    SUBMANDIBULAR = 20
    THYROID = 21
    TONSIL = 22
    TONGUE = 23
    MUCOSA = 24
    LARYNX = 25
    VESSEL = 26
    BLOOD = 27
    LUNG = 28
    HEART = 29
    LIVER = 30
    SPLEEN = 31
    KIDNEY = 32
    BLADDER = 33
    BOWEL = 34
    BROWN_FAT = 35
    LUMEN = 36  # air inside the patient
    GTVP = 37
    GTVP_CORE = 38
    GTVN = 39
    GTVN_CORE = 40
    REACTIVE = 41  # a small benign node, mildly avid


T = Tissue
# Tissue: (CT in HU, uptake in SUV). FDG uptake as in Zincirkeser et al. 2007 and Wang et al. 2007,
# rounded; tumour uptake is per lesion (see `tumour`).
LOOKS: dict[Tissue, tuple[float, float]] = {
    T.AIR: (-1000, 0.0), T.SKIN: (20, 0.6), T.FAT: (-105, 0.25), T.MUSCLE: (58, 0.7),
    T.COUCH_SHELL: (-350, 0.0), T.COUCH_FOAM: (-930, 0.0), T.LOOSE: (-75, 0.4),
    T.BONE: (650, 0.8), T.SPONGY: (230, 1.3), T.SKULL: (950, 0.7), T.TOOTH: (1900, 0.4),
    T.METAL: (9000, 0.3), T.CARTILAGE: (160, 0.7), T.WHITE_MATTER: (29, 4.0),
    T.GREY_MATTER: (38, 9.5), T.CSF: (8, 0.8), T.CORD: (35, 1.7), T.GLOBE: (12, 0.6),
    T.CELLS: (-350, 0.5), T.PAROTID: (5, 1.9), T.SUBMANDIBULAR: (45, 2.1), T.THYROID: (105, 1.3),
    T.TONSIL: (68, 3.2), T.TONGUE: (48, 1.3), T.MUCOSA: (55, 1.5), T.LARYNX: (60, 1.6),
    T.VESSEL: (60, 1.6), T.BLOOD: (50, 1.6), T.LUNG: (-820, 0.4), T.HEART: (50, 3.0),
    T.LIVER: (62, 2.3), T.SPLEEN: (52, 1.9), T.KIDNEY: (38, 5.0), T.BLADDER: (8, 30.0),
    T.BOWEL: (20, 1.4), T.BROWN_FAT: (-90, 5.0), T.LUMEN: (-990, 0.1), T.GTVP: (78, 0.0),
    T.GTVP_CORE: (35, 0.0), T.GTVN: (76, 0.0), T.GTVN_CORE: (22, 0.0), T.REACTIVE: (64, 2.4),
}  # fmt: skip


@dataclass(frozen=True)
class Organ:
    """One shape filled with one tissue; with `inside` set only those tissues are overwritten."""

    shape: Shape
    tissue: Tissue
    inside: tuple[Tissue, ...] = ()


# Site: (canonical centre for the left side in mm, semi-axis ratios).
SITES: dict[str, tuple[Point, Point]] = {
    "tonsil": ((19, -43, -57), (0.85, 1.0, 1.25)),
    "base of tongue": ((7, -53, -72), (1.2, 0.95, 0.95)),
    "oral cavity": ((15, -84, -66), (0.9, 1.35, 0.8)),
    "larynx": ((7, -52, -108), (0.9, 1.1, 1.1)),
    "hypopharynx": ((15, -40, -94), (0.9, 0.9, 1.35)),
    "nasopharynx": ((10, -40, -22), (1.2, 0.9, 1.0)),
}
# Level: (canonical centre for the left side in mm, its spread in mm, relative frequency).
LEVELS: dict[str, tuple[Point, Point, float]] = {
    "II": ((41, -24, -56), (3, 5, 10), 0.52),
    "III": ((39, -28, -92), (3, 4, 9), 0.28),
    "IV": ((34, -27, -128), (4, 4, 9), 0.11),
    "V": ((48, 14, -92), (3, 6, 15), 0.09),
}


@dataclass(frozen=True)
class Body:
    """A patient without tumours, all of analytic organs; a `painting.Anatomy`."""

    organs: tuple[Organ, ...]
    pose: Pose
    ct_hu: Array  # by tissue
    pet_suv: Array  # by tissue
    metal_mm: tuple[Point, ...]  # canonical centres of metal fillings
    grain: float = 1.0
    z_range_mm: tuple[float, float] = (-np.inf, np.inf)

    def ground(self, slab: Slab) -> None:
        """See `painting.Anatomy`: the organs are all there is."""

    def hu(self, slab: Slab) -> Array:
        """See `painting.Anatomy`."""
        return self.ct_hu[slab.tissue]

    def offers(self, place: str, side: float) -> bool:
        """See `painting.Anatomy`: everywhere."""
        return True

    def seat(self, rng: np.random.Generator, place: str, side: float, volume_ml: float) -> Point:
        """See `painting.Anatomy`: the place's centre, scattered; large primaries grow outwards."""
        if place in SITES:
            centre, spread = SITES[place][0], (2.0, 2.0, 5.0)
            push = 0.25 * np.cbrt(volume_ml) * np.array([side, -0.3, 0])
        else:
            (centre, spread, _), push = LEVELS[place], np.zeros(3)
        where = np.array([side * centre[0], *centre[1:]]) + push + rng.normal(0, spread)
        return tuple(map(float, where))  # type: ignore[return-value]


SOFT = (T.SKIN, T.FAT, T.MUSCLE, T.LOOSE)
SIDES = (-1.0, 1.0)

# (z, centre x, centre y, semi x, semi y), canonical mm, by rising z.
AIRWAY = (
    (-262, 0, 5, 10, 9), (-240, 0, -6, 9, 9), (-180, 0, -31, 9, 8.5), (-140, 0, -45, 8.5, 8.5),
    (-125, 0, -48, 8, 9), (-118, 0, -50, 5, 10), (-112, 0, -50, 2, 10), (-108, 0, -50, 5, 11),
    (-100, 0, -48, 9, 9), (-92, 0, -43, 12, 7), (-80, 0, -40, 13, 7), (-65, 0, -39, 14, 7),
    (-50, 0, -39, 12, 6), (-42, 0, -41, 10, 5), (-30, 0, -45, 12, 9), (-15, 0, -46, 11, 8),
    (-8, 0, -44, 6, 5),
)  # fmt: skip
NECK = (
    (-185, 0, 5, 95, 66), (-165, 0, 3, 78, 66), (-140, 0, -3, 62, 66), (-115, 0, -10, 58, 69),
    (-95, 0, -11, 58, 70), (-60, 0, -8, 60, 66), (-20, 0, 8, 64, 62), (10, 0, 10, 60, 62),
)  # fmt: skip
FACE = (
    (-112, 0, -50, 34, 38), (-97, 0, -52, 48, 54), (-75, 0, -52, 57, 64), (-45, 0, -54, 64, 68),
    (-20, 0, -56, 67, 68), (0, 0, -58, 68, 65), (30, 0, -56, 66, 64), (40, 0, -50, 60, 66),
)  # fmt: skip
TRUNK = (
    (-905, 0, 10, 175, 100), (-850, 0, 5, 182, 103), (-760, 0, 0, 172, 106), (-640, 0, 0, 150, 108),
    (-520, 0, 0, 155, 110), (-430, 0, -5, 165, 113), (-330, 0, -4, 172, 110),
    (-260, 0, 5, 188, 100),
    (-225, 0, 15, 195, 88), (-200, 0, 22, 180, 78), (-180, 0, 24, 140, 68), (-160, 0, 22, 92, 60),
    (-140, 0, 18, 55, 52),
)  # fmt: skip
SPINE = (  # of the vertebral bodies
    (-850, 0, 72, 30, 12), (-760, 0, 62, 30, 15), (-700, 0, 42, 25, 17), (-640, 0, 26, 24, 17),
    (-560, 0, 22, 22, 16), (-430, 0, 40, 17, 14), (-330, 0, 46, 15, 13), (-240, 0, 38, 14, 11),
    (-180, 0, 14, 12, 9), (-150, 0, -1, 11, 8.5), (-110, 0, -11, 10, 8), (-60, 0, -15, 9.5, 8),
    (-20, 0, -15, 9, 7.5), (-8, 0, -15, 8, 7),
)  # fmt: skip
CAGE = (
    (-470, 0, -2, 142, 92), (-430, 0, -2, 150, 98), (-330, 0, -2, 146, 97), (-260, 0, 4, 132, 88),
    (-205, 0, 14, 98, 62), (-172, 0, 22, 56, 38),
)  # fmt: skip
LUNG = (  # left; the right one is its mirror image
    (-438, 84, 12, 50, 58), (-400, 80, -3, 58, 82), (-330, 78, -3, 58, 84), (-260, 73, 3, 52, 72),
    (-215, 60, 12, 42, 48), (-182, 46, 26, 24, 26), (-165, 42, 30, 4, 4),
)  # fmt: skip
CAROTID = ((-170, 18, -26, 3.5, 3.5), (-100, 26, -30, 3.5, 3.5), (-70, 27, -29, 4, 4),
           (-5, 23, -26, 2.5, 2.5))  # fmt: skip
JUGULAR = ((-170, 28, -30, 6.5, 6.5), (-100, 36, -26, 6, 6), (-40, 36, -22, 5.5, 5.5),
           (-5, 30, -20, 4, 4))  # fmt: skip


def _mirrored(knots: tuple[tuple[float, float, float, float, float], ...], side: float) -> Column:
    return Column(tuple((z, side * cx, cy, rx, ry) for z, cx, cy, rx, ry in knots))


class _Builder:
    """Collects organs in painting order; `egg` varies place and size from patient to patient."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.organs: list[Organ] = []

    def add(self, tissue: Tissue, shape: Shape, inside: tuple[Tissue, ...] = ()) -> None:
        """Append an organ as it is."""
        self.organs.append(Organ(shape, tissue, inside))

    def egg(
        self,
        tissue: Tissue,
        centre: Point,
        semi: Point,
        inside: tuple[Tissue, ...] = (),
        vary: float = 0.06,
    ) -> None:
        """Append an ellipsoid, its size varied by a share `vary`, its place by 12 mm * `vary`."""
        sizes = np.array(semi) * np.exp(vary * self.rng.normal(size=3))
        place = np.array(centre) + 12 * vary * self.rng.normal(size=3)
        shape = Ellipsoid(tuple(place.tolist()), tuple(sizes.tolist()))
        self.organs.append(Organ(shape, tissue, inside))


def make_body(rng: np.random.Generator, arms_up: bool, coarse: bool = False) -> Body:
    """Draw one healthy patient.

    Parameters
    ----------
    rng
        Source of every random number.
    arms_up
        Whether the arms lie beside the head (some whole-body scans) or beside the trunk.
    coarse
        Whether thin bones are drawn thicker, so that coarse voxels do not miss them.
    """
    builder = _Builder(rng)
    add, egg = builder.add, builder.egg
    extra_mm = 0.7 if coarse else 0.0
    fat_mm = float(np.clip(rng.gamma(4.0, 2.2), 2, 24))
    couch_y = 122.0
    add(T.COUCH_SHELL, Column(((-1100, 0, couch_y + 25, 225, 26), (240, 0, couch_y + 25, 205, 26))))
    add(T.COUCH_FOAM, Column(((-1100, 0, couch_y + 25, 221, 22), (240, 0, couch_y + 25, 201, 22))))
    rest = ((-120, 0, 20, 125, 90), (200, 0, -2, 118, 92))
    add(T.COUCH_FOAM, _HalfPipe(Column(rest, wall_mm=14)))
    add(T.COUCH_SHELL, _HalfPipe(Column(rest, wall_mm=2)))

    # Outline: skin of all parts, then fat of all, then muscle of all, so that parts merge.
    limbs: list[tuple[Capsule, float]] = []
    for side in SIDES:
        elbow = (side * 188, -5, 45) if arms_up else (side * 232, 30, -500)
        hand = (side * 85, -40, 250) if arms_up else (side * 195, -30, -770)
        shoulder = (side * 178, 22, -212)
        limbs += [(Capsule(shoulder, elbow, 44), 11), (Capsule(elbow, hand, 33), 12)]
        limbs.append((Capsule((side * 88, 18, -880), (side * 82, 18, -1150), 82), 15))
    wide = rng.normal(1, 0.03)
    trunk = Column(tuple((z, x, y, rx * wide + 0.5 * fat_mm, ry) for z, x, y, rx, ry in TRUNK))
    for tissue, trunk_mm, head_mm in ((T.SKIN, 0, 0), (T.FAT, 2, 2), (T.MUSCLE, 2 + fat_mm, 5)):
        add(tissue, trunk.grown(-trunk_mm))
        add(tissue, Column(NECK).grown(-min(trunk_mm, 8)))
        add(tissue, Column(FACE).grown(-head_mm))
        add(tissue, Ellipsoid((0, -22, 60), (81 - head_mm, 101 - head_mm, 88 - head_mm)))
        egg(tissue, (0, -120, -14), (14 - head_mm, 18 - head_mm, 22 - head_mm), vary=0)
        for side in SIDES:  # ears
            egg(tissue, (side * 79, -8, 5), (8 - head_mm / 2, 15 - head_mm, 28 - head_mm), vary=0)
        for limb, _ in limbs:
            add(tissue, Capsule(limb.start, limb.stop, limb.radius - min(trunk_mm, 14)))
    for limb, bone_mm in limbs:
        add(T.BONE, Capsule(limb.start, limb.stop, bone_mm), SOFT)
        add(T.SPONGY, Capsule(limb.start, limb.stop, bone_mm - 4), (T.BONE,))

    _neck(builder)
    _trunk_organs(builder)
    _spine(builder)
    _face(builder, extra_mm)
    metal = _teeth(builder)
    _skull_and_brain(builder)
    _airway(builder, extra_mm)
    if rng.random() < 0.06:
        for side in SIDES:
            egg(T.BROWN_FAT, (side * 55, 15, -158), (12, 10, 12), (T.FAT, T.LOOSE))

    ct_hu, suv = draw_looks(rng)
    pose = draw_pose(
        rng, size_sd=0.035, stretch_sd=0.02, turn_degrees_sd=4, bend_mm_sd=5, max_ripple_mm=1.4
    )
    return Body(tuple(builder.organs), pose, ct_hu, suv, metal)


def draw_looks(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw how one patient's tissues look: (CT in HU, uptake in SUV), by tissue."""
    table = np.array([LOOKS[tissue] for tissue in Tissue], dtype=np.float32)
    ct_hu, suv = table[:, 0].copy(), table[:, 1] * np.exp(0.12 * rng.normal(size=len(table)))
    ct_hu[[T.VESSEL, T.BLOOD]] += 110 * (rng.random() < 0.45)
    ct_hu[[T.GTVP, T.GTVN]] += rng.uniform(-4, 12)
    ct_hu[T.METAL] = np.exp(rng.uniform(np.log(3100), np.log(27000)))
    for tissue, spread in ((T.HEART, 0.8), (T.KIDNEY, 0.4), (T.BLADDER, 0.7), (T.TONSIL, 0.25),
                           (T.LARYNX, 0.35), (T.REACTIVE, 0.3), (T.THYROID, 0.3),
                           (T.GREY_MATTER, 0.12)):  # fmt: skip
        suv[tissue] *= np.exp(spread * rng.normal())
    suv[[T.GREY_MATTER, T.WHITE_MATTER]] = np.clip(suv[T.GREY_MATTER], 6.5, 13) * np.array([1, 0.4])
    return ct_hu, suv.astype(np.float32)


@dataclass(frozen=True)
class _HalfPipe:
    """The back half of a column: a head rest."""

    pipe: Column
    y_start: float = 35.0

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        lower, upper = self.pipe.bounds()
        return (lower[0], self.y_start, lower[2]), upper

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        return np.where(y < self.y_start, np.float32(2), self.pipe.field(x, y, z))


def _neck(build: _Builder) -> None:
    add, egg = build.add, build.egg
    add(T.LOOSE, Column(((-178, 0, -8, 56, 42), (-150, 0, -8, 53, 46), (-60, 0, -6, 52, 52),
                         (-5, 0, 0, 52, 40))), (T.MUSCLE, T.FAT))  # fmt: skip
    for side in SIDES:
        add(T.MUSCLE, _mirrored(((-178, 23, 34, 22, 18), (-60, 22, 30, 21, 19),
                                 (0, 26, 34, 22, 20)), side), SOFT)  # fmt: skip
        add(T.MUSCLE, _mirrored(((-175, 36, 6, 9, 14), (-40, 34, 6, 9, 10)), side), SOFT)
        add(T.MUSCLE, _mirrored(((-150, 9, -20, 7, 5), (-20, 8, -27, 7, 4)), side), SOFT)
        add(T.MUSCLE, Capsule((side * 55, 8, -18), (side * 20, -52, -166), 9), SOFT)
        egg(T.MUSCLE, (side * 36, -44, -45), (7, 14, 24), SOFT)
        egg(T.MUSCLE, (side * 56, -48, -48), (7, 17, 27), SOFT)
        egg(T.PAROTID, (side * 54, -20, -34), (12, 19, 25), SOFT)
        egg(T.SUBMANDIBULAR, (side * 29, -58, -84), (10, 15, 12), SOFT)
        egg(T.THYROID, (side * 17, -48, -140), (8, 10, 20), SOFT)
        add(T.VESSEL, _mirrored(CAROTID, side), SOFT)
        add(T.VESSEL, _mirrored(JUGULAR, side), SOFT)
        for _ in range(build.rng.integers(2, 7)):
            place = build.rng.uniform([34, -34, -125], [46, 14, -40])
            egg(T.REACTIVE, (side * place[0], place[1], place[2]), (3.2, 3.2, 4.5), SOFT, 0.2)
    egg(T.MUSCLE, (0, 50, -90), (44, 10, 85), SOFT)


def _trunk_organs(build: _Builder) -> None:
    add, egg = build.add, build.egg
    rng = build.rng
    cage = Column(CAGE)
    add(T.LOOSE, cage.grown(-6), SOFT)
    for side in SIDES:
        lung = _mirrored(LUNG, side)
        add(T.LUNG, lung)
        for _ in range(14):  # branching vessels
            root = np.array([side * 25, 5, -300.0])
            tip = root + np.array([side * rng.uniform(30, 80), *rng.uniform(-60, 60, 2) * [1, 1.8]])
            add(T.BLOOD, Capsule(tuple(root), tuple(tip), rng.uniform(1.5, 3.5)), (T.LUNG,))
        add(T.BONE, Capsule((side * 14, -52, -186), (side * 150, 10, -172), 6), SOFT)  # clavicle
        add(T.SPONGY, Capsule((side * 150, 20, -200), (side * 178, 22, -212), 20), SOFT)
        add(T.BONE, Capsule((side * 125, 70, -205), (side * 105, 88, -330), 5), SOFT)  # scapula
        add(T.BONE, Capsule((side * 140, 45, -195), (side * 112, 88, -270), 5), SOFT)
        add(T.BLOOD, Capsule((side * 15, -22, -230), (side * 22, -28, -168), 6), (T.LOOSE, *SOFT))
    add(T.BONE, Ribs(Column(CAGE, wall_mm=6)), SOFT)
    add(T.BONE, Capsule((0, -66, -200), (0, -94, -330), 8), SOFT)  # sternum
    egg(T.HEART, (22, -38, -345), (50, 45, 52))
    egg(T.BLOOD, (18, -32, -345), (30, 28, 32))
    add(T.BLOOD, Column(((-650, 6, -2, 9, 9), (-430, 16, 18, 12, 12), (-255, 20, 18, 13, 13))))
    add(T.BLOOD, Capsule((-12, -35, -290), (-8, -25, -258), 14))
    add(T.BLOOD, Capsule((-8, -25, -258), (20, 16, -258), 13))
    add(T.MUSCLE, Column(((-430, 4, 12, 8, 7), (-240, 3, 12, 8, 6), (-180, 3, -16, 7, 5),
                          (-128, 0, -34, 8, 3))), (T.LOOSE, *SOFT))  # oesophagus  # fmt: skip
    add(T.LOOSE, Column(((-820, 0, -10, 105, 62), (-700, 0, -25, 118, 62), (-470, 0, -15, 125, 75),
                         )),
        SOFT)  # fmt: skip
    for _ in range(45):
        place = rng.uniform([-85, -75, -760], [85, 10, -520])
        egg(T.BOWEL, tuple(place), tuple(rng.uniform(11, 20, 3)), (T.LOOSE, *SOFT))
    egg(T.LIVER, (-62, -12, -450), (82, 78, 62), (T.LOOSE, T.LUNG, T.BOWEL, *SOFT))
    egg(T.SPLEEN, (98, 42, -455), (28, 38, 48), (T.LOOSE, T.LUNG, *SOFT))
    egg(T.BOWEL, (55, -30, -470), (45, 38, 40), (T.LOOSE, *SOFT))
    for side in SIDES:
        egg(T.KIDNEY, (side * 62, 48, -545), (26, 28, 54), (T.LOOSE, T.BOWEL, *SOFT))
        add(T.BONE, Capsule((side * 118, 20, -690), (side * 60, 55, -790), 14), SOFT)  # pelvis
        add(T.SPONGY, Capsule((side * 75, 0, -790), (side * 92, 15, -870), 24), SOFT)
        add(T.BONE, Capsule((side * 72, -10, -850), (0, -62, -855), 9), SOFT)
    egg(T.BLADDER, (0, -35, -815), (38, 34, 30), vary=0.15)


def _spine(build: _Builder) -> None:
    add = build.add
    rng = build.rng
    table = np.array(SPINE).T
    top = -10.0
    for number in range(24):
        height = (16.5, 23.5, 33.0)[(number > 6) + (number > 18)] * rng.normal(1, 0.02)
        z0, z1 = top - 0.82 * height, top
        cy, rx, ry = (float(np.interp((z0 + z1) / 2, table[0], row)) for row in table[2:])
        dy0, dy1 = (float(np.interp(z, table[0], table[2])) for z in (z0, z1))
        disc = Column(((top - height, 0, dy0, rx, ry), (z0, 0, dy0, rx, ry)))
        add(T.CARTILAGE, disc)
        add(T.BONE, Column(((z0, 0, dy0, rx, ry), (z1, 0, dy1, rx, ry))))
        add(
            T.SPONGY,
            Column(((z0 + 2, 0, dy0, rx - 1.5, ry - 1.5), (z1 - 2, 0, dy1, rx - 1.5, ry - 1.5))),
        )
        canal_y, mid = cy + ry + 7, (z0 + z1) / 2
        add(T.BONE, Ellipsoid((0, canal_y, mid), (13, 12, 0.36 * height)), SOFT)
        add(
            T.BONE,
            Capsule((0, canal_y + 8, mid), (0, canal_y + 26 + ry / 2, mid - 0.3 * height), 4),
            SOFT,
        )
        for side in SIDES:
            add(
                T.BONE,
                Capsule((side * 10, canal_y - 3, mid), (side * (14 + rx), canal_y - 1, mid), 5),
                SOFT,
            )
        top -= height
    canal = tuple((z, x, y + ry + 7, 8.5, 7.5) for z, x, y, _, ry in SPINE)
    add(T.CSF, Column(canal))
    add(T.CORD, Column(canal).grown(-3))


def _face(build: _Builder, extra_mm: float) -> None:
    add, egg = build.add, build.egg
    for side in SIDES:
        egg(T.FAT, (side * 33, -90, 13), (19, 26, 18), SOFT)
        egg(T.GLOBE, (side * 33, -100, 13), (12, 12, 12), vary=0.02)
        add(T.MUSCLE, Capsule((side * 26, -62, 13), (side * 32, -90, 13), 3.5), (T.FAT,))
        egg(T.FAT, (side * 46, -72, -38), (10, 17, 20), SOFT)
        egg(T.BONE, (side * 27, -82, -17), (18 + extra_mm, 21, 21))
        egg(T.LUMEN, (side * 27, -82, -17), (16, 19, 19), vary=0.1)
        add(T.BONE, Capsule((side * 48, -94, -8), (side * 63, -48, -6), 4 + extra_mm))
        egg(T.BONE, (side * 46, -36, -45), (4.5 + extra_mm, 15, 36))  # ramus of the mandible
    egg(T.CELLS, (0, -88, 10), (12, 24, 13))
    for side in SIDES:
        egg(T.LUMEN, (side * 7.5, -86, -14), (5.5, 34, 20))
        egg(T.MUCOSA, (side * 9, -84, -20), (2.5, 24, 5))
    egg(T.TONGUE, (0, -77, -65), (23, 31, 19))
    egg(T.TONGUE, (0, -80, -83), (19, 24, 9), SOFT)
    egg(T.BONE, (0, -84, -38), (27, 28, 2.5 + extra_mm))
    add(T.BONE, Arch(-52, (42, 57), 5 + extra_mm, (-90, -66), -34))
    add(T.SPONGY, Arch(-52, (42, 57), 2.2, (-85, -70), -40))
    add(T.BONE, Arch(-68, (25, 42), 6, (-49, -37), -50))
    egg(T.LUMEN, (0, -88, -46), (15, 22, 2))


def _teeth(build: _Builder) -> tuple[Point, ...]:
    add = build.add
    rng = build.rng
    keep, metal_share = rng.uniform(0.4, 1.0), rng.choice([0.0, 0.1, 0.35], p=[0.5, 0.3, 0.2])
    metal = []
    for z, top in ((-53.0, True), (-64.0, False)):
        for angle in np.linspace(-80, 80, 14):
            x, y = 25 * np.sin(np.radians(angle)), -66 - 42 * np.cos(np.radians(angle))
            x, y = (x, y) if top else (1.08 * x, y + 2)
            present, filled = rng.random() < keep, rng.random() < metal_share and abs(angle) > 35
            if not present:
                continue
            add(T.TOOTH, Ellipsoid((x, y, z), (3.8, 3.8, 7)))
            if filled:
                add(T.METAL, Ellipsoid((x, y, z - (2 if top else -2)), (2.6, 2.6, 2.6)))
                metal.append((float(x), float(y), z))
    return tuple(metal)


def _skull_and_brain(build: _Builder) -> None:
    add, egg = build.add, build.egg
    centre = (0.0, -22.0, 61.0)
    add(T.SKULL, Ellipsoid(centre, (75, 95, 80)))
    add(T.SPONGY, Ellipsoid(centre, (72.5, 92.5, 77.5)))
    add(T.SKULL, Ellipsoid(centre, (71, 91, 76)))
    add(T.CSF, Ellipsoid(centre, (68.5, 88, 73.5)))
    add(T.GREY_MATTER, Ellipsoid(centre, (66.5, 86, 71.5)))
    white = Ellipsoid((0, -22, 62), (57, 76, 60))
    phase = float(build.rng.uniform(0, 2 * np.pi))
    add(T.WHITE_MATTER, Folded(white, depth=0.22, period_mm=26, phase_rad=phase))
    for side in SIDES:
        egg(T.GREY_MATTER, (side * 20, -28, 52), (11, 22, 15))  # deep nuclei
        egg(T.CSF, (side * 10, -25, 72), (5, 28, 9))
        egg(T.GREY_MATTER, (side * 26, 30, 8), (24, 26, 17), (T.WHITE_MATTER, T.CSF))  # cerebellum
    egg(T.CSF, (0, -22, 100), (1.5, 80, 32), vary=0.02)
    egg(T.WHITE_MATTER, (0, -2, 8), (13, 12, 28), (T.GREY_MATTER, T.CSF))
    egg(T.SPONGY, (0, -48, 5), (36, 30, 13))
    for side in SIDES:
        egg(T.BONE, (side * 46, -20, 5), (24, 10, 10))
        egg(T.BONE, (side * 55, 0, -8), (13, 15, 19), (*SOFT, T.SPONGY))
        egg(T.CELLS, (side * 55, 0, -6), (10, 12, 15), (T.BONE,))
        egg(T.LUMEN, (side * 62, -14, 2), (16, 3.5, 3.5), (*SOFT, T.BONE, T.SKULL, T.SPONGY))
    egg(T.LUMEN, (0, -56, 6), (13, 12, 9))  # sphenoid sinus
    egg(T.LUMEN, (0, -110, 32), (17, 5, 10), (T.SKULL, T.SPONGY, T.BONE, *SOFT), 0.2)
    add(T.CSF, Capsule((0, 0, 5), (0, 0, -25), 12))  # foramen magnum
    add(T.CORD, Capsule((0, 0, 10), (0, 0, -25), 6.5))


def _airway(build: _Builder, extra_mm: float) -> None:
    add, egg = build.add, build.egg
    wall = (T.TONGUE, *SOFT)
    column = Column(AIRWAY)
    add(T.MUCOSA, Column(AIRWAY[5:]).grown(3.5), wall)
    egg(T.MUCOSA, (0, -56, -41), (15, 13, 5), wall)  # soft palate
    egg(T.MUCOSA, (0, -40, -18), (15, 12, 12), wall)
    add(T.LARYNX, Column(((-124, 0, -49, 12, 14), (-100, 0, -49, 14, 12))), wall)
    add(T.CARTILAGE, Arch(-46, (19, 22), 1.8 + extra_mm, (-122, -102), -40), (T.LARYNX, *wall))
    add(T.CARTILAGE, Column(((-130, 0, -47, 13, 13), (-122, 0, -47, 13, 13))), (T.LARYNX, *wall))
    add(T.BONE, Arch(-52, (20, 20), 2.2 + extra_mm, (-95, -90), -46), (T.MUCOSA, *wall))
    for side in SIDES:
        egg(T.TONSIL, (side * 17, -42, -57), (5.5, 8, 12), (T.MUCOSA, *wall))
    egg(T.TONSIL, (0, -49, -73), (16, 5, 10), (T.MUCOSA, *wall))
    add(T.LUMEN, column)
    egg(T.CARTILAGE, (0, -49, -88), (10, 1.8, 11), (T.LUMEN,))  # epiglottis
