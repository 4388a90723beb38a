"""Patients built on real CTs: `painting.Anatomy` of a prepared CT, posed, scaled and mirrored.

A folder holds pairs NAME_ct.nii.gz and NAME_labels.nii.gz (see `real_scan`). Which CT a patient is
built on, and its pose, come from the generator that is handed in; a CT that cannot carry a patient
is passed over for the next one drawn. `python -m training.phantom.check_anatomy FOLDER` tells
which CTs serve, and why others do not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.errors import InputError
from training.phantom.anatomy import Organ, T, draw_looks
from training.phantom.painting import Slab
from training.phantom.real_scan import (
    CT_SUFFIX,
    GRID_MM,
    LABELS_SUFFIX,
    Scan,
    UnusableError,
    read_scan,
)
from training.phantom.shapes import Array, Bounds, Ellipsoid, Point, Pose, draw_pose

CACHED_SCANS = 32  # of about 10 MB
ENDS_MM = 4.0  # a PET's end slices are thick and a few mm off: they see the end slice's tissue
EDGE_MM = 1.2  # sigma of the edge between a lesion and the CT it is set in
GRAIN_KEPT = 0.4
LESIONS = (T.GTVP, T.GTVP_CORE, T.GTVN, T.GTVN_CORE)


@dataclass(frozen=True)
class _Block:
    """The box that a scan fills; as much of `shapes.Shape` as a slab asks for."""

    lower: Point
    upper: Point

    def bounds(self) -> Bounds:
        """See `Shape.bounds`."""
        return self.lower, self.upper

    def field(self, x: Array, y: Array, z: Array) -> Array:
        """See `Shape.field`."""
        return np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)


@dataclass(frozen=True)
class RealBody:
    """A patient without tumours on a real CT; a `painting.Anatomy`."""

    scan: Scan
    mirrored: bool
    organs: tuple[Organ, ...]
    pose: Pose
    ct_hu: Array  # by tissue, of lesions
    pet_suv: Array  # by tissue
    metal_mm: tuple[Point, ...] = ()  # streaks are in the CT where there is metal
    grain: float = 0.5

    @property
    def z_range_mm(self) -> tuple[float, float]:
        """See `painting.Anatomy`."""
        return float(self.scan.first_mm[2]), float(self.scan.last_mm[2])

    def _box(self, slab: Slab) -> tuple[slice, slice, slice] | None:
        past_the_ends = np.array([0, 0, ENDS_MM])
        lower, upper = self.scan.first_mm - past_the_ends, self.scan.last_mm + past_the_ends
        if self.mirrored:
            lower[0], upper[0] = -upper[0], -lower[0]
        return slab.box(_Block(tuple(lower.tolist()), tuple(upper.tolist())))

    def _indices(self, slab: Slab, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """Return continuous indices z (z, 1, 1), y, x (z, y, x) into the scan's arrays."""
        x, y, z = slab.coordinates(box)
        x0, y0, z0 = (np.float32(first) for first in self.scan.first_mm)
        step = np.float32(1 / GRID_MM)
        heights = np.clip((z - z0) * step, 0, len(self.scan.tissue) - 1)
        return heights, (y - y0) * step, ((-x if self.mirrored else x) - x0) * step

    def ground(self, slab: Slab) -> None:
        """See `painting.Anatomy`: the tissue map at the nearest voxel."""
        box = self._box(slab)
        if box is None:
            return
        inside: npt.NDArray[np.bool_] | bool = True
        indices = []
        for index, size in zip(self._indices(slab, box), self.scan.tissue.shape, strict=True):
            nearest = np.rint(index).astype(np.int32)
            inside = inside & (nearest >= 0) & (nearest < size)
            indices.append(np.clip(nearest, 0, size - 1))
        flat = (indices[0] * self.scan.tissue.shape[1] + indices[1]) * self.scan.tissue.shape[2]
        flat += indices[2]
        slab.tissue[box] = np.where(inside, self.scan.tissue.ravel()[flat], T.AIR)
        slab.barred[box] = np.where(inside, self.scan.barred.ravel()[flat], 3)

    def hu(self, slab: Slab) -> Array:
        """See `painting.Anatomy`: the CT, and lesions set into it with a soft edge."""
        hu = np.full(slab.tissue.shape, -1000, np.float32)
        box = self._box(slab)
        if box is None:
            return hu
        z, y, x = self._indices(slab, box)
        coordinates = np.stack([np.broadcast_to(z, y.shape), y, x])
        ndimage.map_coordinates(self.scan.ct_hu, coordinates, hu[box], order=1, cval=-1000)
        found = np.isin(slab.tissue, LESIONS)
        if found.any():
            part = ndimage.find_objects(found.view(np.uint8))[0]
            margin = [0, *(int(np.ceil(4 * EDGE_MM / s)) for s in slab.raster.spacing_mm[1::-1])]
            part = tuple(slice(max(p.start - m, 0), p.stop + m)
                         for p, m in zip(part, margin, strict=True))  # fmt: skip
            sigma = (0, *(EDGE_MM / s for s in slab.raster.spacing_mm[1::-1]))
            inside = found[part].astype(np.float32)
            own = self.ct_hu[slab.tissue[part]]
            own += GRAIN_KEPT * np.clip(hu[part] - own, -40, 40)  # of what was there before
            tumour = ndimage.gaussian_filter(inside * own, sigma)
            share = ndimage.gaussian_filter(inside, sigma)
            hu[part] = hu[part] * (1 - share) + tumour
        return hu

    def offers(self, place: str, side: float) -> bool:
        """See `painting.Anatomy`: where the target volumes are."""
        return (place, -side if self.mirrored else side) in self.scan.seats

    def seat(self, rng: np.random.Generator, place: str, side: float, volume_ml: float) -> Point:
        """See `painting.Anatomy`: in its target volume, the roomier the larger the lesion."""
        x, y, z, room = self.scan.seats[place, -side if self.mirrored else side].T
        roomy = np.flatnonzero(room >= np.quantile(room, 0.5 if volume_ml < 5 else 0.8))
        chosen = int(rng.choice(roomy))
        mirrored = -1 if self.mirrored else 1
        return float(mirrored * x[chosen]), float(y[chosen]), float(z[chosen])


