"""From a planning CT and its labels to a tissue map: what `anatomy` draws, found in a real patient.

The form is OpenKBP's (Babier et al. 2021): a CT in HU and one label map on its grid. Labels and HU
give the tissues; the cord's centre line gives the midline at every height, the air before it the
pharynx, the larynx the border between sites and between node levels. Canonical coordinates are LPS
in mm with the origin at the top of the cord, as in `shapes`. A CT that cannot carry a patient is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from shared.errors import InputError
from shared.geometry import Box, Grid, bounding_slices, resample
from training.phantom.anatomy import LEVELS, SIDES, SITES, T
from training.phantom.painting import BARS_NODE, BARS_PRIMARY
from training.phantom.shapes import Array
from training.phantom.tumour import Waves

Mask = npt.NDArray[np.bool_]
Tissues = npt.NDArray[np.uint8]
CT_SUFFIX, LABELS_SUFFIX = "_ct.nii.gz", "_labels.nii.gz"


class Organ(IntEnum):
    """The labels of OpenKBP."""

    PTV56 = 1
    PTV63 = 2
    PTV70 = 3
    BRAINSTEM = 4
    CORD = 5
    RIGHT_PAROTID = 6
    LEFT_PAROTID = 7
    OESOPHAGUS = 8
    LARYNX = 9
    MANDIBLE = 10


TARGETS = (Organ.PTV56, Organ.PTV63, Organ.PTV70)
GRID_MM = 2.5
NECK_MARGIN_MM = 60.0  # around the pharynx: glands, target volumes, node levels
BODY_HU, LUMEN_HU, FAT_HU, BONE_HU, DENSE_HU, TOOTH_HU = -400, -350, -30, 350, 150, 1900
# OpenKBP blanks what no beam reaches, cord and brainstem left: there the section shrinks at once.
WHOLE_MM2, SHRINKS_TO, VERTEX_MM2 = 6000, 0.7, 800
LOWEST_MM, HIGHEST_MM = -140.0, 20.0  # to be reached: below the larynx, the nasopharynx
VERTEX_MM = 80.0  # a scan that reaches this shows most of the brain
# Medians of the 60 OpenKBP CTs, whose necks are extended: larynx label, hard palate.
LARYNX_MM, PALATE_MM = (-100.0, -65.0), 12.0
TOLERANCE_MM = 2.5  # how far a lesion may leave its target volume
SOFT = (T.MUSCLE, T.FAT, T.MUCOSA, T.TONSIL, T.TONGUE, T.LARYNX)
ROOM_MM = 11.0  # half the width of the box in which room is counted: a tumour of 5 ml
LEAST_SEATS = 20  # voxels: 0.3 ml of places to choose from


class UnusableError(InputError):
    """A CT that cannot carry a patient."""


@dataclass(frozen=True)
class Scan:
    """A prepared CT on a grid of `GRID_MM` in canonical coordinates; arrays are (z, y, x)."""

    name: str
    ct_hu: npt.NDArray[np.int16]
    tissue: Tissues
    barred: Tissues  # see `painting.Slab`
    first_mm: npt.NDArray[np.float64]  # canonical x, y, z of voxel 0
    seats: dict[tuple[str, float], Array]  # (place, side): rows (x, y, z in mm, share of room)

    @property
    def last_mm(self) -> npt.NDArray[np.float64]:
        """Canonical x, y, z of the last voxel."""
        return self.first_mm + GRID_MM * (np.array(self.tissue.shape[::-1]) - 1)


def read_scan(folder: Path, name: str) -> Scan:
    """Read and prepare one CT.

    Raises
    ------
    InputError
        If the labels lie on another grid, or the axes do not follow the world's.
    UnusableError
        If cord or PTV70 are missing, too little of the neck is shown, or no place is left for a
        primary or a node.
    """
    ct, labels = (
        sitk.DICOMOrient(sitk.ReadImage(str(folder / f"{name}{suffix}")), "LPS")
        for suffix in (CT_SUFFIX, LABELS_SUFFIX)
    )
    if not ct.IsSameImageGeometryAs(labels):
        raise InputError(
            f"expected {name}{LABELS_SUFFIX} on the grid of {name}{CT_SUFFIX} in {folder}, found "
            f"{_geometry(labels)} and {_geometry(ct)}: resample the labels to the CT"
        )
    if not np.allclose(ct.GetDirection(), np.eye(3).ravel(), atol=1e-4):
        raise InputError(
            f"expected axes along the world's in {name}{CT_SUFFIX} in {folder}, found an oblique "
            "direction: resample it with its labels"
        )
    label = sitk.GetArrayViewFromImage(labels)
    for organ in (Organ.CORD, Organ.PTV70):
        if not (label == organ).any():
            raise UnusableError(f"{name}: no {organ.name} ({organ.value}) among its labels")
    return _prepare(name, ct, labels, label)


def _geometry(image: sitk.Image) -> str:
    spacing = " × ".join(f"{s:g}" for s in image.GetSpacing())
    origin = ", ".join(f"{o:g}" for o in image.GetOrigin())
    return f"{' × '.join(map(str, image.GetSize()))} voxels of {spacing} mm from ({origin})"


def _whole_slices(body: Mask, label: Tissues, voxel_mm2: float) -> tuple[int, int]:
    """Return the first and the last slice of the part that shows the body's whole section."""
    area = body.sum(axis=(1, 2)) * voxel_mm2
    middle = int(np.median(np.nonzero(label == Organ.PTV70)[0]))

    def last(step: int) -> int:
        z = middle
        while 0 <= z + step < len(area):
            here, there = area[z], area[z + step]
            if there < VERTEX_MM2 or (here > WHOLE_MM2 and there < SHRINKS_TO * here):
                break
            z += step
        return z

    return last(-1), last(1)


