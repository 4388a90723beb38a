"""The tissue map of a real CT, from its HU, labels and landmarks."""

from __future__ import annotations

import cc3d
import numpy as np
from scipy import ndimage

from shared.geometry import bounding_slices
from training.phantom.real.labels import Structure
from training.phantom.real.landmarks import DENSE_HU, LandmarkedCt
from training.phantom.real.masks import (
    GRID_MM,
    Mask,
    compute_depth_mm,
    dilate,
    erode,
    remove_thin_parts,
)
from training.phantom.real.neck import FAT_HU, Neck, TissueMap
from training.phantom.tissue import T
from training.phantom.waves import Waves

BONE_HU, TOOTH_HU = 350, 1900
VERTEX_MM = 80.0
"""A scan that reaches this canonical z shows most of the brain."""


def map_tissues(ct: LandmarkedCt, neck: Neck) -> TissueMap:
    """Return the `Tissue` of each voxel, shape (z, y, x)."""
    z = ct.z[:, None, None]
    tissue = np.zeros(ct.hu.shape, np.uint8)
    tissue[ct.body] = np.where(ct.hu[ct.body] < FAT_HU, T.FAT, T.MUSCLE)
    tissue[ct.body & ~erode(ct.body, (1, 1, 1))] = T.SKIN
    neck.label(tissue[neck.box])
    _label_bones(tissue, ct)
    tissue[ct.lumen] = T.LUMEN
    tissue[ct.lumen & (z < ct.low_larynx_mm - 30) & (np.abs(ct.ax) > 18)] = T.LUNG
    _label_brain(tissue, ct)
    return tissue


def _label_bones(tissue: TissueMap, ct: LandmarkedCt) -> None:
    """Label dense tissue: bone near a hard core, vessel with contrast medium elsewhere."""
    dense = ct.body & (ct.hu > DENSE_HU)
    core = dense & (ct.hu > BONE_HU)
    near_core = dilate(core, (2, 2, 2))
    z = ct.z[:, None, None]
    tissue[dense & ~near_core] = T.VESSEL
    tissue[dense & near_core] = T.SPONGY
    tissue[core] = T.BONE
    larynx = (np.hypot(ct.ax, ct.ay) < 24) & (z < ct.high_larynx_mm + 5)
    larynx &= (z > ct.low_larynx_mm - 12) & (ct.dy < -12)
    tissue[dense & larynx] = T.CARTILAGE
    vertebra = (np.abs(ct.dx) < 15) & (ct.dy < -7) & (ct.dy > -30) & (z < 0)
    tissue[vertebra & (ct.hu > 95) & near_core & (ct.hu <= BONE_HU)] = T.SPONGY
    tissue[(ct.hu > TOOTH_HU) & ct.body] = T.TOOTH


def _label_brain(tissue: TissueMap, ct: LandmarkedCt) -> None:
    """Label the brain: cortex at the surface and in folds, deep nuclei, ventricles."""
    base = int(np.searchsorted(ct.z, -12))
    if len(ct.z) - base < 8:
        return
    smooth = ndimage.gaussian_filter(ct.hu[base:], 1.0)
    brain = _find_brain(ct, base, smooth)
    box = bounding_slices(brain)
    if box is None:
        return
    brain, smooth = brain[box], smooth[box]
    z, y, x = (axis[part] for axis, part in zip(
        (ct.z[base:], ct.y, ct.x), box, strict=True))  # fmt: skip
    x, y, z = x[None, None, :], y[None, :, None], z[:, None, None]
    depth_mm = compute_depth_mm(brain)
    folds = Waves.draw(np.random.default_rng(5), 13, 14).at(x, y, z)
    is_cortex = (depth_mm < 6) | ((depth_mm < 17) & (folds > 0.2))
    part = np.where(is_cortex, T.GREY_MATTER, T.WHITE_MATTER)
    part[(z < 26) & (depth_mm > 4) & (folds > -0.4)] = T.GREY_MATTER  # cerebellum
    centre_y = float(np.mean(np.nonzero(brain)[1])) * GRID_MM + float(y.flat[0])
    if float(z.max()) > VERTEX_MM:
        across = np.abs(x - (ct.x[0] - ct.dx[base, 0, 0])) - 15  # from the midline
        nuclei = np.hypot(across / 9, (y - centre_y + 4) / 19)
        part[np.hypot(nuclei, (z - 62) / 13) < 1] = T.GREY_MATTER
    # Relative to the brain's own HU: in some planning CTs the whole brain is near 0.
    deep = smooth[depth_mm > 8]
    max_csf_hu = float(np.median(deep)) - 11 if deep.size else -np.inf
    part[(ndimage.gaussian_filter(smooth, 1.2) < max_csf_hu) & (depth_mm > 14)] = T.CSF
    part[ct.structures[Structure.BRAINSTEM][base:][box]] = T.WHITE_MATTER
    target = tissue[base:][box]
    target[brain] = part[brain]


def _find_brain(ct: LandmarkedCt, base: int, smooth: np.ndarray) -> Mask:
    """Return the brain in the slices from `base` upwards, given their smoothed HU."""
    z = ct.z[base:, None, None]
    soft = (smooth > -35) & (smooth < 100) & (ct.hu[base:] < DENSE_HU) & (z > 4)
    # Scalp, orbits and neck are connected to the brain only by bridges thinner than the opening.
    pieces = cc3d.connected_components(remove_thin_parts(soft, (2, 3, 3)), connectivity=6)
    above_cord = (np.abs(ct.dx[base:]) < 25) & (np.abs(ct.dy[base:] - 10) < 25) & (z < 45)
    votes = np.bincount(pieces[above_cord & (pieces > 0)], minlength=2)
    brain = ct.structures[Structure.BRAINSTEM][base:].copy()
    if votes.any():
        brain |= dilate(pieces == votes.argmax(), (1, 1, 1)) & soft
    return brain
