"""A real CT on a fine grid with the landmarks that locate its tissues.

The centre line of the cord gives the midline at every height. The air in front of the cord is the
pharynx. The larynx separates tumour sites and node levels. Coordinates are canonical (see
`shapes`), with the origin at the top of the cord.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from shared.geometry import Box, Grid, bounding_slices, resample
from training.phantom.real.labels import TARGETS, Structure, UnusableError
from training.phantom.real.masks import (
    GRID_MM,
    Mask,
    dilate,
    erode,
    fill_slices,
    largest_component,
    remove_thin_parts,
)

BODY_HU, LUMEN_HU, DENSE_HU = -400, -350, 150
# Heights of the larynx label and of the hard palate: medians of the 60 CTs of OpenKBP, in which the
# neck is extended.
LARYNX_MM, PALATE_MM = (-100.0, -65.0), 12.0
MIN_LARYNX_MM = 20.0
"""A larynx label of less than this height is incomplete and not used."""
LARYNX_HEIGHT_MM, DENSE_ABOVE_LARYNX_MM = 33.0, 12.0


class LandmarkedCt:
    """A CT, its labels and its landmarks.

    Parameters
    ----------
    name : name of the CT, for messages.
    ct, labels : the images, on one grid along the world's axes.
    grid : the fine grid, with voxels of `GRID_MM`.
    origin_mm : world point (x, y, z) that becomes the canonical origin.

    Attributes
    ----------
    hu : CT on the fine grid, shape (z, y, x), float32.
    first_mm : canonical x, y, z of voxel 0.
    x, y, z : canonical coordinates of the voxel centres along each axis, in mm.
    structures : mask of each structure except the target volumes.
    dx, dy : distance from the cord's centre at each height in mm, broadcastable to `hu`.
    ax, ay : distance from the centre of the airway in mm, broadcastable to `hu`.
    body, lumen, pharynx : masks of the patient, the air inside, and the air of the pharynx.
    low_larynx_mm, high_larynx_mm : canonical z of the ends of the larynx.

    Raises
    ------
    UnusableError
        If there is no air in front of the spine.
    """

    def __init__(
        self,
        name: str,
        *,
        ct: sitk.Image,
        labels: sitk.Image,
        grid: Grid,
        origin_mm: npt.NDArray[Any],
    ) -> None:
        self.name, self.labels, self.grid = name, labels, grid
        # B-splines overshoot next to air and metal.
        fine = sitk.GetArrayFromImage(resample(ct, grid, interpolation="bspline", outside=-1000.0))
        self.hu = np.round(np.clip(fine, -1024, 3071)).astype(np.float32)
        self.first_mm = np.array(grid.origin_mm) - origin_mm
        self.x, self.y, self.z = (
            (first + GRID_MM * np.arange(n)).astype(np.float32)
            for first, n in zip(self.first_mm, grid.size_xyz, strict=True)
        )
        self.structures = {
            structure: self.structure_mask(structure)
            for structure in Structure
            if structure not in TARGETS
        }
        self._find_midline()
        self.body = self._find_body()
        self.lumen = self.body & (self.hu < LUMEN_HU)
        z = self.z[:, None, None]
        self.pharynx = (
            self.lumen & (np.abs(self.dx) < 24) & (self.dy > -75) & (self.dy < -10)
            & (z > LARYNX_MM[0] - 25) & (z < PALATE_MM + 20)
        )  # fmt: skip
        self._find_airway()
        self._find_larynx()

    def structure_mask(self, *values: int) -> Mask:
        """Return the union of some labels on the fine grid, without the coarse grid's steps."""
        coarse = np.isin(sitk.GetArrayViewFromImage(self.labels), values)
        mask = np.zeros(self.grid.shape_zyx, dtype=bool)
        slices_zyx = bounding_slices(coarse)
        if slices_zyx is None:
            return mask
        image = sitk.GetImageFromArray(coarse.astype(np.float32))
        image.CopyInformation(self.labels)
        start = tuple(part.start for part in slices_zyx[::-1])
        stop = tuple(part.stop for part in slices_zyx[::-1])
        extent = Grid.of(self.labels).cropped(Box(start, stop))
        box = self.grid.box_around(extent, margin_vox=1)
        if not box.is_empty:
            grid = self.grid.cropped(box)
            part = resample(image, grid, interpolation="linear", outside=0.0)
            mask[box.slices_zyx()] = sitk.GetArrayViewFromImage(part) > 0.5
        return mask

    def _find_midline(self) -> None:
        """Set `dx` and `dy`; above the cord the midline goes straight up."""
        cord = self.structures[Structure.CORD]
        heights = np.flatnonzero(cord.any(axis=(1, 2)))
        centres = np.array([[np.mean(i) for i in np.nonzero(cord[z])] for z in heights])
        y, x = (
            ndimage.gaussian_filter1d(np.interp(np.arange(len(self.z)), heights, row), 3)
            for row in centres.T
        )
        self.dx = self.x[None, None, :] - self.x[0] - GRID_MM * x[:, None, None].astype(np.float32)
        self.dy = self.y[None, :, None] - self.y[0] - GRID_MM * y[:, None, None].astype(np.float32)

    def _find_body(self) -> Mask:
        """Return the mask of the patient with the air inside; nose and mouth are closed."""
        body = largest_component(remove_thin_parts(self.hu > BODY_HU, (0, 1, 1)))
        return fill_slices(erode(dilate(body, (0, 3, 3)), (0, 3, 3)))

    def _find_airway(self) -> None:
        """Set `ax` and `ay`."""
        heights = np.flatnonzero(self.pharynx.sum(axis=(1, 2)) > 5)
        if not len(heights):
            raise UnusableError(
                f"{self.name}: no air in front of the spine between palate and trachea"
            )
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
        """Set the ends of the larynx from its label or, without one, from hyoid and cartilage.

        In the 21 usable CTs of OpenKBP with a larynx label, the label is 33 mm high, and its upper
        end lies 12 mm (standard deviation 7) below the height that separates the upper tenth of the
        dense voxels in front of the airway.
        """
        larynx = np.flatnonzero(self.structures[Structure.LARYNX].any(axis=(1, 2)))
        self.low_larynx_mm, self.high_larynx_mm = LARYNX_MM
        if len(larynx) * GRID_MM > MIN_LARYNX_MM:
            self.low_larynx_mm, self.high_larynx_mm = (float(self.z[i]) for i in larynx[[0, -1]])
            return
        dense = (np.hypot(self.ax, self.ay) < 24) & (self.ay < 0) & (self.dy < -26)
        dense &= self.hu > DENSE_HU + 20
        count = dense.sum(axis=(1, 2)) * ((self.z < -35) & (self.z > -125))
        if count.any():
            upper_tenth = np.searchsorted(np.cumsum(count), 0.9 * count.sum())
            self.high_larynx_mm = float(self.z[upper_tenth]) - DENSE_ABOVE_LARYNX_MM
            self.low_larynx_mm = self.high_larynx_mm - LARYNX_HEIGHT_MM
