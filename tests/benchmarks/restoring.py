"""Masks from the region back to the CT: `python -m tests.benchmarks.restoring COHORT`.

Two masks of each patient are restored to the CT's grid: the truth, averaged over the larger voxels
of a region, and the mask that the checkout's Task 1 model predicts. Each is restored by nearest
neighbour and by interpolation (`shared.postprocessing.restore`). The command prints the mean DSC of
both methods over all patients and labels, and their difference with a 95 % interval over patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import cc3d
import numpy as np
import SimpleITK as sitk
import typer
from tqdm import tqdm

from shared.conventions import LESIONS, Label, LabelVolume, Volume
from shared.geometry import Grid, resample
from shared.metrics.segmentation import dice
from shared.metrics.uncertainty import bootstrap
from shared.models.chain import CHECKOUT, Chain
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.preprocessing.pipeline import Undo
from training.cohort.layout import index_cohort
from training.cohort.preparation import read_case, read_labels

SUBVOXELS: Final = 4
"""Samples of the truth along each side of a voxel of the region."""


def truth_on_region(truth: sitk.Image, region: Grid) -> SegmentedRegion:
    """Return the share of each label in each voxel of a region, as probabilities."""
    size = region.size_xyz
    spacing = tuple(mm / SUBVOXELS for mm in region.spacing_mm)
    origin = region.world_mm(np.full((1, 3), (1 / SUBVOXELS - 1) / 2))[0]
    x, y, z = (SUBVOXELS * n for n in size)
    fine = Grid((x, y, z), (spacing[0], spacing[1], spacing[2]), tuple(origin.tolist()))

    def share(label: Label) -> Volume:
        samples = resample(truth == label, fine, interpolation="linear", outside=0.0)
        blocks = sitk.GetArrayViewFromImage(samples).reshape(
            size[2], SUBVOXELS, size[1], SUBVOXELS, size[0], SUBVOXELS
        )
        return blocks.mean(axis=(1, 3, 5), dtype=np.float32)

    lesions = np.stack([share(label) for label in LESIONS.values()])
    probabilities = np.concatenate([1 - lesions.sum(axis=0, keepdims=True), lesions])
    return SegmentedRegion(
        labels=probabilities.argmax(axis=0).astype(np.uint8), probabilities=probabilities
    )


def region_around(ct: Grid, spacing_mm: float) -> Grid:
    """Return the grid along the axes of the world that covers a CT."""
    low, high = ct.extent_mm()
    x, y, z = (int(n) for n in np.ceil((high - low) / spacing_mm))
    return Grid((x, y, z), (spacing_mm,) * 3, tuple((low + spacing_mm / 2).tolist()))


def compare(segmented: SegmentedRegion, undo: Undo, truth: LabelVolume) -> Iterator[list[float]]:
    """Yield DSC and number of components with both methods, for each label in the truth."""
    nearest = resample(
        undo.region.image(segmented.labels), undo.ct, interpolation="nearest", outside=0.0
    )
    masks = [sitk.GetArrayFromImage(image) for image in (nearest, restore(segmented, undo))]
    for label in LESIONS.values():
        if np.any(truth == label):
            counts = [
                int(cc3d.connected_components(np.pad(mask == label, 1), connectivity=26).max())
                for mask in masks
            ]
            yield [*(dice(mask, truth, label) for mask in masks), *counts]


def row(name: str, patients: list[list[list[float]]]) -> str:
    """Return a row of the table from the comparisons of each patient."""
    difference = bootstrap(
        lambda chosen: float(
            np.mean([lesion[1] - lesion[0] for i in chosen for lesion in patients[i]])
        ),
        len(patients),
    )
    lesions = np.array([lesion for patient in patients for lesion in patient])
    before, after = lesions[:, :2].mean(axis=0)
    components = lesions[:, 2:].sum(axis=0).astype(int)
    return (
        f"| {name} | {before:.3f} | {after:.3f} | {difference:+.3f} "
        f"| {components[0]} | {components[1]} |"
    )


def main(
    cohort: Annotated[Path, typer.Argument(help="Cohort with label maps, such as phantoms.")],
    spacing_mm: Annotated[
        float, typer.Option(min=0.5, max=10, help="Spacing of the truth's region.")
    ] = 4.0,
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 40,
) -> None:
    """Compare nearest neighbour and interpolation on a cohort."""
    model = SegmentationModel.load(CHECKOUT / "task1_segmentation/model")
    chain = Chain(segmentation=model)
    of_truth, of_model = [], []
    with_labels = [patient for patient in index_cohort(cohort) if patient.labels is not None]
    for patient in tqdm(with_labels[:patients], unit="patient"):
        image = read_labels(patient)
        truth, ct = sitk.GetArrayFromImage(image), Grid.of(image)
        region = region_around(ct, spacing_mm)
        of_truth.append(list(compare(truth_on_region(image, region), Undo(region, ct), truth)))
        prepared = chain.prepare(read_case(patient))
        of_model.append(list(compare(model.segment(prepared), prepared.undo, truth)))
    spacing = model.card.preparation.spacing_mm
    print(
        "| mask | DSC, nearest | DSC, interpolated | difference [95 %] | lesions, nearest "
        "| lesions, interpolated |",
        "|---|---|---|---|---|---|",
        row(f"truth at {spacing_mm:g} mm", of_truth),
        row(f"demo network at {spacing:g} mm", of_model),
        sep="\n",
    )


if __name__ == "__main__":
    typer.run(main)
