"""Simulates the scanners: CT with noise, metal streaks and padding, and PET with blur and noise.

The PET is painted on a grid finer than its own, blurred with the scanner's point spread function
and sampled. Its noise is proportional to the square root of the activity, like counting noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from training.phantom.body import Body
from training.phantom.centres import Centre
from training.phantom.lesion import Lesion
from training.phantom.painting import paint
from training.phantom.pose import Pose
from training.phantom.shapes import Array, Point
from training.phantom.slab import Raster, Slab
from training.phantom.tissue import GTVN_TISSUES, GTVP_TISSUES, Tissue

FWHM_TO_SIGMA = 1 / 2.3548
FINE_MM = 2.8  # largest voxel of the grid on which PET is painted before blurring
# In 325 of 524 patients of HECKTOR 2025, CT and PET have the same number of slices. This never
# occurs with thin CT slices.
SAME_SLICES, FINEST_SHARED_SLICE_MM = 0.82, 2.5
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class ScanProtocol:
    """The protocol of one PET/CT: both grids, and the noise, blur and units of the images."""

    ct: Raster
    pet: Raster
    ct_noise_hu: float
    ct_padding_hu: int  # value outside the reconstruction circle; 0 means no padding
    psf_mm: float  # full width at half maximum of the PET
    pet_noise: float
    suv_scale: float
    shift_mm: Point  # movement of the patient between CT and PET
    bqml_per_suv: float  # 1 if the PET is stored in SUV


def draw_protocol(
    rng: np.random.Generator,
    centre: Centre,
    body: Body,
    *,
    whole_body: bool,
    brain: bool,
    bqml: bool,
    small: bool,
    spacing_mm: Point | None,
) -> ScanProtocol:
    """Draw the grids and the image quality of one PET/CT.

    A head-and-neck scan reaches from above the vertex (or, without the brain, from the skull base)
    to below the clavicles, a whole-body scan to the thighs. Both stay within `body.z_range_mm`.

    Parameters
    ----------
    whole_body, brain : whether the scan shows the whole body, and the brain.
    bqml : whether the PET is stored in Bq/mL.
    small : coarse voxels and small matrices.
    spacing_mm : spacing of the CT, (x, y, z); None draws it from the centre's spacings.
    """
    scale_z, offset = body.pose.scale[2], np.array(body.pose.offset_mm)
    top = rng.uniform(152, 180) if brain else rng.uniform(12, 35)
    bottom = rng.uniform(-290, -185) if brain else rng.uniform(-340, -290)
    if whole_body:
        bottom = rng.uniform(-960, -850)
    pixel, slice_mm = float(rng.choice(centre.ct_pixel_mm)), float(rng.choice(centre.ct_slice_mm))
    pet_pixel, pet_size = centre.pet_voxels[rng.integers(len(centre.pet_voxels))]
    pet_slice, size = float(rng.choice(centre.pet_slice_mm)), 512
    tops = top + np.array([0, rng.uniform(-8, 20)])
    bottoms = bottom - np.array([0, rng.uniform(-15, 30)])
    tops, bottoms = np.clip(tops, *body.z_range_mm), np.clip(bottoms, *body.z_range_mm)
    jitter = rng.normal(0, 6, size=(2, 2))
    if small:
        pixel, slice_mm, size = rng.uniform(2.0, 2.6), float(rng.choice([3.0, 3.27, 4.0])), 192
        pet_pixel, pet_size = ((4.0, 144), (4.07, 144), (5.47, 128))[rng.integers(3)]
        pet_slice = float(rng.choice([3.27, 4.0, 5.0]))
    if whole_body:
        pixel, slice_mm = max(pixel, 0.98), max(slice_mm, 2.0)
    ct_spacing = spacing_mm or (pixel, pixel, slice_mm)
    if rng.random() < SAME_SLICES and ct_spacing[2] >= FINEST_SHARED_SLICE_MM:
        pet_slice, tops[1], bottoms[1] = ct_spacing[2], tops[0], bottoms[0]

    def raster(index: int, spacing: Point, size: int) -> Raster:
        centre = offset[:2] + [0, 15] + jitter[index]
        slices = ceil((tops[index] - bottoms[index]) * scale_z / spacing[2])
        lowest = offset[2] + bottoms[index] * scale_z
        corner = centre - np.array(spacing[:2]) * (size - 1) / 2
        return Raster((*np.round(corner, 3).tolist(), round(float(lowest), 3)), spacing,
                      (size, size, slices))  # fmt: skip

    noise_hu = rng.uniform(9, 22) * (0.7 if small else 1)
    return ScanProtocol(
        ct=raster(0, ct_spacing, size),
        pet=raster(1, (pet_pixel, pet_pixel, pet_slice), pet_size),
        ct_noise_hu=float(noise_hu),
        ct_padding_hu=int(rng.choice(centre.padding_hu)),
        psf_mm=float(rng.uniform(*centre.psf_mm)),
        pet_noise=float(centre.pet_noise * np.exp(0.2 * rng.normal())),
        suv_scale=float(centre.suv_scale * np.exp(0.05 * rng.normal())),
        shift_mm=tuple(np.clip(rng.normal(0, 1.0, 3), -1.7, 1.7).tolist()),
        bqml_per_suv=float(rng.uniform(3000, 7000)) if bqml else 1.0,
    )


def to_image(array: npt.NDArray[np.generic], raster: Raster) -> sitk.Image:
    """Return an array (z, y, x) on a raster as an image."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(raster.spacing_mm)
    image.SetOrigin(raster.origin_mm)
    return image


