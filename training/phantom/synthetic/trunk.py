"""Trunk and spine: rib cage, organs of chest and abdomen, pelvis, vertebrae and cord."""

from __future__ import annotations

import numpy as np

from training.phantom.places import SIDES
from training.phantom.shapes import Capsule, Column, Ellipsoid, Ribs
from training.phantom.synthetic.builder import SOFT, Builder, mirrored_column
from training.phantom.tissue import T

# Knots of columns, see `shapes.Knot`.
SPINE = (  # vertebral bodies
    (-850, 0, 72, 30, 12), (-760, 0, 62, 30, 15), (-700, 0, 42, 25, 17), (-640, 0, 26, 24, 17),
    (-560, 0, 22, 22, 16), (-430, 0, 40, 17, 14), (-330, 0, 46, 15, 13), (-240, 0, 38, 14, 11),
    (-180, 0, 14, 12, 9), (-150, 0, -1, 11, 8.5), (-110, 0, -11, 10, 8), (-60, 0, -15, 9.5, 8),
    (-20, 0, -15, 9, 7.5), (-8, 0, -15, 8, 7),
)  # fmt: skip
CAGE = (
    (-470, 0, -2, 142, 92), (-430, 0, -2, 150, 98), (-330, 0, -2, 146, 97), (-260, 0, 4, 132, 88),
    (-205, 0, 14, 98, 62), (-172, 0, 22, 56, 38),
)  # fmt: skip
LUNG = (  # left side
    (-438, 84, 12, 50, 58), (-400, 80, -3, 58, 82), (-330, 78, -3, 58, 84), (-260, 73, 3, 52, 72),
    (-215, 60, 12, 42, 48), (-182, 46, 26, 24, 26), (-165, 42, 30, 4, 4),
)  # fmt: skip


def add_trunk_organs(builder: Builder) -> None:
    """Add rib cage, shoulders, organs of chest and abdomen, and pelvis."""
    add, egg = builder.add, builder.egg
    rng = builder.rng
    add(T.LOOSE, Column(CAGE).grown(-6), SOFT)
    for side in SIDES:
        add(T.LUNG, mirrored_column(LUNG, side))
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
        egg(T.BOWEL, tuple(place), tuple(rng.uniform(11, 20, 3)), replaces=(T.LOOSE, *SOFT))
    egg(T.LIVER, (-62, -12, -450), (82, 78, 62), replaces=(T.LOOSE, T.LUNG, T.BOWEL, *SOFT))
    egg(T.SPLEEN, (98, 42, -455), (28, 38, 48), replaces=(T.LOOSE, T.LUNG, *SOFT))
    egg(T.BOWEL, (55, -30, -470), (45, 38, 40), replaces=(T.LOOSE, *SOFT))
    for side in SIDES:
        egg(T.KIDNEY, (side * 62, 48, -545), (26, 28, 54), replaces=(T.LOOSE, T.BOWEL, *SOFT))
        add(T.BONE, Capsule((side * 118, 20, -690), (side * 60, 55, -790), 14), SOFT)  # pelvis
        add(T.SPONGY, Capsule((side * 75, 0, -790), (side * 92, 15, -870), 24), SOFT)
        add(T.BONE, Capsule((side * 72, -10, -850), (0, -62, -855), 9), SOFT)
    egg(T.BLADDER, (0, -35, -815), (38, 34, 30), vary=0.15)


def add_spine(builder: Builder) -> None:
    """Add 24 vertebrae with their discs, and the canal with the cord."""
    add = builder.add
    rng = builder.rng
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