def _prepare(name: str, ct: sitk.Image, labels: sitk.Image, label: Tissues) -> Scan:
    spacing = np.array(ct.GetSpacing())
    coarse = sitk.GetArrayViewFromImage(ct)
    body = _largest(_opened(coarse > BODY_HU, (0, 1, 1)))  # cuts couch and mask off
    low, high = _whole_slices(body, label, float(spacing[0] * spacing[1]))
    origin = np.array(ct.GetOrigin())
    top = int(np.nonzero((label == Organ.CORD).any(axis=(1, 2)))[0][-1])
    y, x = (float(np.mean(i)) for i in np.nonzero(label[top] == Organ.CORD))
    base = origin + spacing * [x, y, top]  # the world point that becomes the canonical origin
    bottom_mm, top_mm = (float(origin[2] + spacing[2] * z - base[2]) for z in (low, high))
    if bottom_mm > LOWEST_MM or top_mm < HIGHEST_MM:
        raise UnusableError(
            f"{name}: whole sections from {bottom_mm:.0f} to {top_mm:.0f} mm over the cord's top, "
            f"expected at least {LOWEST_MM:.0f} to {HIGHEST_MM:.0f}"
        )
    box = bounding_slices(body[low : high + 1])
    assert box is not None
    corner = np.array([box[2].start, box[1].start, 0]) * spacing + [0, 0, low * spacing[2]]
    extent = np.array([box[2].stop - box[2].start, box[1].stop - box[1].start, high - low + 1]) - 1
    size = np.floor(extent * spacing / GRID_MM).astype(int) + 1
    grid = Grid(tuple(size.tolist()), (GRID_MM,) * 3, tuple((origin + corner).tolist()))
    return _Labeller(name, ct, labels, grid, base).scan()


def _box_filter(mask: Mask, radius: Sequence[int], grow: bool) -> Mask:
    """Dilate or erode by a box of radii (z, y, x) in voxels; a box costs the same at any size."""
    act = ndimage.maximum_filter if grow else ndimage.minimum_filter
    return act(mask.view(np.uint8), [2 * r + 1 for r in radius]).view(bool)


def _opened(mask: Mask, radius: Sequence[int]) -> Mask:
    return _box_filter(_box_filter(mask, radius, grow=False), radius, grow=True)


def _largest(mask: Mask) -> Mask:
    return np.asarray(cc3d.largest_k(mask, k=1, connectivity=6) > 0)


