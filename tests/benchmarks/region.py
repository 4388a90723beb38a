"""How often the head-and-neck region contains whole tumours: `python -m tests.benchmarks.region`.

The phantoms of every kind have coarse grids, because the search for the region is coarse too. A
lesion is contained if all of its voxels lie in the region that `shared.preprocessing` finds. The
command fails if the region contains the GTVp of less than 99 % of the patients with one, or the
GTVn of less than 97 %.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from shared.conventions import LESIONS
from shared.geometry import Grid
from shared.preprocessing.region import Preparation, find_region
from training.phantom import Kind, make_patient

MIN_SHARES: Final = {"GTVp": 0.99, "GTVn": 0.97}
PREPARATION: Final = Preparation(spacing_mm=2.0, size_xyz=(144, 144, 144), interpolation="linear")
"""The region of `demo`; that of `paper` has the same size in mm."""
COARSE: Final = Kind(small=True, spacing_mm=(4.0, 4.0, 4.0))
KINDS: Final = {
    "head and neck": replace(COARSE, whole_body=False),
    "whole body": replace(COARSE, whole_body=True),
    "without brain": replace(COARSE, whole_body=False, brain_in_fov=False),
    "any axes": COARSE,
}
AXES: Final[tuple[tuple[float, ...], ...]] = tuple(
    tuple((np.eye(3)[list(order)] * flips).ravel().tolist())
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
)
"""The 48 ways to store an image along the world's axes, used in turn by the kind "any axes"."""


@dataclass(frozen=True)
class Coverage:
    """Whether the region contains the whole lesion; None if the patient has no such lesion."""

    gtvp: bool | None
    gtvn: bool | None


def check_patient(index: int, *, kind: Kind, any_axes: bool, seed: int) -> Coverage:
    """Make one patient, store the images along other axes if `any_axes`, and check the region."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if any_axes:
        axes = AXES[index % len(AXES)]
        kind = replace(kind, direction=axes, pet_direction=axes[::-1])
    patient = make_patient(seed, index, kind)
    region = find_region(patient.ct_hu, patient.pet_suv, PREPARATION).region
    gtvp, gtvn = (_contains(region, patient.labels, label) for label in LESIONS.values())
    return Coverage(gtvp, gtvn)


def _contains(region: Grid, labels: sitk.Image, label: int) -> bool | None:
    indices_xyz = np.argwhere(sitk.GetArrayViewFromImage(labels) == label)[:, ::-1]
    if not len(indices_xyz):
        return None
    direction = np.array(labels.GetDirection()).reshape(3, 3)
    world: NDArray[np.float64] = (
        indices_xyz * np.array(labels.GetSpacing())
    ) @ direction.T + labels.GetOrigin()
    low, high = region.extent_mm()
    return bool(((world >= low) & (world <= high)).all())


def main(
    anatomy: Annotated[
        Path | None, typer.Option(help="Folder of CTs and labels, for patients on real anatomy.")
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Patients of each kind.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Print, for each kind, the number of patients whose region contains the whole lesion."""
    is_missed = False
    kinds = dict(KINDS)
    if anatomy is not None:
        kinds["real anatomy"] = replace(COARSE, anatomy=str(anatomy))
    for name, kind in kinds.items():
        check = partial(check_patient, kind=kind, any_axes=name == "any axes", seed=seed)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            results = pool.map(check, range(patients))
            coverage = list(tqdm(results, total=patients, desc=name, disable=None))
        line = [f"{name:<14}"]
        for label, min_share in MIN_SHARES.items():
            flags = [getattr(patient, label.lower()) for patient in coverage]
            values = [flag for flag in flags if flag is not None]
            share = sum(values) / len(values)
            is_missed |= share < min_share
            line.append(f"{label} whole in {sum(values)} of {len(values)} ({share:.1%})")
        print("  ".join(line), flush=True)
    raise typer.Exit(int(is_missed))


if __name__ == "__main__":
    typer.run(main)
