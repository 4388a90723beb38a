"""How often the input checks find an injected fault: `python -m tests.benchmarks.doubts`.

Phantoms of unseen centres get one fault at a time: a displaced PET, a field of view that is cut
off, a PET with a wrong scale, metal in a lesion, or a scan that ends in a lesion. The direction of
the displacement, the height of the cut and the wrong scale vary from phantom to phantom, so each
phantom gets only some of them. The true lesions stand in for predicted ones.

The command prints how often the check for each fault raises a doubt, and how often each check
raises a doubt about an untouched phantom. Such a doubt is a false alarm, unless the phantom has the
fault from the start. The tables also have rows for real PET/CTs of sarcomas, untouched and with a
displaced PET. They show no head, and are read from `../shared/realdata` (or the folder in
HECKTOR_REALDATA). The command fails if less than 90 % of the PETs displaced by 15 mm are found, or
if more than 5 % of the untouched phantoms are called displaced.

If left and right are swapped in both images, they look like those of an ordinary patient, so no
check looks for such a swap.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final, get_args

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray
from tqdm import tqdm

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.doubts.doubt import Check
from shared.doubts.field_of_view import skull_base_mm
from shared.doubts.find import find_doubts
from shared.geometry import Box, Grid, crop, resample
from shared.preprocessing.pipeline import Prepared, prepare
from shared.preprocessing.region import Preparation
from tests.tree import REALDATA
from training.phantom import Kind
from training.phantom.cohort import make_cohort, read_records

PREPARATION: Final = Preparation(spacing_mm=2.0, size_xyz=(144, 144, 144), interpolation="linear")
CHECKS: Final[tuple[Check, ...]] = get_args(Check)
DIRECTIONS: Final = {
    "left": (1, 0, 0),
    "back": (0, 1, 0),
    "up": (0, 0, 1),
    "right": (-1, 0, 0),
    "front": (0, -1, 0),
    "down": (0, 0, -1),
}
DISPLACEMENTS_MM: Final = (5, 10, 15, 20, 30)
TARGET_MM: Final = 15
TOPS_MM: Final = (40, 20, 0, -30)
"""Upper ends of cut scans, in mm above the skull base; a negative one is below it."""
BOTTOMS_MM: Final = (150, 130, 100, 70)
"""Lower ends of cut scans, in mm below the skull base."""
FACTORS: Final = {
    "kBq/mL (times 3)": 3.0,
    "Bq/mL (times 3000)": 3000.0,
    "weight in pounds (times 2.2)": 2.2,
    "wrong injected dose (times 0.45)": 0.45,
}
METAL_RADIUS_MM: Final = 5.0
MIN_FOUND, MAX_FALSE = 0.9, 0.05


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Images and true lesions; whether the brain is in view, and whether the PET is in SUV."""

    ct: sitk.Image
    pet: sitk.Image
    labels: sitk.Image
    brain_in_fov: bool = True
    in_suv: bool = True


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A scan, the checks that raised a doubt about it, and the seconds that all checks took.

    Attributes
    ----------
    fault : the fault, or the kind of untouched scan.
    check : the check that must find the fault; None for an untouched scan.
    """

    fault: str
    check: Check | None
    raised: frozenset[Check]
    seconds: float


def read_phantom(folder: Path, record: dict[str, object]) -> Scan:
    """Read a phantom of a cohort in the challenge's layout."""
    name, facts = str(record["PatientID"]), record["facts"]
    assert isinstance(facts, dict)
    stem = folder / "Task 1" / name / name
    return Scan(
        ct=sitk.ReadImage(f"{stem}__CT.nii.gz"),
        pet=sitk.ReadImage(f"{stem}__PT.nii.gz"),
        labels=sitk.ReadImage(f"{stem}.nii.gz", sitk.sitkUInt8),
        brain_in_fov=facts["brain_in_fov"],
        in_suv=not facts["bqml"],
    )


def displaced(scan: Scan, direction: tuple[int, int, int], distance_mm: float) -> Scan:
    """Return a scan whose PET is moved along a world axis."""
    pet = sitk.Image(scan.pet)
    pet.SetOrigin(tuple(np.add(pet.GetOrigin(), np.multiply(direction, distance_mm)).tolist()))
    return replace(scan, pet=pet)


