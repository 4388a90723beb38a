"""Head: face, teeth, skull and brain."""

from __future__ import annotations

import numpy as np

from training.phantom.places import SIDES
from training.phantom.shapes import Arch, Capsule, Ellipsoid, Folded, Point
from training.phantom.synthetic.builder import SOFT, Builder
from training.phantom.tissue import T


def add_face(builder: Builder, extra_mm: float) -> None:
    """Add orbits, sinuses, nose, mouth, tongue and mandible; thin bones are `extra_mm` thicker."""
    add, egg = builder.add, builder.egg
    for side in SIDES:
        egg(T.FAT, (side * 33, -90, 13), (19, 26, 18), replaces=SOFT)
        egg(T.GLOBE, (side * 33, -100, 13), (12, 12, 12), vary=0.02)
        add(T.MUSCLE, Capsule((side * 26, -62, 13), (side * 32, -90, 13), 3.5), (T.FAT,))
        egg(T.FAT, (side * 46, -72, -38), (10, 17, 20), replaces=SOFT)
        egg(T.BONE, (side * 27, -82, -17), (18 + extra_mm, 21, 21))
        egg(T.LUMEN, (side * 27, -82, -17), (16, 19, 19), vary=0.1)
        add(T.BONE, Capsule((side * 48, -94, -8), (side * 63, -48, -6), 4 + extra_mm))
        egg(T.BONE, (side * 46, -36, -45), (4.5 + extra_mm, 15, 36))  # ramus of the mandible
    egg(T.CELLS, (0, -88, 10), (12, 24, 13))
    for side in SIDES:
        egg(T.LUMEN, (side * 7.5, -86, -14), (5.5, 34, 20))
        egg(T.MUCOSA, (side * 9, -84, -20), (2.5, 24, 5))
    egg(T.TONGUE, (0, -77, -65), (23, 31, 19))
    egg(T.TONGUE, (0, -80, -83), (19, 24, 9), replaces=SOFT)
    egg(T.BONE, (0, -84, -38), (27, 28, 2.5 + extra_mm))
    add(
        T.BONE,
        Arch(
            centre_y_mm=-52,
            semi_mm=(42, 57),
            half_width_mm=5 + extra_mm,
            z_range_mm=(-90, -66),
            y_end_mm=-34,
        ),
    )
    add(
        T.SPONGY,
        Arch(
            centre_y_mm=-52,
            semi_mm=(42, 57),
            half_width_mm=2.2,
            z_range_mm=(-85, -70),
            y_end_mm=-40,
        ),
    )
    add(
        T.BONE,
        Arch(
            centre_y_mm=-68, semi_mm=(25, 42), half_width_mm=6, z_range_mm=(-49, -37), y_end_mm=-50
        ),
    )
    egg(T.LUMEN, (0, -88, -46), (15, 22, 2))


def add_teeth(builder: Builder) -> tuple[Point, ...]:
    """Add teeth and metal fillings, and return the centres of the fillings."""
    add = builder.add
    rng = builder.rng
    teeth_share = rng.uniform(0.4, 1.0)
    metal_share = rng.choice([0.0, 0.1, 0.35], p=[0.5, 0.3, 0.2])
    metal_mm = []
    for z, is_upper in ((-53.0, True), (-64.0, False)):
        for angle in np.linspace(-80, 80, 14):
            x, y = 25 * np.sin(np.radians(angle)), -66 - 42 * np.cos(np.radians(angle))
            x, y = (x, y) if is_upper else (1.08 * x, y + 2)
            has_tooth = rng.random() < teeth_share
            has_filling = rng.random() < metal_share and abs(angle) > 35
            if not has_tooth:
                continue
            add(T.TOOTH, Ellipsoid((x, y, z), (3.8, 3.8, 7)))
            if has_filling:
                add(T.METAL, Ellipsoid((x, y, z - (2 if is_upper else -2)), (2.6, 2.6, 2.6)))
                metal_mm.append((float(x), float(y), z))
    return tuple(metal_mm)


def add_skull_and_brain(builder: Builder) -> None:
    """Add skull, brain, ventricles, inner ears and sinuses."""
    add, egg = builder.add, builder.egg
    centre = (0.0, -22.0, 61.0)
    add(T.SKULL, Ellipsoid(centre, (75, 95, 80)))
    add(T.SPONGY, Ellipsoid(centre, (72.5, 92.5, 77.5)))
    add(T.SKULL, Ellipsoid(centre, (71, 91, 76)))
    add(T.CSF, Ellipsoid(centre, (68.5, 88, 73.5)))
    add(T.GREY_MATTER, Ellipsoid(centre, (66.5, 86, 71.5)))
    white = Ellipsoid((0, -22, 62), (57, 76, 60))
    phase = float(builder.rng.uniform(0, 2 * np.pi))
    add(T.WHITE_MATTER, Folded(ellipsoid=white, depth=0.22, period_mm=26, phase_rad=phase))
    for side in SIDES:
        egg(T.GREY_MATTER, (side * 20, -28, 52), (11, 22, 15))  # deep nuclei
        egg(T.CSF, (side * 10, -25, 72), (5, 28, 9))
        egg(
            T.GREY_MATTER, (side * 26, 30, 8), (24, 26, 17), replaces=(T.WHITE_MATTER, T.CSF)
        )  # cerebellum
    egg(T.CSF, (0, -22, 100), (1.5, 80, 32), vary=0.02)
    egg(T.WHITE_MATTER, (0, -2, 8), (13, 12, 28), replaces=(T.GREY_MATTER, T.CSF))
    egg(T.SPONGY, (0, -48, 5), (36, 30, 13))
    for side in SIDES:
        egg(T.BONE, (side * 46, -20, 5), (24, 10, 10))
        egg(T.BONE, (side * 55, 0, -8), (13, 15, 19), replaces=(*SOFT, T.SPONGY))
        egg(T.CELLS, (side * 55, 0, -6), (10, 12, 15), replaces=(T.BONE,))
        egg(
            T.LUMEN,
            (side * 62, -14, 2),
            (16, 3.5, 3.5),
            replaces=(*SOFT, T.BONE, T.SKULL, T.SPONGY),
        )
    egg(T.LUMEN, (0, -56, 6), (13, 12, 9))  # sphenoid sinus
    egg(T.LUMEN, (0, -110, 32), (17, 5, 10), replaces=(T.SKULL, T.SPONGY, T.BONE, *SOFT), vary=0.2)
    add(T.CSF, Capsule((0, 0, 5), (0, 0, -25), 12))  # foramen magnum
    add(T.CORD, Capsule((0, 0, 10), (0, 0, -25), 6.5))