def _compute_streaks(slab: Slab, metal_mm: tuple[Point, ...], angles: Array) -> Array | None:
    """Return the HU of bright and dark rays near each filling, to be added; None without metal."""
    heights = slab.z[:, 0, 0]
    streaks = None
    for (x, y, z), angle in zip(metal_mm, angles, strict=True):
        near = np.flatnonzero(np.abs(heights - z) < 4)
        if not len(near):
            continue
        if streaks is None:
            streaks = np.zeros(slab.tissue.shape, dtype=np.float32)
        box = slice(int(near[0]), int(near[-1]) + 1)
        dx, dy = slab.x[box] - x, slab.y[box] - y
        reach = np.exp(-np.hypot(dx, dy) / 45)
        theta = np.arctan2(dy, dx)
        rays = np.cos(7 * theta + angle) + np.cos(11 * theta + 2 * angle) + np.cos(4 * theta)
        streaks[box] += 230 * rays * reach * np.abs(rays) ** 0.5
    return streaks


def scan_ct(
    rng: np.random.Generator,
    body: Body,
    lesions: Sequence[Lesion],
    *,
    protocol: ScanProtocol,
    pose: Pose | None = None,
) -> tuple[sitk.Image, sitk.Image]:
    """Return the CT (int16, HU) and the labels (uint8: 0, 1 GTVp, 2 GTVn) on one grid.

    `pose` replaces the pose of the body, for a CT of another day.
    """
    raster = protocol.ct
    nx, ny, nz = raster.size_xyz
    ct_hu = np.empty((nz, ny, nx), dtype=np.int16)
    labels = np.empty((nz, ny, nx), dtype=np.uint8)
    label_of = np.zeros(len(Tissue), dtype=np.uint8)
    label_of[list(GTVP_TISSUES)] = 1
    label_of[list(GTVN_TISSUES)] = 2
    angles = rng.uniform(0, 6.28, len(body.metal_mm)).astype(np.float32)
    blur_vox = 0.9 / raster.spacing_mm[0]  # about 2 mm FWHM: a soft-tissue kernel
    grain_vox = max(0.8 / raster.spacing_mm[0], 0.35)
    noise_hu = protocol.ct_noise_hu * body.grain
    padding = None
    if protocol.ct_padding_hu:
        row, column = np.ogrid[:ny, :nx]
        radius2 = (column - (nx - 1) / 2) ** 2 + (row - (ny - 1) / 2) ** 2
        padding = radius2 > (min(nx, ny) / 2) ** 2
    for slab in paint(body, lesions, raster=raster, pose=pose or body.pose):
        part = slice(slab.start, slab.start + len(slab.tissue))
        labels[part] = label_of[slab.tissue]
        hu = body.hu(slab)
        streaks = _compute_streaks(slab, body.metal_mm, angles)
        hu = ndimage.gaussian_filter(hu, (0, blur_vox, blur_vox), truncate=3)
        noise = rng.standard_normal(hu.shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(noise, (0, grain_vox, grain_vox), truncate=3)
        hu += noise * np.float32(noise_hu / max(float(noise.std()), 1e-6))
        if streaks is not None:
            hu += streaks
        np.clip(hu, -1024 if protocol.ct_padding_hu else -1000, 30000, out=hu)
        if padding is not None:
            hu[:, padding] = protocol.ct_padding_hu
        ct_hu[part] = np.round(hu)
    image = to_image(ct_hu, raster)
    del ct_hu  # Scans are large, so only one copy of each array is kept.
    return image, to_image(labels, raster)


def _blur_and_average(values: Array, *, axis: int, sigma: float, factor: int) -> Array:
    """Blur along an axis (sigma in voxels), then average each `factor` voxels."""
    blurred = ndimage.gaussian_filter1d(values, sigma, axis, truncate=3)
    shape = list(values.shape)
    shape[axis : axis + 1] = [shape[axis] // factor, factor]
    return blurred.reshape(shape).mean(axis=axis + 1, dtype=np.float32)


def scan_pet(
    rng: np.random.Generator, body: Body, lesions: Sequence[Lesion], *, protocol: ScanProtocol
) -> sitk.Image:
    """Return the PET (float32, SUV or Bq/mL as in the protocol) on its own grid."""
    raster = protocol.pet
    factor = [ceil(s / FINE_MM) for s in raster.spacing_mm]
    spacing = tuple(s / f for s, f in zip(raster.spacing_mm, factor, strict=True))
    origin = tuple(
        o - fine * (f - 1) / 2 for o, fine, f in zip(raster.origin_mm, spacing, factor, strict=True)
    )
    size = tuple(n * f for n, f in zip(raster.size_xyz, factor, strict=True))
    fine = Raster(origin, spacing, size)  # type: ignore[arg-type]
    sigma = [protocol.psf_mm * FWHM_TO_SIGMA / mm for mm in spacing]
    # Each slab is blurred and sampled within its planes; only z needs the whole volume.
    planes = np.empty((size[2], *raster.size_xyz[1::-1]), dtype=np.float32)
    pose = body.pose.shifted(protocol.shift_mm)
    for slab in paint(body, lesions, raster=fine, pose=pose):
        part = body.pet_suv[slab.tissue]
        for lesion in lesions:
            _write_uptake(part, slab, lesion)
        for axis in (2, 1):
            part = _blur_and_average(
                part, axis=axis, sigma=sigma[2 - axis], factor=factor[2 - axis]
            )
        planes[slab.start : slab.start + len(part)] = part
    suv = _blur_and_average(planes, axis=0, sigma=sigma[2], factor=factor[2])
    del planes
    noise = rng.standard_normal(suv.shape, dtype=np.float32)
    grain = tuple(2.2 / s for s in raster.spacing_mm[::-1])
    noise = ndimage.gaussian_filter(noise, grain, truncate=3)
    noise *= np.float32(protocol.pet_noise * 0.6 / float(noise.std()))
    noise *= np.sqrt(suv + np.float32(0.02))
    suv += noise
    del noise
    np.maximum(suv, 0, out=suv)
    suv *= np.float32(protocol.suv_scale * protocol.bqml_per_suv)
    return to_image(suv, raster)


def _write_uptake(pet_suv: Array, slab: Slab, lesion: Lesion) -> None:
    """Write the uptake of a lesion into the PET of a slab."""
    box = slab.box(lesion)
    if box is None:
        return
    tissue = slab.tissue[box]
    x, y, z = slab.coordinates(box)
    mask = (tissue == lesion.tissue) | (tissue == lesion.core_tissue)
    mask &= lesion.field(x, y, z) < 1
    pet_suv[box][mask] = lesion.uptake(x, y, z)[mask]


def reorient(image: sitk.Image, direction: tuple[float, ...], fill: float) -> sitk.Image:
    """Store an image along other axes, with the same contents and centre in the world.

    Parameters
    ----------
    image
        An image along the world's axes.
    direction
        Nine direction cosines, row by row, as in SimpleITK. Flips and swaps of axes are exact;
        oblique directions are resampled (labels by nearest neighbour).
    fill
        Value outside the image.
    """
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction)
    image = sitk.DICOMOrient(image, code)
    if np.allclose(image.GetDirection(), direction, atol=1e-6):
        return image
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint(((size - 1) / 2).tolist()))
    rotation = np.array(direction).reshape(3, 3)
    origin = centre - rotation @ (spacing * (size - 1) / 2)
    labels = image.GetPixelID() == sitk.sitkUInt8
    return sitk.Resample(
        image, image.GetSize(), sitk.Transform(), sitk.sitkNearestNeighbor if labels
        else sitk.sitkLinear, origin.tolist(), image.GetSpacing(), direction, fill,
    )  # fmt: skip