def cut(scan: Scan, low_mm: float, high_mm: float) -> Scan | None:
    """Return the part of a scan between two heights; None if an image stays whole or is empty."""
    images = []
    for image in (scan.ct, scan.pet, scan.labels):
        grid = Grid.of(image)
        ends = grid.extent_mm()
        if max(low_mm, ends[0][2]) == ends[0][2] and min(high_mm, ends[1][2]) == ends[1][2]:
            return None
        axis = int(np.argmax(np.abs(np.reshape(grid.direction, (3, 3))[2])))
        corners = np.zeros((grid.size_xyz[axis], 3))
        corners[:, axis] = np.arange(grid.size_xyz[axis])
        heights = grid.world_mm(corners)[:, 2]
        kept = np.flatnonzero((heights >= low_mm) & (heights <= high_mm))
        if not kept.size:
            return None
        start, stop = [0, 0, 0], list(grid.size_xyz)
        start[axis], stop[axis] = int(kept[0]), int(kept[-1]) + 1
        images.append(crop(image, Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))))
    return replace(scan, ct=images[0], pet=images[1], labels=images[2])


def lesion_points_mm(scan: Scan) -> NDArray[np.float64]:
    """Return the world positions of all lesion voxels, shape (n, 3)."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(scan.labels) > 0)[:, ::-1]
    return Grid.of(scan.labels).world_mm(indices.astype(np.float64))


def with_metal(scan: Scan) -> Scan:
    """Return a scan with metal in the middle of a lesion."""
    points = lesion_points_mm(scan)
    distances = np.linalg.norm(points - points[len(points) // 2], axis=1)
    ball = np.rint(Grid.of(scan.ct).index(points[distances <= METAL_RADIUS_MM])).astype(int)
    ct = sitk.GetArrayFromImage(scan.ct)
    ct[ball[:, 2], ball[:, 1], ball[:, 0]] = 3071
    return replace(scan, ct=Grid.of(scan.ct).image(ct))


def faults(scan: Scan, prepared: Prepared, index: int) -> Iterator[tuple[str, Check, Scan | None]]:
    """Yield each fault that the phantom gets, the check that must find it, and the faulty scan."""
    names = list(DIRECTIONS)
    for step, distance_mm in enumerate(DISPLACEMENTS_MM):
        turn = index + step
        chosen = [names[turn % 6], names[(turn + 3) % 6]]
        for name in chosen if distance_mm == TARGET_MM else chosen[:1]:
            label = f"PET displaced by {distance_mm} mm"
            label += f", {name}" if distance_mm == TARGET_MM else ""
            yield label, "displacement", displaced(scan, DIRECTIONS[name], distance_mm)
    base = skull_base_mm(prepared)
    if base is not None:
        low, high = (float(end[2]) for end in Grid.of(scan.ct).extent_mm())
        top, bottom = TOPS_MM[index % len(TOPS_MM)], BOTTOMS_MM[index % len(BOTTOMS_MM)]
        if base + top < high:
            side = "above" if top >= 0 else "below"
            label = f"top of the scan {abs(top)} mm {side} the skull base"
            yield label, "field of view", cut(scan, low, base + top)
        label = f"bottom of the scan {bottom} mm below the skull base"
        yield label, "field of view", cut(scan, base - bottom, high)
    if scan.in_suv:
        for turn in (index, index + 1):
            name = list(FACTORS)[turn % len(FACTORS)]
            pet = sitk.Cast(scan.pet, sitk.sitkFloat32) * FACTORS[name]
            yield f"PET scale: {name}", "SUV scale", replace(scan, pet=pet)
    yield "metal in a lesion", "metal", with_metal(scan)
    heights = lesion_points_mm(scan)[:, 2]
    through = float(np.quantile(heights, 0.1))
    yield "scan ends in a lesion", "lesion at the edge", cut(scan, through, np.inf)


def check_scan(fault: str, check: Check | None, scan: Scan) -> tuple[Trial, Prepared]:
    """Prepare a scan and run the checks."""
    case = Case(ct_hu=scan.ct, pet=scan.pet, clinical=ClinicalRecord())
    prepared = prepare(case, PREPARATION)
    region = prepared.undo.region
    labels = resample(scan.labels, region, interpolation="nearest", outside=0)
    started = time.perf_counter()
    doubts = find_doubts(prepared, Grid.of(scan.pet), sitk.GetArrayFromImage(labels))
    seconds = time.perf_counter() - started
    raised = frozenset(doubt.check for doubt in doubts)
    return Trial(fault=fault, check=check, raised=raised, seconds=seconds), prepared


def measure_phantom(phantom: tuple[Path, int, dict[str, object], bool]) -> list[Trial]:
    """Check a phantom untouched and, if it gets faults, with each of its faults."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    folder, index, record, gets_faults = phantom
    scan = read_phantom(folder, record)
    view = "with brain" if scan.brain_in_fov else "without brain"
    unit = "SUV" if scan.in_suv else "Bq/mL"
    trial, prepared = check_scan(f"untouched, {view}, {unit}", None, scan)
    trials = [trial]
    for fault, check, faulty in faults(scan, prepared, index) if gets_faults else ():
        if faulty is not None:
            trials.append(check_scan(fault, check, faulty)[0])
    return trials


