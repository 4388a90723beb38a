"""Turns probabilities into a label map, with rules that remove or relabel implausible lesions.

Every rule is off unless a model card turns it on. The table of `python -m training ablate` has a
row for each rule. The rules target the errors that the authors of the paper report for their own
model: false primaries, a small node labelled as the primary, a large node split in two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from shared.conventions import LESIONS, Label, LabelVolume, Volume
from shared.geometry import bounding_slices
from shared.postprocessing.components import find_components, remove_small
from shared.schema import Limit, Strict


class Rules(Strict):
    """Limits that lesions must meet; 0 turns a rule off. Rules apply in the order of the fields.

    A lesion is a 26-connected component of a label. Its mass is its expected volume: the sum of the
    probabilities of this label over its voxels, times the volume of a voxel.
    """

    minority_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """If a connected component has both labels and one label has less than this share of the
    volume, the whole component gets the other label: the network has split one lesion."""
    min_primary_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A primary with a lower mean probability becomes node or background, whichever has the higher
    mean probability in its voxels."""
    min_primary_mass_mm3: Limit = 0.0
    """A primary with a lower mass is relabelled in the same way."""
    min_primary_suv_max: Limit = 0.0
    """A remaining primary with a lower SUVmax becomes background."""
    satellite_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A remaining primary becomes a node if its mass is less than this share of the mass of the
    heaviest remaining primary."""
    node_gap_mm: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Nodes with a gap of at most this width are joined: background on the shortest paths between
    them becomes node."""
    min_node_suv_max: Limit = 0.0
    """A node with a lower SUVmax becomes background. A HECKTOR 2025 team reports a median SUVmax of
    9.3 for true nodes and of 4.1 for false nodes, and uses a limit of 2.5."""

    @property
    def judge_primaries(self) -> bool:
        """Whether a rule on primaries is on."""
        limits = (self.min_primary_probability, self.min_primary_mass_mm3)
        return any((*limits, self.min_primary_suv_max, self.satellite_share))


def label_map(
    probabilities: Volume,
    pet_suv: Volume,
    *,
    spacing_mm: float,
    min_component_mm3: Mapping[str, float],
    rules: Rules,
) -> LabelVolume:
    """Return the most probable labels, after the rules and the removal of small components.

    Parameters
    ----------
    probabilities : probabilities of background, GTVp and GTVn, shape (3, z, y, x).
    pet_suv : PET on the same grid, shape (z, y, x).
    spacing_mm : voxel spacing, equal along all axes.
    min_component_mm3 : for each label by name, the volume below which a component is removed. This
        is the last step.
    rules : limits that lesions must meet.
    """
    labels: LabelVolume = probabilities.argmax(axis=0).astype(np.uint8)
    box = bounding_slices(labels != Label.BACKGROUND)
    if box is None:
        return labels
    part, suv = labels[box], pet_suv[box]
    voxel_mm3 = spacing_mm**3
    if rules.minority_share:
        _unite(part, rules.minority_share)
    if rules.judge_primaries:
        _judge_primaries(part, probabilities[:, *box], suv, voxel_mm3=voxel_mm3, rules=rules)
    if rules.node_gap_mm:
        _join_nodes(part, rules.node_gap_mm / spacing_mm)
    if rules.min_node_suv_max:
        for node in find_components(part == Label.GTVN):
            if node.voxels_of(suv).max() < rules.min_node_suv_max:
                node.relabel(part, Label.BACKGROUND)
    minimum = {LESIONS[name]: size for name, size in min_component_mm3.items()}
    return remove_small(labels, voxel_mm3, minimum)


def _unite(labels: LabelVolume, minority_share: float) -> None:
    """Give a component with both labels the label of its majority, in place."""
    for lesion in find_components(labels != Label.BACKGROUND):
        node_share = float(np.mean(lesion.voxels_of(labels) == Label.GTVN))
        if 0 < min(node_share, 1 - node_share) < minority_share:
            lesion.relabel(labels, Label.GTVN if node_share > 0.5 else Label.GTVP)


def _judge_primaries(
    labels: LabelVolume, probabilities: Volume, suv: Volume, *, voxel_mm3: float, rules: Rules
) -> None:
    """Relabel primaries that do not meet the rules, in place."""
    remaining = []
    for lesion in find_components(labels == Label.GTVP):
        background, primary, node = (float(lesion.voxels_of(p).mean()) for p in probabilities)
        mass_mm3 = primary * np.count_nonzero(lesion.mask) * voxel_mm3
        if primary < rules.min_primary_probability or mass_mm3 < rules.min_primary_mass_mm3:
            lesion.relabel(labels, Label.GTVN if node > background else Label.BACKGROUND)
        elif lesion.voxels_of(suv).max() < rules.min_primary_suv_max:
            lesion.relabel(labels, Label.BACKGROUND)
        else:
            remaining.append((mass_mm3, lesion))
    heaviest = max((mass for mass, _ in remaining), default=0.0)
    for mass_mm3, lesion in remaining:
        if mass_mm3 < rules.satellite_share * heaviest:
            lesion.relabel(labels, Label.GTVN)


def _join_nodes(labels: LabelVolume, gap_vox: float) -> None:
    """Fill the shortest paths of at most `gap_vox` voxels between nodes, in place.

    Only background is filled, never a primary.
    """
    # Distances of each voxel to the nearest and to the second nearest node.
    nearest = np.full((2, *labels.shape), np.inf, np.float32)
    for node in find_components(labels == Label.GTVN):
        mask = np.zeros(labels.shape, np.uint8)
        mask[node.box][node.mask] = 1
        distance_map = sitk.SignedMaurerDistanceMap(
            sitk.GetImageFromArray(mask), squaredDistance=False, useImageSpacing=False
        )
        distance = sitk.GetArrayViewFromImage(distance_map)
        nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
        nearest[0] = np.minimum(nearest[0], distance)
    # Distances are between voxel centres, so the path is one voxel longer than the gap.
    is_gap = nearest.sum(axis=0) <= gap_vox + 1 + 1e-3
    labels[is_gap & (labels == Label.BACKGROUND)] = Label.GTVN
