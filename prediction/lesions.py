"""Find the lesions in a predicted label map."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cc3d
import numpy as np

from evaluation.report.places import LesionPlace, place_of, voxels_of_each
from shared.conventions import LESIONS, LabelVolume
from shared.preprocessing.pipeline import Prepared


@dataclass(frozen=True, kw_only=True)
class Lesion(LesionPlace):
    """A connected component of a label.

    Attributes
    ----------
    label : "GTVp" or "GTVn".
    suv_max : highest SUV in the lesion.
    """

    label: str
    suv_max: float


def find_lesions(labels: LabelVolume, prepared: Prepared) -> list[Lesion]:
    """Return the lesions of a label map: primaries, then nodes, each sorted from large to small.

    Neighbouring voxels with the same label belong to the same lesion. Neighbours share a face, an
    edge or a corner.

    Parameters
    ----------
    labels : label map on the region's grid, [z, y, x], such as `Predictions.labels`.
    prepared : the case as returned by `Chain.prepare`.

    Returns
    -------
    The lesions, with volumes in ml and positions in mm in the world (LPS); empty if there are none.
    """
    lesions = []
    for name, label in LESIONS.items():
        # Padded, because cc3d 4.1.1 fails on some masks that are one voxel wide.
        components = cc3d.connected_components(np.pad(labels == label, 1), connectivity=26)
        of_label = []
        for voxels in voxels_of_each(components[1:-1, 1:-1, 1:-1]):
            place = place_of(voxels, prepared.undo.region)
            suv_max = float(prepared.pet_suv[tuple(voxels.T)].max())
            of_label.append(Lesion(label=name, suv_max=suv_max, **asdict(place)))
        lesions += sorted(of_label, key=lambda lesion: -lesion.volume_ml)
    return lesions