def measure_real() -> Iterator[Trial]:
    """Yield trials of the real PET/CTs, untouched and with a displaced PET."""
    for index, folder in enumerate(sorted((REALDATA / "sts_petct").glob("STS_*"))):
        scan = Scan(
            ct=sitk.ReadImage(str(folder / "CT_image.nii.gz")),
            pet=sitk.ReadImage(str(folder / "PET_image.nii.gz")),
            labels=sitk.ReadImage(str(folder / "CT_mask.nii.gz"), sitk.sitkUInt8),
        )
        yield check_scan("real, untouched", None, scan)[0]
        direction = list(DIRECTIONS.values())[index % 6]
        moved = displaced(scan, direction, TARGET_MM)
        yield check_scan(f"real, PET displaced by {TARGET_MM} mm", "displacement", moved)[0]


def print_tables(trials: Iterable[Trial]) -> None:
    """Print detection rates, false alarms and times."""
    groups = defaultdict(list)
    for trial in trials:
        groups[trial.fault].append(trial)
    print("| fault | check | found |\n| --- | --- | --- |")
    for fault, group in sorted(groups.items()):
        check = group[0].check
        if check is not None:
            count = sum(check in trial.raised for trial in group)
            print(f"| {fault} | {check} | {count} of {len(group)} ({count / len(group):.0%}) |")
    print(f"\n| untouched | n | {' | '.join(CHECKS)} |\n|{' --- |' * (2 + len(CHECKS))}")
    for fault, group in sorted(groups.items()):
        if group[0].check is None:
            counts = [str(sum(check in trial.raised for trial in group)) for check in CHECKS]
            print(f"| {fault} | {len(group)} | {' | '.join(counts)} |")
    seconds = [trial.seconds for group in groups.values() for trial in group]
    print(
        f"\n{len(seconds)} cases; seconds for all checks: median {np.median(seconds):.2f}, "
        f"95th percentile {np.quantile(seconds, 0.95):.2f}, longest {max(seconds):.2f}"
    )


def main(
    cohort: Annotated[
        Path | None,
        typer.Option(help="Phantoms that `python -m training.phantom` has written."),
    ] = None,
    patients: Annotated[int, typer.Option(min=6, help="Number of phantoms.")] = 100,
    faulty: Annotated[
        int | None, typer.Option(min=6, help="Number of phantoms that get faults (default: all).")
    ] = None,
    small: Annotated[bool, typer.Option(help="Make phantoms with coarse voxels.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms.")] = 7793,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
) -> None:
    """Print the tables; fail if displaced PETs are missed or untouched ones called displaced."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = cohort
        if folder is None:
            folder = Path(temporary)
            kind = Kind(small=small, centres="unseen")
            make_cohort(folder, patients, seed=seed, kind=kind, tasks=(1,), workers=workers)
        phantoms = [
            (folder, index, record, faulty is None or index < faulty)
            for index, record in enumerate(read_records(folder)[:patients])
        ]
        trials: list[Trial] = []
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for measured in tqdm(
                pool.map(measure_phantom, phantoms), total=len(phantoms), disable=None
            ):
                trials += measured
    target = [trial for trial in trials if trial.fault.startswith(f"PET displaced by {TARGET_MM}")]
    untouched = [trial for trial in trials if trial.check is None]
    found = np.mean(["displacement" in trial.raised for trial in target])
    false = np.mean(["displacement" in trial.raised for trial in untouched])
    print_tables([*trials, *measure_real()])
    print(
        f"PETs displaced by {TARGET_MM} mm: {found:.1%} of {len(target)} found (limit "
        f"{MIN_FOUND:.0%}); false alarms: {false:.1%} of {len(untouched)} (limit {MAX_FALSE:.0%})"
    )
    raise SystemExit(0 if found >= MIN_FOUND and false <= MAX_FALSE else 1)


if __name__ == "__main__":
    typer.run(main)
