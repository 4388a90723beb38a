"""The tissues and organs of a phantom, and their appearance on CT and PET."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from training.phantom.shapes import Array, Shape


class Tissue(IntEnum):
    """The tissue of a voxel; `LOOKS` states its appearance on CT and PET."""

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
    CELLS = 18  # air cells between thin bone: mastoid and ethmoid
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
    REACTIVE = 41  # small benign node, mildly avid


T = Tissue
GTVP_TISSUES = (T.GTVP, T.GTVP_CORE)
GTVN_TISSUES = (T.GTVN, T.GTVN_CORE)
LESION_TISSUES = GTVP_TISSUES + GTVN_TISSUES
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
"""CT in HU and uptake in SUV of each tissue.

FDG uptake follows Zincirkeser et al. 2007 and Wang et al. 2007, rounded. Each lesion has its own
uptake (`lesion.Lesion.suv`).
"""


@dataclass(frozen=True)
class Organ:
    """One shape filled with one tissue."""

    shape: Shape
    tissue: Tissue
    replaces: tuple[Tissue, ...] = ()  # the organ overwrites only these tissues; all if empty


def draw_looks(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw the appearance of one patient's tissues: CT in HU and uptake in SUV, by tissue."""
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
