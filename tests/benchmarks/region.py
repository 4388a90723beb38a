"""How often the head-and-neck region holds the whole tumour: `python -m tests.benchmarks.region`.

Phantoms of every kind are scanned on coarse grids (the search is coarse too), and every voxel of
GTVp and GTVn is looked up in the region that `shared.preprocessing` finds. The command fails where
a bound does not hold: GTVp whole in 99 % of the patients that have one, GTVn in 97 %.
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

BOUNDS: Final = {"GTVp": 0.99, "GTVn": 0.97}
PREPARATION: Final = Preparation(spacing_mm=2.0, size_xyz=(144, 144, 144), interpolation="linear")
"""The field of view of both configurations."""
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
"""The 48 ways to store an image along the world's axes; taken in turn for the kind "any axes"."""


@dataclass(frozen=True)
class Held:
    """Whether the region holds the whole of a label; None where the patient has none."""

    gtvp: bool | None
    gtvn: bool | None


def look(index: int, kind: Kind, turned: bool, seed: int) -> Held:
    """Make one patient of a kind, perhaps stored along other axes, and look for its lesions."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if turned:
        axes = AXES[index % len(AXES)]
        kind = replace(kind, direction=axes, pet_direction=axes[::-1])
    patient = make_patient(seed, index, kind)
    found = find_region(patient.ct_hu, patient.pet_suv, PREPARATION)
    gtvp, gtvn = (_whole(patient.labels, label, found.region) for label in LESIONS.values())
    return Held(gtvp, gtvn)


def _whole(labels: sitk.Image, label: int, region: Grid) -> bool | None:
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
        Path | None, typer.Option(help="CTs and labels: patients on real anatomy too.")
    ] = None,
    patients: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the phantoms.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Print, for each kind, in how many patients the region holds each label whole."""
    short = False
    kinds = dict(KINDS)
    if anatomy is not None:
        kinds["real anatomy"] = replace(COARSE, anatomy=str(anatomy))
    for name, kind in kinds.items():
        one = partial(look, kind=kind, turned=name == "any axes", seed=seed)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = pool.map(one, range(patients))
            held = list(tqdm(jobs, total=patients, desc=name, disable=None))
        line = [f"{name:<14}"]
        for label, bound in BOUNDS.items():
            values = [v for v in (getattr(h, label.lower()) for h in held) if v is not None]
            share = sum(values) / len(values)
            short |= share < bound
            line.append(f"{label} whole in {sum(values)} of {len(values)} ({share:.1%})")
        print("  ".join(line), flush=True)
    raise typer.Exit(int(short))


if __name__ == "__main__":
    typer.run(main)