def list_scans(folder: str) -> tuple[str, ...]:
    """Return the names of the CTs in a folder, sorted.

    Raises
    ------
    InputError
        If there is no CT, or one without labels.
    """
    names = sorted(path.name.removesuffix(CT_SUFFIX) for path in Path(folder).glob(f"*{CT_SUFFIX}"))
    if not names:
        raise InputError(
            f"expected CTs named NAME{CT_SUFFIX} with NAME{LABELS_SUFFIX} in {folder}, found none: "
            "give a folder in the form of OpenKBP"
        )
    bare = [name for name in names if not (Path(folder) / f"{name}{LABELS_SUFFIX}").exists()]
    if bare:
        raise InputError(
            f"expected a NAME{LABELS_SUFFIX} for each of the {len(names)} CTs in {folder}, found "
            f"none for {', '.join(bare)}: add them or take these CTs out"
        )
    return tuple(names)


def fingerprint(folder: str) -> dict[str, str]:
    """Return what tells a folder of CTs on any machine: its name and the SHA-256 of its files."""
    digest = hashlib.sha256()
    for name in list_scans(folder):
        for suffix in (CT_SUFFIX, LABELS_SUFFIX):
            path = Path(folder) / f"{name}{suffix}"
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return {"folder": Path(folder).resolve().name, "sha256": digest.hexdigest()}


_listed = lru_cache(maxsize=4)(list_scans)


@lru_cache(maxsize=CACHED_SCANS)
def prepared(folder: str, name: str) -> Scan:
    """Return a CT ready for painting; raises what `read_scan` does."""
    return read_scan(Path(folder), name)


@lru_cache(maxsize=1000)
def refusal(folder: str, name: str) -> str | None:
    """Return why a CT cannot carry a patient, None if it can."""
    try:
        prepared(folder, name)
    except UnusableError as error:
        return str(error)
    return None


def draw_real_body(rng: np.random.Generator, folder: str) -> RealBody:
    """Draw one healthy patient on a CT of the folder.

    Raises
    ------
    InputError
        If the folder holds no CT that can carry a patient, or files that cannot be used.
    """
    names = _listed(folder)
    order = [names[i] for i in rng.permutation(len(names))]
    name = next((name for name in order if refusal(folder, name) is None), None)
    if name is None:
        raise InputError(
            f"expected a CT that can carry a patient in {folder}, found none among {len(names)}; "
            f"the first: {refusal(folder, names[0])}"
        )
    scan = prepared(folder, name)
    ct_hu, suv = draw_looks(rng)
    brown: list[Organ] = []
    if rng.random() < 0.06:
        for side in (-1, 1):
            shape = Ellipsoid((side * 55.0, 15.0, -135.0), (16.0, 14.0, 14.0))
            brown.append(Organ(shape, T.BROWN_FAT, (T.FAT,)))
    pose = draw_pose(
        rng, size_sd=0.03, stretch_sd=0.015, turn_degrees_sd=3, bend_mm_sd=3, max_ripple_mm=1.2
    )
    return RealBody(scan, bool(rng.random() < 0.5), tuple(brown), pose, ct_hu, suv)
