"""Neck and airway: muscles, glands, vessels, pharynx and larynx."""

from __future__ import annotations

from training.phantom.places import SIDES
from training.phantom.shapes import Arch, Capsule, Column
from training.phantom.synthetic.builder import SOFT, Builder, mirrored_column
from training.phantom.tissue import T

# Knots of columns, see `shapes.Knot`; vessels of the left side.
AIRWAY = (
    (-262, 0, 5, 10, 9), (-240, 0, -6, 9, 9), (-180, 0, -31, 9, 8.5), (-140, 0, -45, 8.5, 8.5),
    (-125, 0, -48, 8, 9), (-118, 0, -50, 5, 10), (-112, 0, -50, 2, 10), (-108, 0, -50, 5, 11),
    (-100, 0, -48, 9, 9), (-92, 0, -43, 12, 7), (-80, 0, -40, 13, 7), (-65, 0, -39, 14, 7),
    (-50, 0, -39, 12, 6), (-42, 0, -41, 10, 5), (-30, 0, -45, 12, 9), (-15, 0, -46, 11, 8),
    (-8, 0, -44, 6, 5),
)  # fmt: skip
CAROTID = ((-170, 18, -26, 3.5, 3.5), (-100, 26, -30, 3.5, 3.5), (-70, 27, -29, 4, 4),
           (-5, 23, -26, 2.5, 2.5))  # fmt: skip
JUGULAR = ((-170, 28, -30, 6.5, 6.5), (-100, 36, -26, 6, 6), (-40, 36, -22, 5.5, 5.5),
           (-5, 30, -20, 4, 4))  # fmt: skip


def add_neck(builder: Builder) -> None:
    """Add muscles, glands, vessels and small benign nodes of the neck."""
    add, egg = builder.add, builder.egg
    add(T.LOOSE, Column(((-178, 0, -8, 56, 42), (-150, 0, -8, 53, 46), (-60, 0, -6, 52, 52),
                         (-5, 0, 0, 52, 40))), (T.MUSCLE, T.FAT))  # fmt: skip
    for side in SIDES:
        add(T.MUSCLE, mirrored_column(((-178, 23, 34, 22, 18), (-60, 22, 30, 21, 19),
                                 (0, 26, 34, 22, 20)), side), SOFT)  # fmt: skip
        add(T.MUSCLE, mirrored_column(((-175, 36, 6, 9, 14), (-40, 34, 6, 9, 10)), side), SOFT)
        add(T.MUSCLE, mirrored_column(((-150, 9, -20, 7, 5), (-20, 8, -27, 7, 4)), side), SOFT)
        add(T.MUSCLE, Capsule((side * 55, 8, -18), (side * 20, -52, -166), 9), SOFT)
        egg(T.MUSCLE, (side * 36, -44, -45), (7, 14, 24), replaces=SOFT)
        egg(T.MUSCLE, (side * 56, -48, -48), (7, 17, 27), replaces=SOFT)
        egg(T.PAROTID, (side * 54, -20, -34), (12, 19, 25), replaces=SOFT)
        egg(T.SUBMANDIBULAR, (side * 29, -58, -84), (10, 15, 12), replaces=SOFT)
        egg(T.THYROID, (side * 17, -48, -140), (8, 10, 20), replaces=SOFT)
        add(T.VESSEL, mirrored_column(CAROTID, side), SOFT)
        add(T.VESSEL, mirrored_column(JUGULAR, side), SOFT)
        for _ in range(builder.rng.integers(2, 7)):
            x, y, z = builder.rng.uniform([34, -34, -125], [46, 14, -40])
            egg(T.REACTIVE, (side * x, y, z), (3.2, 3.2, 4.5), replaces=SOFT, vary=0.2)
    egg(T.MUSCLE, (0, 50, -90), (44, 10, 85), replaces=SOFT)


def add_airway(builder: Builder, extra_mm: float) -> None:
    """Add pharynx, larynx and trachea; thin bones are `extra_mm` thicker."""
    add, egg = builder.add, builder.egg
    wall = (T.TONGUE, *SOFT)
    add(T.MUCOSA, Column(AIRWAY[5:]).grown(3.5), wall)
    egg(T.MUCOSA, (0, -56, -41), (15, 13, 5), replaces=wall)  # soft palate
    egg(T.MUCOSA, (0, -40, -18), (15, 12, 12), replaces=wall)
    add(T.LARYNX, Column(((-124, 0, -49, 12, 14), (-100, 0, -49, 14, 12))), wall)
    add(
        T.CARTILAGE,
        Arch(
            centre_y_mm=-46,
            semi_mm=(19, 22),
            half_width_mm=1.8 + extra_mm,
            z_range_mm=(-122, -102),
            y_end_mm=-40,
        ),
        (T.LARYNX, *wall),
    )
    add(T.CARTILAGE, Column(((-130, 0, -47, 13, 13), (-122, 0, -47, 13, 13))), (T.LARYNX, *wall))
    add(
        T.BONE,
        Arch(
            centre_y_mm=-52,
            semi_mm=(20, 20),
            half_width_mm=2.2 + extra_mm,
            z_range_mm=(-95, -90),
            y_end_mm=-46,
        ),
        (T.MUCOSA, *wall),
    )
    for side in SIDES:
        egg(T.TONSIL, (side * 17, -42, -57), (5.5, 8, 12), replaces=(T.MUCOSA, *wall))
    egg(T.TONSIL, (0, -49, -73), (16, 5, 10), replaces=(T.MUCOSA, *wall))
    add(T.LUMEN, Column(AIRWAY))
    egg(T.CARTILAGE, (0, -49, -88), (10, 1.8, 11), replaces=(T.LUMEN,))  # epiglottis