def _filled(walls: Mask) -> Mask:
    """Return what walls enclose in each axial slice, with the walls."""
    open_space = np.pad(~walls, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    filled = np.empty(walls.shape, dtype=bool)
    for z, plane in enumerate(open_space):
        parts = cc3d.connected_components(plane, connectivity=4)
        filled[z] = (parts != parts[0, 0])[1:-1, 1:-1]
    return filled


def _depth_mm(mask: Mask) -> Array:
    """Return the distance to the outside of the mask, 0 outside; the image's edge is outside."""
    depth = np.zeros(mask.shape, np.float32)
    box = bounding_slices(mask)
    if box is not None:
        depth[box] = (
            GRID_MM * ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
        )
    return depth


class _Labeller:
    """One CT on the fine grid while its tissues are found; all coordinates are canonical, in mm."""

    def __init__(
        self, name: str, ct: sitk.Image, labels: sitk.Image, grid: Grid, base: npt.NDArray[Any]
    ) -> None:
        self.name, self.labels, self.grid = name, labels, grid
        # B-splines overshoot beside air and metal
        fine = sitk.GetArrayFromImage(resample(ct, grid, interpolation="bspline", outside=-1000.0))
        self.hu = np.round(np.clip(fine, -1024, 3071)).astype(np.float32)
        self.first_mm = np.array(grid.origin_mm) - base
        self.x, self.y, self.z = (
            (first + GRID_MM * np.arange(n)).astype(np.float32)
            for first, n in zip(self.first_mm, grid.size_xyz, strict=True)
        )
        self.organs = {organ: self.organ(organ) for organ in Organ if organ not in TARGETS}
        self._find_midline()

    def organ(self, *values: int) -> Mask:
        """Return labels on the fine grid, their steps smoothed."""
        found = np.isin(sitk.GetArrayViewFromImage(self.labels), values)
        mask = np.zeros(self.grid.shape_zyx, dtype=bool)
        if not found.any():
            return mask
        image = sitk.GetImageFromArray(found.astype(np.float32))
        image.CopyInformation(self.labels)
        start = [slices.start for slices in bounding_slices(found)[::-1]]  # type: ignore[index]
        stop = [slices.stop for slices in bounding_slices(found)[::-1]]  # type: ignore[index]
        around = Grid.of(self.labels).cropped(Box(tuple(start), tuple(stop)))
        box = self.grid.box_around(around, margin_vox=1)
        if not box.is_empty:
            part = resample(image, self.grid.cropped(box), interpolation="linear", outside=0.0)
            mask[box.slices_zyx()] = sitk.GetArrayViewFromImage(part) > 0.5
        return mask

    def _find_midline(self) -> None:
        """Follow the cord; over its top the midline goes straight up."""
        cord = self.organs[Organ.CORD]
        heights = np.flatnonzero(cord.any(axis=(1, 2)))
        centres = np.array([[np.mean(i) for i in np.nonzero(cord[z])] for z in heights])
        y, x = (
            ndimage.gaussian_filter1d(np.interp(np.arange(len(self.z)), heights, row), 3)
            for row in centres.T
        )
        self.dx = self.x[None, None, :] - self.x[0] - GRID_MM * x[:, None, None].astype(np.float32)
        self.dy = self.y[None, :, None] - self.y[0] - GRID_MM * y[:, None, None].astype(np.float32)

    def scan(self) -> Scan:
        """Find tissues and seats."""
        hu, z = self.hu, self.z[:, None, None]
        body = self._body()
        lumen = body & (hu < LUMEN_HU)
        self.pharynx = (
            lumen & (np.abs(self.dx) < 24) & (self.dy > -75) & (self.dy < -10)
            & (z > LARYNX_MM[0] - 25) & (z < PALATE_MM + 20)
        )  # fmt: skip
        self._find_airway()
        self._find_larynx()
        tissue = np.zeros(hu.shape, np.uint8)
        tissue[body] = np.where(hu[body] < FAT_HU, T.FAT, T.MUSCLE)
        inner = _box_filter(body, (1, 1, 1), grow=False)
        tissue[body & ~inner] = T.SKIN
        neck = _Neck(self)
        neck.label(tissue[neck.box])
        self._bones(tissue, body)
        tissue[lumen] = T.LUMEN
        tissue[lumen & (z < self.low_larynx - 30) & (np.abs(self.ax) > 18)] = T.LUNG
        self._brain(tissue)
        barred = np.full(hu.shape, BARS_PRIMARY | BARS_NODE, np.uint8)
        seats = neck.seats(tissue[neck.box], barred[neck.box])
        return Scan(self.name, hu.astype(np.int16), tissue, barred, self.first_mm, seats)

    def _body(self) -> Mask:
        """Return the patient with all air inside, which nose and mouth open to the outside."""
        body = _largest(_opened(self.hu > BODY_HU, (0, 1, 1)))
        closed = _box_filter(_box_filter(body, (0, 3, 3), grow=True), (0, 3, 3), grow=False)
        return _filled(closed)

    def _find_airway(self) -> None:
        """Set `ax`, `ay`: place relative to the pharynx's centre at each height."""
        heights = np.flatnonzero(self.pharynx.sum(axis=(1, 2)) > 5)
        if not len(heights):
            raise UnusableError(f"{self.name}: no air before the spine between palate and trachea")
        centres = np.array([
            [np.mean((np.broadcast_to(d, self.hu.shape)[z])[self.pharynx[z]])
             for d in (self.dx, self.dy)]
            for z in heights
        ])  # fmt: skip
        x, y = (
            ndimage.gaussian_filter1d(np.interp(np.arange(len(self.z)), heights, row), 4)
            for row in centres.T
        )
        self.ax = self.dx - x[:, None, None].astype(np.float32)
        self.ay = self.dy - y[:, None, None].astype(np.float32)

    def _find_larynx(self) -> None:
        """Set the larynx's lower and upper end: its label's, else by hyoid and cartilage.

        Over the 21 larynx labels of OpenKBP's usable CTs the upper tenth of the dense voxels
        before the airway lies 12 mm (sd 7) over the label's upper end, which is 33 mm high.
        """
        larynx = np.flatnonzero(self.organs[Organ.LARYNX].any(axis=(1, 2)))
        self.low_larynx, self.high_larynx = LARYNX_MM
        if len(larynx) * GRID_MM > 20:
            self.low_larynx, self.high_larynx = (float(self.z[i]) for i in larynx[[0, -1]])
            return
        dense = (np.hypot(self.ax, self.ay) < 24) & (self.ay < 0) & (self.dy < -26)
        dense &= self.hu > DENSE_HU + 20
        count = dense.sum(axis=(1, 2)) * ((self.z < -35) & (self.z > -125))
        if count.any():
            tenth = np.searchsorted(np.cumsum(count), 0.9 * count.sum())
            self.high_larynx = float(self.z[tenth]) - 12
            self.low_larynx = self.high_larynx - 33

    def _bones(self, tissue: Tissues, body: Mask) -> None:
        """Bone is dense and near a hard core; what is dense elsewhere is an enhancing vessel."""
        dense = body & (self.hu > DENSE_HU)
        core = dense & (self.hu > BONE_HU)
        near = _box_filter(core, (2, 2, 2), grow=True)
        z = self.z[:, None, None]
        tissue[dense & ~near] = T.VESSEL
        tissue[dense & near] = T.SPONGY
        tissue[core] = T.BONE
        larynx = (np.hypot(self.ax, self.ay) < 24) & (z < self.high_larynx + 5)
        larynx &= (z > self.low_larynx - 12) & (self.dy < -12)
        tissue[dense & larynx] = T.CARTILAGE
        vertebra = (np.abs(self.dx) < 15) & (self.dy < -7) & (self.dy > -30) & (z < 0)
        tissue[vertebra & (self.hu > 95) & near & (self.hu <= BONE_HU)] = T.SPONGY
        tissue[(self.hu > TOOTH_HU) & body] = T.TOOTH

    def _brain(self, tissue: Tissues) -> None:
        """Fill the skull: cortex along the surface and in folds, deep nuclei, ventricles."""
        base = int(np.searchsorted(self.z, -12))
        if len(self.z) - base < 8:
            return
        smooth = ndimage.gaussian_filter(self.hu[base:], 1.0)
        z = self.z[base:, None, None]
        soft = (smooth > -35) & (smooth < 100) & (self.hu[base:] < DENSE_HU) & (z > 4)
        # Scalp, orbits and neck hang on the brain by bridges thinner than the opening, if at all.
        pieces = cc3d.connected_components(_opened(soft, (2, 3, 3)), connectivity=6)
        over_cord = (np.abs(self.dx[base:]) < 25) & (np.abs(self.dy[base:] - 10) < 25) & (z < 45)
        votes = np.bincount(pieces[over_cord & (pieces > 0)], minlength=2)
        brain = self.organs[Organ.BRAINSTEM][base:].copy()
        if votes.any():
            brain |= _box_filter(pieces == votes.argmax(), (1, 1, 1), grow=True) & soft
        box = bounding_slices(brain)
        if box is None:
            return
        brain, smooth = brain[box], smooth[box]
        z, y, x = (axis[part] for axis, part in zip(
            (self.z[base:], self.y, self.x), box, strict=True))  # fmt: skip
        x, y, z = x[None, None, :], y[None, :, None], z[:, None, None]
        depth = _depth_mm(brain)
        folds = Waves.draw(np.random.default_rng(5), 13, 14).at(x, y, z)
        part = np.where((depth < 6) | ((depth < 17) & (folds > 0.2)), T.GREY_MATTER, T.WHITE_MATTER)
        part[(z < 26) & (depth > 4) & (folds > -0.4)] = T.GREY_MATTER  # the cerebellum
        centre_y = float(np.mean(np.nonzero(brain)[1])) * GRID_MM + float(y.flat[0])
        if float(z.max()) > VERTEX_MM:
            across = np.abs(x - (self.x[0] - self.dx[base, 0, 0])) - 15  # from the midline
            nuclei = np.hypot(across / 9, (y - centre_y + 4) / 19)
            part[np.hypot(nuclei, (z - 62) / 13) < 1] = T.GREY_MATTER
        # against the brain's own HU: in some planning CTs all of it is near 0
        dark = float(np.median(smooth[depth > 8])) - 11 if (depth > 8).any() else -np.inf
        part[(ndimage.gaussian_filter(smooth, 1.2) < dark) & (depth > 14)] = T.CSF
        part[self.organs[Organ.BRAINSTEM][base:][box]] = T.WHITE_MATTER
        target = tissue[base:][box]
        target[brain] = part[brain]


class _Neck:
    """The part of a CT round the pharynx, where glands, target volumes and seats are."""

    def __init__(self, whole: _Labeller) -> None:
        margin = round(NECK_MARGIN_MM / GRID_MM)
        found = bounding_slices(whole.pharynx)
        assert found is not None  # `_find_airway` has refused such a CT
        self.box = tuple(slice(max(part.start - margin, 0), part.stop + margin) for part in found)
        z, y, x = self.box
        self.hu, self.z = whole.hu[self.box], whole.z[z, None, None]
        self.dy, self.ay = whole.dy[z, y], whole.ay[z, y]
        self.ax = whole.ax[z, :, x]
        self.low_larynx, self.high_larynx = whole.low_larynx, whole.high_larynx
        self.organs = {organ: mask[self.box] for organ, mask in whole.organs.items()}
        self.ptv70, self.ptv = (whole.organ(*w)[self.box] for w in ((Organ.PTV70,), TARGETS))
        self.first_mm = np.array([whole.x[x][0], whole.y[y][0], whole.z[z][0]])
        pharynx = whole.pharynx[self.box]
        self.to_pharynx = (GRID_MM * ndimage.distance_transform_edt(~pharynx)).astype(np.float32)
        self.name = whole.name

    def label(self, tissue: Tissues) -> None:
        """Mark glands, mucosa, tonsils, tongue, larynx and cord, in soft tissue only."""
        z, hu = self.z, self.hu
        soft = (hu > FAT_HU) & (hu < DENSE_HU) & (tissue > 0)
        near, low, high = self.to_pharynx, self.low_larynx, self.high_larynx
        behind = self.dy < -8
        tongue = soft & (np.abs(self.ax) < 24) & (self.ay < -10) & (self.ay > -60)
        tissue[tongue & (z > high + 8) & (z < PALATE_MM - 4)] = T.TONGUE
        gland = np.hypot((np.abs(self.ax) - 29) / 10, (self.ay + 14) / 15)
        gland = np.hypot(gland, (z - high - 12) / 13)
        tissue[soft & (gland < 1)] = T.SUBMANDIBULAR
        thyroid = soft & (hu > 85) & (near < 16) & (z < low + 5) & (z > low - 40)
        tissue[thyroid & (np.abs(self.ax) > 7)] = T.THYROID
        tissue[soft & (near < 4.5) & behind] = T.MUCOSA
        voice = soft & (near < 9) & (z > low) & (z < high) & behind & (self.ay < 8)
        tissue[(self.organs[Organ.LARYNX] & soft) | voice] = T.LARYNX
        tonsil = soft & (near < 8) & behind & (z > high + 22) & (z < PALATE_MM - 8)
        tissue[tonsil & (np.abs(self.ax) > 9) & (self.ay > -16)] = T.TONSIL
        lingual = soft & (near < 7) & (z > high + 4) & (z < high + 38) & (self.ay < -3)
        tissue[lingual & (np.abs(self.ax) < 15)] = T.TONSIL
        for organ in (Organ.RIGHT_PAROTID, Organ.LEFT_PAROTID):
            tissue[self.organs[organ] & (hu > -120) & (hu < DENSE_HU)] = T.PAROTID
        tissue[self.organs[Organ.OESOPHAGUS] & soft] = T.MUCOSA
        tissue[self.organs[Organ.CORD] & (hu < DENSE_HU)] = T.CORD

    def seats(self, tissue: Tissues, barred: Tissues) -> dict[tuple[str, float], Array]:
        """Clear `barred` where lesions may be, and return where their centres may be."""
        near, low = self.to_pharynx, self.low_larynx
        primary = _box_filter(self.ptv70, [round(TOLERANCE_MM / GRID_MM)] * 3, grow=True)
        primary &= (near < 45) & (self.z > low - 10)
        glands = np.isin(tissue, (T.PAROTID, T.SUBMANDIBULAR, T.THYROID))
        node = _box_filter(self.ptv, (1, 1, 1), grow=True) & (near > 8) & (np.abs(self.ax) > 14)
        node &= ~glands & (tissue != T.VESSEL) & (tissue != T.TONGUE) & (self.dy > -80)
        barred[primary] &= ~BARS_PRIMARY
        barred[node] &= ~BARS_NODE
        soft = np.isin(tissue, SOFT)
        wall = soft & primary & (near > 1) & (near < 9) & (self.dy < -10)
        lateral = np.isin(tissue, (T.MUSCLE, T.FAT)) & node & self.ptv & (np.abs(self.ax) > 22)
        places = self._sites(wall, soft & primary) | self._levels(lateral)
        # Seats where the lesion finds soft tissue around, so that it grows as one piece.
        span = round(2 * ROOM_MM / GRID_MM) + 1
        rooms = [ndimage.uniform_filter((held & (np.isin(tissue, SOFT))).astype(np.float32), span)
                 for held in (node, primary)]  # fmt: skip
        seats = {}
        for place, mask in places.items():
            room = rooms[place in SITES]
            for side in SIDES:
                rows = np.argwhere(mask & (self.ax * side > 2))
                if len(rows) >= LEAST_SEATS:
                    mm = self.first_mm + GRID_MM * rows[:, ::-1]
                    share = room[tuple(rows.T)][:, None]
                    seats[place, side] = np.hstack([mm, share]).astype(np.float32)
        for wanted, kind in ((SITES, "primary in PTV70 by the pharynx"), (LEVELS, "node")):
            if not any(place in wanted for place, _ in seats):
                raise UnusableError(f"{self.name}: no place for a {kind}")
        return seats

    def _sites(self, wall: Mask, soft: Mask) -> dict[str, Mask]:
        z, high, low = self.z, self.high_larynx, self.low_larynx
        lateral, tongue = np.abs(self.ax) > 8, (np.abs(self.ax) < 16) & (self.ay < -5)
        mouth = soft & (self.ay < -26) & (self.ay > -55) & (self.to_pharynx < 40)
        return {
            "nasopharynx": wall & (z > PALATE_MM),
            "tonsil": wall & (z <= PALATE_MM - 6) & (z > high + 18) & lateral & (self.ay > -14),
            "base of tongue": wall & (z <= high + 40) & (z > high + 4) & tongue,
            "oral cavity": mouth & (z <= PALATE_MM - 6) & (z > high + 18),
            "larynx": wall & (z <= high) & (z > low + 6) & (self.ay < 2),
            "hypopharynx": wall & (z <= high + 2) & (z > low + 6) & (self.ay > 4),
        }

    def _levels(self, mask: Mask) -> dict[str, Mask]:
        """Levels by height against the larynx; V behind the sternocleidomastoid muscle."""
        z, high, low = self.z, self.high_larynx, self.low_larynx
        jugular = mask & (self.dy < -5) & (self.dy > -55)
        return {
            "II": jugular & (z > high) & (z < PALATE_MM),
            "III": jugular & (z <= high) & (z > low),
            "IV": jugular & (z <= low) & (z > low - 50),
            "V": mask & (self.dy >= -2) & (z <= high + 10) & (z > low - 35),
        }
