"""Primary tumours (GTVp) and involved nodes (GTVn): where they sit, their shape, their uptake.

A lesion is an ellipsoid with a wavy surface that may only grow into soft tissue. Its volume is
exact: the level of its field is chosen so that the tissue it may fill amounts to what was drawn.
Primaries hang on the mucosa of pharynx, mouth or larynx; nodes lie along the jugular vein
(levels II to IV) or behind the sternocleidomastoid muscle (level V).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.phantom.anatomy import LEVELS, SIDES, SITES, T, Tissue
from training.phantom.biology import (
    BIOLOGY,
    CORES,
    MIN_CORED_NODE_ML,
    MIN_CORED_PRIMARY_ML,
    NODE_ML_SIGMA,
    PRIMARY_ML_SIGMA,
    SUV_SIGMA,
    Core,
)
from training.phantom.painting import BARS_NODE, BARS_PRIMARY, Anatomy, Raster, paint
from training.phantom.shapes import Array, Bounds, Point

# Tissues no tumour enters; LUMEN is entered by the middle of a primary only.
BARRED = (T.AIR, T.SKIN, T.COUCH_SHELL, T.COUCH_FOAM, T.BONE, T.SPONGY, T.SKULL, T.TOOTH, T.METAL,
          T.CORD, T.CSF, T.CARTILAGE, T.LUNG, T.CELLS, T.VESSEL, T.BLOOD)  # fmt: skip
MAX_LEVEL = 1.8  # how far past its ellipsoid a lesion may grow to reach its volume


@dataclass(frozen=True)
class Waves:
    """A smooth random field of unit variance: a sum of plane waves, the same on every grid."""

    k: npt.NDArray[np.float32]  # shape (n, 3), radians per mm
    phase: npt.NDArray[np.float32]  # shape (n,)

    @classmethod
    def draw(cls, rng: np.random.Generator, period_mm: float, count: int = 7) -> Waves:
        """Draw waves of periods around `period_mm` in random directions."""
        direction = rng.normal(size=(count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        periods = period_mm * rng.uniform(0.7, 1.5, size=(count, 1))
        k = 2 * np.pi * direction / periods
        return cls(k.astype(np.float32), rng.uniform(0, 6.28, count).astype(np.float32))

    def at(self, x: Array, y: Array, z: Array) -> Array:
        """Return the field at canonical coordinates in mm."""
        scale = np.float32(np.sqrt(2 / len(self.phase)))
        waves = (np.sin(kx * x + ky * y + kz * z + p)
                 for (kx, ky, kz), p in zip(self.k, self.phase, strict=True))  # fmt: skip
        return sum(waves) * scale


@dataclass(frozen=True)
class Lesion:
    """One primary or node in canonical coordinates; a `shapes.Shape` with an inside below 1."""

    primary: bool
    place: str  # a key of SITES or LEVELS
    side: float  # 1 left, -1 right
    volume_ml: float  # in the world
    centre: Point
    semi: Point  # mm
    tilt: npt.NDArray[np.float32]  # rotation, shape (3, 3)
    surface: Waves
    rough: float
    suv: float  # of viable tumour before blurring
    texture: Waves
    core: Core = "solid"
    necrosis: float = 0.0  # the core is where the field is below this share; 0 for none
    level: float = 1.0

    @property
    def tissue(self) -> Tissue:
        """Viable tumour."""
        return T.GTVP if self.primary else T.GTVN

    @property
    def core_tissue(self) -> Tissue:
        """Necrotic tumour."""
        return T.GTVP_CORE if self.primary else T.GTVN_CORE

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        reach = max(self.semi) * self.level * (1 + 2 * self.rough)
        lower, upper = (tuple(c + sign * reach for c in self.centre) for sign in (-1, 1))
        return lower, upper  # type: ignore[return-value]

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        offset = [x - self.centre[0], y - self.centre[1], z - self.centre[2]]
        radius2 = np.float32(0)
        for row, semi in zip(self.tilt, self.semi, strict=True):
            along = row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]
            radius2 = radius2 + np.square(along * np.float32(1 / semi))
        wavy = 1 + np.float32(self.rough) * np.clip(self.surface.at(x, y, z), -2, 2)
        return np.sqrt(radius2) * wavy / np.float32(self.level)

    def may_fill(
        self, tissue: npt.NDArray[np.uint8], field: Array, barred: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.bool_]:
        """Return where the lesion may grow, given the healthy tissue and `Slab.barred` there."""
        closed = np.zeros(len(Tissue), dtype=bool)
        closed[list(BARRED)] = True
        if self.primary:
            closed[T.VESSEL] = True
        else:
            closed[[T.VESSEL, T.LUMEN, T.MUCOSA, T.TONSIL, T.LARYNX, T.GTVP, T.GTVP_CORE]] = [
                False, *[True] * 6]  # fmt: skip
        allowed = ~closed[tissue] & (barred & (BARS_PRIMARY if self.primary else BARS_NODE) == 0)
        if self.primary:
            allowed &= (tissue != T.LUMEN) | (field * self.level < 0.75)
        return allowed

    def uptake(self, x: Array, y: Array, z: Array) -> Array:
        """Return the SUV inside the lesion: uneven, falling to the rim, low in a necrotic core."""
        field = self.field(x, y, z)
        suv = self.suv * (0.85 + 0.22 * self.texture.at(x, y, z)) * (1.1 - 0.35 * field**2)
        core = np.clip((self.necrosis - field) / 0.15, 0, 1)
        return np.maximum(suv * (1 - 0.88 * core), 0.6).astype(np.float32)


def _rotation(rng: np.random.Generator, max_deg: float) -> npt.NDArray[np.float32]:
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(rng.uniform(-max_deg, max_deg))
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation.astype(np.float32)


def _lesion(
    rng: np.random.Generator,
    place: str,
    side: float,
    centre: Point,
    ratios: Point,
    volume_ml: float,
    body: Anatomy,
    **kwargs: float | bool | str,
) -> Lesion:
    radius = (1000 * volume_ml / float(np.prod(body.pose.scale)) * 3 / (4 * np.pi)) ** (1 / 3)
    shape = np.array(ratios) * np.exp(0.1 * rng.normal(size=3))
    shape *= radius / np.cbrt(np.prod(shape))
    return Lesion(
        place=place, side=side, volume_ml=volume_ml, centre=centre,
        semi=tuple(map(float, shape)),  # type: ignore[arg-type]
        tilt=_rotation(rng, 25), surface=Waves.draw(rng, 2.6 * radius), rough=0.13,
        texture=Waves.draw(rng, max(1.3 * radius, 9)), **kwargs,  # type: ignore[arg-type]
    )  # fmt: skip


def _core(
    rng: np.random.Generator, shares: tuple[float, float, float], large_enough: bool
) -> tuple[Core, float]:
    """Draw what is inside a lesion, and how far the inside reaches (`Lesion.necrosis`)."""
    drawn, reach = rng.choice(len(CORES), p=shares), rng.random()
    core = CORES[drawn] if large_enough else "solid"
    low, high = {"solid": (0.0, 0.0), "necrotic": (0.4, 0.65), "cystic": (0.7, 0.85)}[core]
    return core, float(low + (high - low) * reach)


def offered_sites(body: Anatomy) -> list[str]:
    """Return the sites where this anatomy has room for a primary."""
    return [site for site in SITES if any(body.offers(site, side) for side in SIDES)]


def draw_primary(rng: np.random.Generator, body: Anatomy, hpv: bool) -> Lesion:
    """Draw the primary; site, volume, uptake and core depend on the HPV status (`biology`)."""
    biology, sites = BIOLOGY[hpv], offered_sites(body)
    shares = np.array([biology.sites[site] for site in sites])
    place = str(rng.choice(sites, p=shares / shares.sum()))
    side = float(rng.choice([side for side in SIDES if body.offers(place, side)]))
    volume_ml = float(np.exp(rng.normal(np.log(biology.primary_ml), PRIMARY_ML_SIGMA)))
    volume_ml = float(np.clip(volume_ml, 1.2, 60))
    where = body.seat(rng, place, side, volume_ml)
    suv = float(np.clip(np.exp(rng.normal(np.log(biology.primary_suv), SUV_SIGMA)), 5, 40))
    core, necrosis = _core(rng, biology.primary_cores, volume_ml > MIN_CORED_PRIMARY_ML)
    return _lesion(
        rng, place, side, where, SITES[place][1], volume_ml, body,
        primary=True, suv=suv, core=core, necrosis=necrosis,
    )  # fmt: skip


def draw_node(
    rng: np.random.Generator, body: Anatomy, hpv: bool, side: float, first: bool
) -> Lesion:
    """Draw a node on `side`; the first is the largest, and level II for preference."""
    biology = BIOLOGY[hpv]
    shares = np.array([row[2] * body.offers(level, side) for level, row in LEVELS.items()])
    if first:
        shares = shares * np.array([2.5, 1, 0.4, 0.3])
    level = str(rng.choice(list(LEVELS), p=shares / shares.sum()))
    median_ml = biology.first_node_ml if first else 1.7
    volume_ml = float(np.clip(np.exp(rng.normal(np.log(median_ml), NODE_ML_SIGMA)), 0.5, 25))
    where = body.seat(rng, level, side, volume_ml)
    suv = float(np.clip(np.exp(rng.normal(np.log(15.5), SUV_SIGMA)), 5, 40))
    core, necrosis = _core(rng, biology.node_cores, volume_ml > MIN_CORED_NODE_ML)
    return _lesion(
        rng, level, side, where, (0.85, 0.95, 1.25), volume_ml, body,
        primary=False, suv=suv, core=core, necrosis=necrosis,
    )  # fmt: skip


def settle(lesion: Lesion, body: Anatomy, others: list[Lesion]) -> Lesion:
    """Set the level of a lesion so that the tissue it fills has the volume that was drawn.

    Where even `MAX_LEVEL` does not give it room, the lesion stays smaller and says so.
    """
    roomy = replace(lesion, level=MAX_LEVEL)
    lower, upper = (np.array(corner) for corner in roomy.bounds())
    heights = np.array([lower[2], upper[2]], np.float32)
    x0, x1, y0, y1 = body.pose.world_box(roomy.bounds(), heights)
    z0, z1 = heights * body.pose.scale[2] + body.pose.offset_mm[2]
    spacing = 1.0 if lesion.volume_ml < 3 else 1.6
    size = np.ceil((np.array([x1, y1, z1]) - [x0, y0, z0]) / spacing).astype(int) + 1
    raster = Raster((x0, y0, float(z0)), (spacing,) * 3, (int(size[0]), int(size[1]), int(size[2])))
    slabs = list(paint(body, others, raster, body.pose))
    tissue, barred = (np.concatenate(part) for part in zip(
        *((slab.tissue, slab.barred) for slab in slabs), strict=True))  # fmt: skip
    field = lesion.field(*body.pose.to_canonical(*raster.axes()))
    allowed = np.sort(field[lesion.may_fill(tissue, field, barred) & (field < MAX_LEVEL)])
    wanted = round(1000 * lesion.volume_ml / spacing**3)
    if not len(allowed):
        return replace(lesion, volume_ml=0.0)
    level = float(allowed[min(wanted, len(allowed)) - 1])
    return replace(lesion, level=level, volume_ml=min(wanted, len(allowed)) * spacing**3 / 1000)


def draw_lesions(
    rng: np.random.Generator, body: Anatomy, hpv: bool, primary: bool, nodes: int
) -> list[Lesion]:
    """Draw the primary (if `primary`) and `nodes` nodes that do not lie inside one another."""
    lesions: list[Lesion] = []
    if primary:
        lesions.append(settle(draw_primary(rng, body, hpv), body, []))
    main_side = lesions[0].side if lesions else float(rng.choice([-1, 1]))
    open_sides = [side for side in SIDES if any(body.offers(level, side) for level in LEVELS)]
    found = 0
    for _ in range(12 * nodes):
        if found == nodes:
            break
        side = main_side if found == 0 or rng.random() < 0.72 else -main_side
        side = side if side in open_sides else -side
        node = draw_node(rng, body, hpv, side, first=found == 0)
        apart = all(
            np.linalg.norm(np.subtract(node.centre, other.centre))
            > 0.9 * (max(node.semi) + max(other.semi) * other.level)
            for other in lesions
            if not other.primary
        )
        node = settle(node, body, lesions) if apart else node
        if apart and node.volume_ml > 0.3:
            lesions.append(node)
            found += 1
    return lesions
