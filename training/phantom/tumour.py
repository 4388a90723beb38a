"""Draws primary tumours (GTVp) and involved nodes (GTVn): place, volume, uptake and core.

Primaries are at the mucosa of pharynx, mouth or larynx. Nodes are along the jugular vein (levels II
to IV) or behind the sternocleidomastoid muscle (level V). Each lesion has a random volume; `grow`
chooses `Lesion.level`, its size relative to its ellipsoid, so that it fills exactly this volume of
tissue.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

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
from training.phantom.body import Body
from training.phantom.lesion import Lesion
from training.phantom.painting import paint
from training.phantom.places import LEVELS, SIDES, SITES
from training.phantom.shapes import Point
from training.phantom.slab import Raster
from training.phantom.waves import Waves

MAX_LEVEL = 1.8
"""Largest `Lesion.level`: how much larger than its ellipsoid a lesion may become."""
NODE_RATIOS = (0.85, 0.95, 1.25)
"""Ratios of the semi-axes of a node."""
LATER_NODE_ML = 1.7
"""Median volume of every node but the first."""
NODE_SUV = 15.5
"""Median uptake of viable tumour in a node."""
MIN_NODE_ML = 0.3
"""A node that has room for less than this volume is dropped."""
TRIES_PER_NODE = 12


def sites_with_room(body: Body) -> list[str]:
    """Return the sites at which this body has room for a primary."""
    return [site for site in SITES if any(body.has_room(site, side) for side in SIDES)]


def draw_primary(rng: np.random.Generator, body: Body, hpv: bool) -> Lesion:
    """Draw the primary; site, volume, uptake and core depend on the HPV status (`biology`)."""
    biology, sites = BIOLOGY[hpv], sites_with_room(body)
    shares = np.array([biology.sites[site] for site in sites])
    site = str(rng.choice(sites, p=shares / shares.sum()))
    side = float(rng.choice([side for side in SIDES if body.has_room(site, side)]))
    volume_ml = float(np.exp(rng.normal(np.log(biology.primary_ml), PRIMARY_ML_SIGMA)))
    volume_ml = float(np.clip(volume_ml, 1.2, 60))
    centre_mm = body.draw_seat(rng, place=site, side=side, volume_ml=volume_ml)
    suv = float(np.clip(np.exp(rng.normal(np.log(biology.primary_suv), SUV_SIGMA)), 5, 40))
    is_large = volume_ml > MIN_CORED_PRIMARY_ML
    core, necrosis = _draw_core(rng, biology.primary_cores, is_large)
    semi_mm, tilt, surface, texture = _draw_form(rng, SITES[site][1], volume_ml, body)
    return Lesion(
        primary=True, place=site, side=side, volume_ml=volume_ml, centre_mm=centre_mm,
        semi_mm=semi_mm, tilt=tilt, surface=surface, roughness=0.13, suv=suv, texture=texture,
        core=core, necrosis=necrosis,
    )  # fmt: skip


def draw_node(
    rng: np.random.Generator, body: Body, *, hpv: bool, side: float, first: bool
) -> Lesion:
    """Draw a node on `side`; the first is the largest and prefers level II."""
    biology = BIOLOGY[hpv]
    shares = np.array([row[2] * body.has_room(level, side) for level, row in LEVELS.items()])
    if first:
        shares = shares * np.array([2.5, 1, 0.4, 0.3])
    level = str(rng.choice(list(LEVELS), p=shares / shares.sum()))
    median_ml = biology.first_node_ml if first else LATER_NODE_ML
    volume_ml = float(np.clip(np.exp(rng.normal(np.log(median_ml), NODE_ML_SIGMA)), 0.5, 25))
    centre_mm = body.draw_seat(rng, place=level, side=side, volume_ml=volume_ml)
    suv = float(np.clip(np.exp(rng.normal(np.log(NODE_SUV), SUV_SIGMA)), 5, 40))
    is_large = volume_ml > MIN_CORED_NODE_ML
    core, necrosis = _draw_core(rng, biology.node_cores, is_large)
    semi_mm, tilt, surface, texture = _draw_form(rng, NODE_RATIOS, volume_ml, body)
    return Lesion(
        primary=False, place=level, side=side, volume_ml=volume_ml, centre_mm=centre_mm,
        semi_mm=semi_mm, tilt=tilt, surface=surface, roughness=0.13, suv=suv, texture=texture,
        core=core, necrosis=necrosis,
    )  # fmt: skip


def grow(lesion: Lesion, body: Body, others: list[Lesion]) -> Lesion:
    """Set `Lesion.level` so that the tissue that the lesion fills has the lesion's volume.

    A lesion without enough room below `MAX_LEVEL` stays smaller, and its `volume_ml` is reduced to
    the volume that it fills, which is 0 if there is no room at all.

    Parameters
    ----------
    lesion : the lesion with the volume that was drawn.
    others : lesions that are already in the body.
    """
    largest = replace(lesion, level=MAX_LEVEL)
    lower, upper = (np.array(corner) for corner in largest.bounds())
    heights = np.array([lower[2], upper[2]], np.float32)
    x0, x1, y0, y1 = body.pose.world_box(largest.bounds(), heights)
    z0, z1 = heights * body.pose.scale[2] + body.pose.offset_mm[2]
    spacing_mm = 1.0 if lesion.volume_ml < 3 else 1.6
    size = np.ceil((np.array([x1, y1, z1]) - [x0, y0, z0]) / spacing_mm).astype(int) + 1
    raster = Raster(
        (x0, y0, float(z0)), (spacing_mm,) * 3, (int(size[0]), int(size[1]), int(size[2]))
    )
    slabs = list(paint(body, others, raster=raster, pose=body.pose))
    tissue, barriers = (np.concatenate(part) for part in zip(
        *((slab.tissue, slab.barriers) for slab in slabs), strict=True))  # fmt: skip
    field = lesion.field(*body.pose.to_canonical(*raster.axes()))
    levels = np.sort(field[lesion.may_fill(tissue, field, barriers) & (field < MAX_LEVEL)])
    target = round(1000 * lesion.volume_ml / spacing_mm**3)
    if not len(levels):
        return replace(lesion, volume_ml=0.0)
    count = min(target, len(levels))
    return replace(
        lesion, level=float(levels[count - 1]), volume_ml=count * spacing_mm**3 / 1000
    )  # fmt: skip


def draw_lesions(
    rng: np.random.Generator, body: Body, *, hpv: bool, primary: bool, nodes: int
) -> list[Lesion]:
    """Draw the primary (if `primary`) and up to `nodes` nodes that do not overlap.

    There are fewer nodes if `TRIES_PER_NODE` tries per node are not enough to place them.
    """
    lesions: list[Lesion] = []
    if primary:
        lesions.append(grow(draw_primary(rng, body, hpv), body, []))
    main_side = lesions[0].side if lesions else float(rng.choice([-1, 1]))
    sides = [side for side in SIDES if any(body.has_room(level, side) for level in LEVELS)]
    count = 0
    for _ in range(TRIES_PER_NODE * nodes):
        if count == nodes:
            break
        side = main_side if count == 0 or rng.random() < 0.72 else -main_side
        side = side if side in sides else -side
        node = draw_node(rng, body, hpv=hpv, side=side, first=count == 0)
        if _overlaps(node, lesions):
            continue
        node = grow(node, body, lesions)
        if node.volume_ml > MIN_NODE_ML:
            lesions.append(node)
            count += 1
    return lesions


def _overlaps(node: Lesion, lesions: list[Lesion]) -> bool:
    """Return whether a node lies too close to another node."""
    return any(
        np.linalg.norm(np.subtract(node.centre_mm, other.centre_mm))
        <= 0.9 * (max(node.semi_mm) + max(other.semi_mm) * other.level)
        for other in lesions
        if not other.primary
    )


def _draw_core(
    rng: np.random.Generator, shares: tuple[float, float, float], is_large: bool
) -> tuple[Core, float]:
    """Draw the core of a lesion and its extent (`Lesion.necrosis`); small lesions are solid."""
    index, extent = rng.choice(len(CORES), p=shares), rng.random()
    core = CORES[index] if is_large else "solid"
    low, high = {"solid": (0.0, 0.0), "necrotic": (0.4, 0.65), "cystic": (0.7, 0.85)}[core]
    return core, float(low + (high - low) * extent)


def _draw_form(
    rng: np.random.Generator, ratios: Point, volume_ml: float, body: Body
) -> tuple[Point, npt.NDArray[np.float32], Waves, Waves]:
    """Draw semi-axes (canonical mm), tilt, surface and texture of a lesion."""
    radius_mm = (1000 * volume_ml / float(np.prod(body.pose.scale)) * 3 / (4 * np.pi)) ** (1 / 3)
    semi = np.array(ratios) * np.exp(0.1 * rng.normal(size=3))
    semi *= radius_mm / np.cbrt(np.prod(semi))
    semi_mm: Point = tuple(map(float, semi))  # type: ignore[assignment]
    tilt = _draw_rotation(rng, max_deg=25)
    surface = Waves.draw(rng, 2.6 * radius_mm)
    return semi_mm, tilt, surface, Waves.draw(rng, max(1.3 * radius_mm, 9))


def _draw_rotation(rng: np.random.Generator, max_deg: float) -> npt.NDArray[np.float32]:
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.radians(rng.uniform(-max_deg, max_deg))
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation.astype(np.float32)
