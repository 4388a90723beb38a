"""What a radiologist would measure on lesions: how much, how active, how many, how far, how wet.

Nine numbers from a label map, a CT and a PET on one grid. They are what a simple model is fitted
to, beside which a network has to prove itself.
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
"""Water, protein and old blood, and the noise of a CT; viable tumour and muscle lie above, fat
(-100) below."""

RIM_MM: Final = 4.0
"""Nothing is called fluid that near to a lesion's outermost voxels: fat beside a lesion mixes with
it to the same HU."""


@dataclass(frozen=True)
class LesionMeasures:
    """What all lesions of a patient measure; all 0 where there is none.

    Attributes
    ----------
    mtv_ml : metabolic tumour volume, here the volume of the masks of primary and nodes.
    tlg_suv_ml : total lesion glycolysis, mean SUV times volume, SUV·ml.
    suv_max : highest SUV of a voxel.
    primary_ml : volume of GTVp.
    nodes : how many involved nodes, as 26-connected components of GTVn.
    largest_node_ml : volume of the largest of them.
    spread_mm : largest distance between the centres of two lesions, primaries or nodes; 0 where
        there is one only.
    primary_fluid_ml, node_fluid_ml : volume of fluid inside GTVp and GTVn, by the CT (`FLUID_HU`,
        `RIM_MM`): necrosis, or the cyst that a node of an HPV-positive tumour often is.

    References
    ----------
    Goldenberg et al. 2008, Cystic lymph node metastasis in patients with head and neck cancer: an
    HPV-associated phenomenon, Head & Neck 30:898-903.
    Larson et al. 1999, Tumor treatment response based on visual and quantitative changes in global
    tumor glycolysis using PET-FDG imaging, Clinical Positron Imaging 2:159-171 (TLG).
    Cottereau et al. 2020, 18F-FDG PET dissemination features in diffuse large B-cell lymphoma are
    predictive of outcome, Journal of Nuclear Medicine 61:40-45 (largest distance).
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

    def vector(self) -> NDArray[np.float64]:
        """Return the logarithms of 1 + each measure, shape (9,), in the order of the attributes.

        Volumes and uptakes range over factors of hundreds, so that a linear model of them as they
        are would hear of the largest tumours only.
        """
        return np.log1p(np.asarray(astuple(self), dtype=np.float64))


MEASURES: Final = tuple(field.name for field in fields(LesionMeasures))
"""Names of the measures, in the order of `LesionMeasures.vector`."""


def measure_lesions(
    labels: LabelVolume, ct_hu: Volume, pet_suv: Volume, grid: Grid
) -> LesionMeasures:
    """Measure the lesions of a patient.

    Parameters
    ----------
    labels : GTVp and GTVn, [z, y, x].
    ct_hu, pet_suv : on the same grid.
    grid : of all three; any spacing and direction.

    Raises
    ------
    ValueError
        If a volume is not of the grid's shape.
    """
    if not labels.shape == ct_hu.shape == pet_suv.shape == grid.shape_zyx:
        raise ValueError(
            f"expected labels, CT and PET of the grid's shape {grid.shape_zyx} (z, y, x), found "
            f"{labels.shape}, {ct_hu.shape} and {pet_suv.shape}"
        )
    inside = bounding_slices(labels != Label.BACKGROUND)
    if inside is None:
        return LesionMeasures()
    part, voxel_ml = labels[inside], grid.voxel_volume_mm3 / MM3_PER_ML
    low_hu, high_hu = FLUID_HU
    fluid = (ct_hu[inside] >= low_hu) & (ct_hu[inside] <= high_hu)
    uptake = pet_suv[inside][part != Label.BACKGROUND].astype(np.float64)
    primary, nodes = part == Label.GTVP, part == Label.GTVN
    _, primary_centres = _lesions(primary)
    nodes_vox, node_centres = _lesions(nodes)
    # Distances do not care where the part begins.
    centres_zyx = np.concatenate([primary_centres, node_centres])
    centres_mm = grid.world_mm(centres_zyx[:, ::-1])
    distances = np.linalg.norm(centres_mm[:, None] - centres_mm, axis=2)
    return LesionMeasures(
        mtv_ml=uptake.size * voxel_ml,
        tlg_suv_ml=float(uptake.sum()) * voxel_ml,
        suv_max=float(uptake.max()),
        primary_ml=np.count_nonzero(primary) * voxel_ml,
        nodes=len(nodes_vox),
        largest_node_ml=float(nodes_vox.max(initial=0)) * voxel_ml,
        spread_mm=float(distances.max()),
        primary_fluid_ml=_fluid_vox(primary, fluid, grid) * voxel_ml,
        node_fluid_ml=_fluid_vox(nodes, fluid, grid) * voxel_ml,
    )


def _fluid_vox(mask: NDArray[np.bool_], fluid: NDArray[np.bool_], grid: Grid) -> int:
    """Return how many voxels of a mask are fluid, and not of its rim."""
    if not mask.any():
        return 0
    # What lies outside the array is no lesion.
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    image.SetSpacing(grid.spacing_mm)
    depth = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
    )
    depth_mm = sitk.GetArrayViewFromImage(depth)[1:-1, 1:-1, 1:-1]
    return int(np.count_nonzero(mask & fluid & (depth_mm >= RIM_MM)))


def _lesions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Return voxels, shape (n,), and central index (z, y, x), shape (n, 3), of each component."""
    # With a rim of background: cc3d 4.1.1 fails on some masks that are one voxel wide.
    components = cc3d.connected_components(np.pad(mask, 1), connectivity=26)
    found = cc3d.statistics(components)
    return found["voxel_counts"][1:].astype(int), found["centroids"][1:] - 1.0
