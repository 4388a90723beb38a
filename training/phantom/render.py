"""Draws a picture of a patient: CT, fused PET, outlines and PET projections in one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import typer

from training.phantom.patient import Kind, PhantomPatient, make_patient

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Array = npt.NDArray[np.float32]
OUTLINES = ((1, "#30ff60"), (2, "#ffe030"))  # GTVp green, GTVn yellow, as in the paper
VIEW_MM = 300.0  # height of the planes, from the vertex or the upper end of the scan


def _resample_to_ct(
    patient: PhantomPatient,
) -> tuple[list[Array], tuple[float, ...], sitk.Image]:
    """Return CT, PET and labels (z, y, x) on the CT's grid, its spacing, and the original PET."""
    labels = sitk.DICOMOrient(patient.labels, "LPS")
    images = [
        sitk.Resample(image, labels, sitk.Transform(), interpolation, fill)
        for image, interpolation, fill in (
            (patient.ct_hu, sitk.sitkLinear, -1000.0),
            (patient.pet_suv, sitk.sitkLinear, 0.0),
            (patient.labels, sitk.sitkNearestNeighbor, 0.0),
        )
    ]
    arrays = [sitk.GetArrayFromImage(image).astype(np.float32) for image in images]
    return arrays, labels.GetSpacing(), sitk.DICOMOrient(patient.pet_suv, "LPS")


def render(patient: PhantomPatient, path: Path, suv_max: float = 10.0) -> None:
    """Draw axial, coronal and sagittal planes through the largest lesion, and the PET's MIP.

    Rows: CT in a soft-tissue window, PET over CT, GTVp (green) and GTVn (yellow) over CT. Planes
    show head and neck, projections the whole scan. The patient's left is on the viewer's right.
    A PET in Bq/mL is scaled by its hottest part.
    """
    (ct_hu, pet, labels), (sx, sy, sz), own_pet = _resample_to_ct(patient)
    scale = float(np.percentile(pet, 99.9)) / 9 if pet.max() > 1000 else 1.0
    pet = pet / scale
    target = 1 if (labels == 1).any() else 2
    z, y, x = (round(float(c.mean())) for c in np.nonzero(labels == target))
    y0, x0 = (float(c.mean()) for c in np.nonzero((ct_hu[z] > 0) & (ct_hu[z] < 1500)))
    planes = (
        ("axial", lambda a: a[z], sy / sx, "upper"),
        ("coronal", lambda a: a[:, y], sz / sx, "lower"),
        ("sagittal", lambda a: a[:, :, x], sz / sy, "lower"),
    )
    figure, axes = plt.subplots(3, 4, figsize=(15, 13), facecolor="black")
    for column, (name, cut, aspect, origin) in enumerate(planes):
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(cut(ct_hu), cmap="gray", vmin=-160, vmax=280, aspect=aspect, origin=origin)
            if row == 1:
                overlay = cut(pet)
                alpha = np.clip(overlay / 3, 0, 0.75)
                axis.imshow(overlay, cmap="inferno", vmin=0, vmax=suv_max, alpha=alpha,
                            aspect=aspect, origin=origin)  # fmt: skip
            if row == 2:
                for label, colour in OUTLINES:
                    if (cut(labels) == label).any():
                        axis.contour(cut(labels) == label, [0.5], colors=colour, linewidths=1)
            axis.set_title(name, color="white")
    pet_volume = sitk.GetArrayFromImage(own_pet).astype(np.float32) / scale
    px, py, pz = own_pet.GetSpacing()
    projections = (
        ("MIP coronal", pet_volume.max(1), pz / px),
        ("MIP sagittal", pet_volume.max(2), pz / py),
    )
    for axis, (name, picture, aspect) in zip(axes[:2, 3], projections, strict=True):
        axis.imshow(picture, cmap="gray_r", vmin=0, vmax=suv_max, aspect=aspect, origin="lower")
        axis.set_title(name, color="white")
    lesions = "\n".join(
        f"{'GTVp' if item['label'] == 1 else 'GTVn'} {item['side']} {item['place']}: "
        f"{item['volume_ml']} ml{'' if item['core'] == 'solid' else ', ' + item['core']}"
        for item in patient.facts["lesions"]
    )
    ehr = "\n".join(f"{key}: {value}" for key, value in patient.ehr.items())
    outcome = f"HPV {patient.hpv}, relapse {patient.relapse}, RFS {patient.rfs_days:.0f} d"
    axes[2, 3].text(0, 1, f"{patient.patient_id}\n{lesions}\n\n{ehr}\n{outcome}", color="white",
                    va="top", fontsize=9, transform=axes[2, 3].transAxes)  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    top = float(np.flatnonzero((ct_hu > -300).any(axis=(1, 2))).max())
    for column, (across, down) in enumerate(((x0, sx), (x0, sx), (y0, sy))):
        for axis in axes[:, column]:
            axis.set_xlim(across - 130 / down, across + 130 / down)
            axis.set_ylim(top - VIEW_MM / sz, top + 5 / sz)
    for axis in axes[:, 0]:
        axis.set_ylim(y0 + 130 / sy, y0 - 130 / sy)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)


def main(
    picture: Annotated[Path, typer.Argument(help="PNG to write.")],
    index: Annotated[int, typer.Option(help="Index of the patient.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the cohort.")] = 0,
    small: Annotated[bool, typer.Option("--small", help="Coarse voxels.")] = False,
    whole_body: Annotated[
        bool | None,
        typer.Option("--whole-body/--head-neck", help="Field of view; random by default."),
    ] = None,
    anatomy: Annotated[
        Path | None, typer.Option(help="Build the patient on a CT of this folder.")
    ] = None,
) -> None:
    """Draw one patient of a cohort."""
    folder = None if anatomy is None else str(anatomy)
    kind = Kind(small=small, whole_body=whole_body, anatomy=folder)
    render(make_patient(seed, index, kind), picture)


if __name__ == "__main__":
    typer.run(main)
