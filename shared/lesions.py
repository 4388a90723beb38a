"""Lesion measures that a radiologist would use: volume, uptake, number, spread, fluid and position.

The measures are computed from a label map, a CT and a PET on one grid. The linear models and the
baselines use them.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Final

import cc3d
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume, Volume
from shared.geometry import Grid, bounding_slices

MM3_PER_ML: Final = 1000.0

FLUID_HU: Final = (-20.0, 35.0)
"""HU of water, protein-rich fluid and old blood, widened by the noise of a CT; both ends are
included. Viable tumour and muscle are above this range, and fat (-100 HU) is below."""

RIM_MM: Final = 4.0
"""Voxels that are closer than this to the surface of a lesion do not count as fluid, because a
voxel that is partly lesion and partly fat can have the HU of fluid."""

ROUNDING_MM: Final = 1e-6
"""A tolerance that is larger than the rounding errors of positions and distances in float64."""


@dataclass(frozen=True, kw_only=True)
class LesionMeasures:
    """The measures of all lesions of a patient; all are 0 without lesions.

    Positions are relative to the middle of the grid, along the axes of the world (LPS). In the
    pipeline, the grid is that of the region. The sagittal plane through its middle is taken as the
    midplane of the body. The measures of a lesion type that is absent are 0.

    Attributes
    ----------
    mtv_ml : metabolic tumour volume, here the volume of GTVp and GTVn together.
    tlg_suv_ml : total lesion glycolysis, mean SUV times volume, in SUV·ml.
    suv_max : highest SUV of a voxel of a lesion.
    primary_ml : volume of GTVp.
    nodes : number of involved nodes, counted as 26-connected components of GTVn.
    largest_node_ml : volume of the largest node.
    spread_mm : largest distance between the centroids of two lesions, primaries or nodes; 0 for a
        single lesion.
    primary_fluid_ml, node_fluid_ml : volume of fluid in GTVp and GTVn on the CT (`FLUID_HU`,
        `RIM_MM`). Fluid is necrosis or a cyst; nodes of HPV-positive tumours are often cystic.
    primary_suv, node_suv : mean SUV of GTVp and GTVn.
    lesser_side_ml : volume of GTVn on the side of the body where it is smaller; above 0 if nodes on
        both sides are involved.
    primary_lateral_mm, node_lateral_mm : mean distance of the voxels from the midplane, never
        negative.
    primary_posterior_mm, primary_superior_mm, node_posterior_mm, node_superior_mm : position of the
        centroid relative to the middle of the grid; positive is behind the middle or above it. The
        site of a tumour is related to its HPV status: positive tumours arise mostly in the tonsils
        and at the base of the tongue.
    node_laterality : difference between the volumes of GTVn on the two sides, divided by their sum:
        0 if they are equal, 1 if all nodes are on one side.

    References
    ----------
    Goldenberg et al. 2008, Cystic lymph node metastasis in patients with head and neck cancer: an
    HPV-associated phenomenon, Head & Neck 30:898-903.
    Larson et al. 1999, Tumor treatment response based on visual and quantitative changes in global
    tumor glycolysis using PET-FDG imaging, Clinical Positron Imaging 2:159-171 (TLG).
    Cottereau et al. 2020, 18F-FDG PET dissemination features in diffuse large B-cell lymphoma are
    predictive of outcome, Journal of Nuclear Medicine 61:40-45 (largest distance).
    Gillison et al. 2000, Evidence for a causal association between human papillomavirus and a
    subset of head and neck cancers, Journal of the National Cancer Institute 92:709-720 (site).
    """

    mtv_ml: float = 0.0
    tlg_suv_ml: float = 0.0
    suv_max: float = 0.0
    primary_ml: float = 0.0
    nodes: int = 0
    largest_node_ml: float = 0.0
    spread_mm: float = 0.0
    primary_fluid_ml: float = 0.0
    node_fluid_ml: float = 0.0
    primary_suv: float = 0.0
    node_suv: float = 0.0
    lesser_side_ml: float = 0.0
    primary_lateral_mm: float = 0.0
    primary_posterior_mm: float = 0.0
    primary_superior_mm: float = 0.0
    node_lateral_mm: float = 0.0
    node_posterior_mm: float = 0.0
    node_superior_mm: float = 0.0
    node_laterality: float = 0.0

    def vector(self) -> NDArray[np.float64]:
        """Return the measures as a linear model takes them, in the order of `MEASURES`.

        Volumes, uptakes, numbers and the spread become log(1 + measure), because they vary by
        factors of hundreds: without the logarithm the largest tumours would dominate a linear
        model. Positions and the laterality stay as they are.

        Returns
        -------
        Shape (measures,).
        """
        values = np.asarray(astuple(self), dtype=np.float64)
        return np.where(_IS_AMOUNT, np.log1p(np.where(_IS_AMOUNT, values, 0)), values)


MEASURES: Final = tuple(field.name for field in fields(LesionMeasures))
"""Names of the measures, in the order of `LesionMeasures.vector`."""

_PLACES: Final = tuple(
    name for name in MEASURES if name.endswith(("lateral_mm", "posterior_mm", "superior_mm"))
)
_IS_AMOUNT: Final = ~np.isin(MEASURES, (*_PLACES, "node_laterality"))


def measure_lesions(
    labels: LabelVolume, ct_hu: Volume, pet_suv: Volume, grid: Grid
) -> LesionMeasures:
    """Measure the lesions of a patient.

    Parameters
    ----------
    labels : label map, [z, y, x].
    ct_hu, pet_suv : CT and PET on the same grid.
    grid : the grid of all three volumes, with any spacing and direction.

    Raises
    ------
    ValueError
        If a volume does not have the grid's shape.
    """
    if not labels.shape == ct_hu.shape == pet_suv.shape == grid.shape_zyx:
        raise ValueError(
            f"expected labels, CT and PET of the grid's shape {grid.shape_zyx} (z, y, x), found "
            f"{labels.shape}, {ct_hu.shape} and {pet_suv.shape}"
        )
    box = bounding_slices(labels != Label.BACKGROUND)
    if box is None:
        return LesionMeasures()
    part, voxel_ml = labels[box], grid.voxel_volume_mm3 / MM3_PER_ML
    low_hu, high_hu = FLUID_HU
    fluid = (ct_hu[box] >= low_hu) & (ct_hu[box] <= high_hu)
    uptake = pet_suv[box][part != Label.BACKGROUND].astype(np.float64)
    primary, nodes = part == Label.GTVP, part == Label.GTVN
    _, primary_centres = _components(primary)
    nodes_vox, node_centres = _components(nodes)
    # Centres are relative to the box, which is enough for distances.
    centres_zyx = np.concatenate([primary_centres, node_centres])
    centres_mm = grid.world_mm(centres_zyx[:, ::-1])
    corner_zyx = np.array([side.start for side in box])
    primary_mm, nodes_mm = (_places_mm(mask, corner_zyx, grid) for mask in (primary, nodes))
    left_ml, right_ml = (
        np.count_nonzero(side) * voxel_ml for side in (nodes_mm[:, 0] > 0, nodes_mm[:, 0] < 0)
    )
    primary_centre, node_centre = _centre_mm(primary_mm), _centre_mm(nodes_mm)
    return LesionMeasures(
        mtv_ml=uptake.size * voxel_ml,
        tlg_suv_ml=float(uptake.sum()) * voxel_ml,
        suv_max=float(uptake.max()),
        primary_ml=np.count_nonzero(primary) * voxel_ml,
        nodes=len(nodes_vox),
        largest_node_ml=float(nodes_vox.max(initial=0)) * voxel_ml,
        spread_mm=largest_distance(centres_mm),
        primary_fluid_ml=_fluid_vox(primary, fluid, grid) * voxel_ml,
        node_fluid_ml=_fluid_vox(nodes, fluid, grid) * voxel_ml,
        primary_suv=_mean(pet_suv[box][primary]),
        node_suv=_mean(pet_suv[box][nodes]),
        lesser_side_ml=min(left_ml, right_ml),
        primary_lateral_mm=primary_centre[0],
        primary_posterior_mm=primary_centre[1],
        primary_superior_mm=primary_centre[2],
        node_lateral_mm=node_centre[0],
        node_posterior_mm=node_centre[1],
        node_superior_mm=node_centre[2],
        node_laterality=abs(left_ml - right_ml) / max(left_ml + right_ml, voxel_ml),
    )


def largest_distance(points: NDArray[np.float64]) -> float:
    """Return the largest distance between any two points, shape (n, 3); 0 for a single point.

    Only points near the surface of the cloud can be that far apart, so only these are compared.
    This saves time and memory: the mask of a bad model may have tens of thousands of lesions.
    """
    radii = np.linalg.norm(points - points.mean(axis=0), axis=1)
    known = np.linalg.norm(points - points[radii.argmax()], axis=1).max()
    # Two points that are `known` apart have radii of at least `known` minus the largest radius.
    outer = points[radii >= known - radii.max() - ROUNDING_MM]
    return max(float(np.linalg.norm(outer - point, axis=1).max()) for point in outer)


def _places_mm(
    mask: NDArray[np.bool_], corner_zyx: NDArray[np.int_], grid: Grid
) -> NDArray[np.float64]:
    """Return the world positions of a mask's voxels relative to the grid's middle, shape (n, 3)."""
    index_zyx = np.argwhere(mask) + corner_zyx
    middle_xyz = (np.array(grid.size_xyz) - 1) / 2
    places: NDArray[np.float64] = (index_zyx[:, ::-1] - middle_xyz) @ grid.index_to_world.T
    # Rounded, so that a voxel on the midplane of an oblique grid is on neither side.
    return places.round(6)


def _centre_mm(places_mm: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean distance from the midplane, the mean y and the mean z; 0 without voxels."""
    if not len(places_mm):
        return 0.0, 0.0, 0.0
    lateral, posterior, superior = np.abs(places_mm[:, 0]), places_mm[:, 1], places_mm[:, 2]
    return float(lateral.mean()), float(posterior.mean()), float(superior.mean())


def _mean(uptake: Volume) -> float:
    return float(uptake.mean(dtype=np.float64)) if uptake.size else 0.0


def _fluid_vox(mask: NDArray[np.bool_], fluid: NDArray[np.bool_], grid: Grid) -> int:
    """Return the number of voxels of a mask that are fluid and not in the rim of the mask."""
    if not mask.any():
        return 0
    # With the padding, a lesion that reaches the edge of the array ends there.
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    depth = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    depth_mm = sitk.GetArrayViewFromImage(depth)[1:-1, 1:-1, 1:-1]
    return int(np.count_nonzero(mask & fluid & (depth_mm >= RIM_MM)))


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Return the sizes in voxels, shape (n,), and the centroids [z, y, x], shape (n, 3)."""
    # Padded, because cc3d 4.1.1 fails on some masks that are one voxel wide.
    components = cc3d.connected_components(np.pad(mask, 1), connectivity=26)
    statistics = cc3d.statistics(components)
    return statistics["voxel_counts"][1:].astype(int), statistics["centroids"][1:] - 1.0
