"""Distances between the surfaces of two masks: HD95 and the surface DSC.

Surface elements, their areas and both scores come from the `surface-distance` package. Only its
search for the nearest element is replaced. The package uses a distance transform of the box around
both masks, which takes 1.3 s if a false lesion is far away. A k-d tree of the surface elements
takes 0.03 s and gives the same distances (measured on 512×512×200 voxels, four lesions).

`grand-challenge-metrics` 0.6.0 also has a percentile of the Hausdorff distance, but it counts
surface voxels, whereas Nikolov et al. weight surface elements by area. The package has
no surface DSC.

References
----------
Nikolov et al. 2021, Clinically applicable segmentation of head and neck anatomy, JMIR 23:e26151.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from surface_distance import compute_robust_hausdorff, compute_surface_dice_at_tolerance
from surface_distance.lookup_tables import (
    ENCODE_NEIGHBOURHOOD_3D_KERNEL,
    create_table_neighbour_code_to_surface_area,
)

from shared.conventions import Triple

TOLERANCE_MM: Final = 2.0
"""Distance up to which surfaces count as equal: about two pixels of a CT (median pixel 0.98 mm)."""
_INSIDE: Final = 0xFF
"""Code of a corner whose eight voxels are all in the mask."""


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """Distance from each surface element of one mask to the nearest element of the other.

    Attributes
    ----------
    prediction_to_truth_mm, truth_to_prediction_mm : distances in ascending order.
    prediction_areas_mm2, truth_areas_mm2 : area of each element, in the order of the distances.
    """

    prediction_to_truth_mm: NDArray[np.float64]
    prediction_areas_mm2: NDArray[np.float64]
    truth_to_prediction_mm: NDArray[np.float64]
    truth_areas_mm2: NDArray[np.float64]

    def hd95_mm(self) -> float:
        """Return the 95th percentile of the distances, weighted by area.

        It is computed from prediction to truth and from truth to prediction; the larger value is
        returned.
        """
        return float(compute_robust_hausdorff(self._as_package(), 95))

    def surface_dice(self, tolerance_mm: float = TOLERANCE_MM) -> float:
        """Return the fraction of both surfaces' area within a tolerance of the other surface."""
        return float(compute_surface_dice_at_tolerance(self._as_package(), tolerance_mm))

    def _as_package(self) -> dict[str, NDArray[np.float64]]:
        return {
            "distances_pred_to_gt": self.prediction_to_truth_mm,
            "surfel_areas_pred": self.prediction_areas_mm2,
            "distances_gt_to_pred": self.truth_to_prediction_mm,
            "surfel_areas_gt": self.truth_areas_mm2,
        }


def surface_distances(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing_zyx_mm: Triple
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks.

    Parameters
    ----------
    prediction, truth : masks on the same grid, [z, y, x]; neither may be empty. The outside of the
        array counts as background, so both masks may be cropped to the box around them.
    spacing_zyx_mm : voxel spacing in the order of the axes.

    Raises
    ------
    ValueError
        If the shapes differ or a mask is empty.
    """
    if prediction.shape != truth.shape or not prediction.any() or not truth.any():
        raise ValueError(
            "expected two masks on the same grid, neither empty, found shapes "
            f"{prediction.shape} and {truth.shape} with {np.count_nonzero(prediction)} and "
            f"{np.count_nonzero(truth)} voxels"
        )
    prediction_mm, prediction_areas = _elements(prediction, spacing_zyx_mm)
    truth_mm, truth_areas = _elements(truth, spacing_zyx_mm)
    forth_mm, prediction_areas = _sort(cKDTree(truth_mm).query(prediction_mm)[0], prediction_areas)
    back_mm, truth_areas = _sort(cKDTree(prediction_mm).query(truth_mm)[0], truth_areas)
    return SurfaceDistances(
        prediction_to_truth_mm=forth_mm,
        prediction_areas_mm2=prediction_areas,
        truth_to_prediction_mm=back_mm,
        truth_areas_mm2=truth_areas,
    )


def _elements(
    mask: NDArray[np.bool_], spacing_zyx_mm: Triple
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions (n, 3) in mm and areas (n,) in mm² of the surface elements of a mask."""
    voxels = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros(tuple(size - 1 for size in voxels.shape), np.uint8)
    for corner, weight in np.ndenumerate(ENCODE_NEIGHBOURHOOD_3D_KERNEL.astype(np.uint8)):
        part = tuple(slice(at, at + size) for at, size in zip(corner, codes.shape, strict=True))
        codes += weight * voxels[part]
    surface = np.nonzero((codes != 0) & (codes != _INSIDE))
    areas = create_table_neighbour_code_to_surface_area(spacing_zyx_mm)[codes[surface]]
    return np.stack(surface, axis=1) * np.asarray(spacing_zyx_mm), areas


def _sort(
    distances_mm: NDArray[np.float64], areas_mm2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(distances_mm, kind="stable")
    return distances_mm[order], areas_mm2[order]
