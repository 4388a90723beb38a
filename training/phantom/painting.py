"""Paints shapes into tissue maps, slab by slab, so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from training.phantom.lesion import Lesion
from training.phantom.pose import Pose
from training.phantom.slab import Raster, Slab
from training.phantom.tissue import Organ, Tissue

SLAB_VOXELS = 3_000_000
"""Number of voxels of a slab; each float32 array then takes about 12 MB."""


class Paintable(Protocol):
    """A background and organs on top of it."""

    @property
    def organs(self) -> tuple[Organ, ...]:
        """Organs in painting order: later ones overwrite earlier ones."""
        ...

    def paint_background(self, slab: Slab) -> None:
        """Write the tissue and the barriers under the organs into the slab."""
        ...


def paint(
    body: Paintable, lesions: Sequence[Lesion], *, raster: Raster, pose: Pose
) -> Iterator[Slab]:
    """Yield the painted slabs of an image from its first slice to its last.

    Parameters
    ----------
    body, lesions
        The organs and lesions to paint. Lesions come last and fill only tissue where they may grow.
    raster
        The image grid.
    pose
        Pose of the patient during this scan.
    """
    nx, ny, nz = raster.size_xyz
    step = max(SLAB_VOXELS // (nx * ny), 1)
    for start in range(0, nz, step):
        x, y, z = pose.to_canonical(*raster.axes(start, start + step))
        tissue = np.zeros(x.shape, dtype=np.uint8)
        slab = Slab(
            start=start, tissue=tissue, barriers=np.zeros_like(tissue), x=x, y=y, z=z,
            raster=raster, pose=pose,
        )  # fmt: skip
        body.paint_background(slab)
        for organ in body.organs:
            _paint_organ(organ, slab)
        for lesion in lesions:
            _paint_lesion(lesion, slab)
        yield slab


def _paint_organ(organ: Organ, slab: Slab) -> None:
    box = slab.box(organ.shape)
    if box is None:
        return
    target = slab.tissue[box]
    mask = organ.shape.field(*slab.coordinates(box)) < 1
    if organ.replaces:
        replaceable = np.zeros(len(Tissue), dtype=bool)
        replaceable[list(organ.replaces)] = True
        mask &= replaceable[target]
    target[mask] = organ.tissue


def _paint_lesion(lesion: Lesion, slab: Slab) -> None:
    box = slab.box(lesion)
    if box is None:
        return
    target = slab.tissue[box]
    field = lesion.field(*slab.coordinates(box))
    mask = (field < 1) & lesion.may_fill(target, field, slab.barriers[box])
    target[mask] = lesion.tissue
    target[mask & (field < lesion.necrosis)] = lesion.core_tissue
