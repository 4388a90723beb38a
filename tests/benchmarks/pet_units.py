"""How often the unit of a PET is mistaken: `python -m tests.benchmarks.pet_units`.

The command starts from PETs in SUV: real ones in `../shared/realdata` (or the folder in
HECKTOR_REALDATA), phantoms of every kind, and the same phantoms cut to the head. It converts each
PET to kBq/mL, Bq/mL and counts, with a dose, a delay and a sensitivity drawn at random, and
estimates the scale back to SUV. A PET is mistaken if it is in SUV and is scaled, or in another unit
and is not scaled. For each unit, the command prints how many PETs are mistaken, and the ratio of
the estimated scale to the true one. It fails if a PET in SUV, Bq/mL or counts is mistaken. Some
PETs in kBq/mL are mistaken, because at a low dose their values look like SUV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import SimpleITK as sitk
import typer
from numpy.typing import NDArray

from shared.conventions import Volume
from shared.preprocessing.pet_units import suv_scale
from shared.preprocessing.region import COARSE_MM, Preparation, find_region
from tests.tree import REALDATA
from training.phantom import Kind, make_patient

PREPARATION: Final = Preparation(spacing_mm=2.0, size_xyz=(144, 144, 144), interpolation="linear")
COARSE: Final = Kind(small=True, spacing_mm=(4.0, 4.0, 4.0), bqml=False)
KINDS: Final = (
    replace(COARSE, whole_body=False),
    replace(COARSE, whole_body=True),
    replace(COARSE, whole_body=False, brain_in_fov=False),
)
HALF_LIFE_MIN: Final = 109.77
"""Half-life of fluorine-18."""
DOSE_MBQ_PER_KG: Final = (3.0, 6.0)
DELAY_MIN: Final = (50.0, 90.0)
"""Usual doses and delays between injection and scan (Boellaard et al. 2015, EANM guidelines)."""
HEAD_MM: Final = 180.0
"""Distance from the crown to the chin, for scans that show only the head."""
DRAWS: Final = 10
"""Number of random conversions of each PET to each unit."""


@dataclass(frozen=True)
class Pet:
    """A PET in SUV and the body, on the coarse grid of the search for the region."""

    suv: Volume
    body: NDArray[np.bool_]


def _pet(ct: sitk.Image, pet: sitk.Image) -> Pet:
    localisation = find_region(ct, pet, PREPARATION)
    return Pet(localisation.coarse_pet, localisation.coarse_body)


def real_pets() -> Iterator[Pet]:
    """Yield the real PETs; none if the folder is missing."""
    pairs = [
        (folder / "CT_image.nii.gz", folder / "PET_image.nii.gz")
        for folder in sorted((REALDATA / "sts_petct").glob("STS_*"))
    ]
    for path in sorted((REALDATA / "wholebody_pet").glob("*.nii.gz")):
        pairs.append((REALDATA / "sts_petct" / path.name[:7] / "CT_image.nii.gz", path))
    for ct, pet in pairs:
        yield _pet(sitk.ReadImage(str(ct)), sitk.ReadImage(str(pet)))


def phantom_pets(count: int) -> Iterator[Pet]:
    """Yield phantoms of all kinds in turn."""
    for index in range(count):
        patient = make_patient(2100, index, KINDS[index % len(KINDS)])
        yield _pet(patient.ct_hu, patient.pet_suv)


def head_of(pet: Pet) -> Pet:
    """Return the part of a PET that shows the head."""
    top = int(np.flatnonzero(pet.body.any(axis=(1, 2)))[-1]) + 1
    head = slice(max(0, top - round(HEAD_MM / COARSE_MM)), top)
    return Pet(pet.suv[head], pet.body[head])


def kbq_per_ml(rng: np.random.Generator) -> float:
    """Draw the activity that corresponds to SUV 1, in kBq/mL."""
    dose, delay = rng.uniform(*DOSE_MBQ_PER_KG), rng.uniform(*DELAY_MIN)
    return float(dose * 0.5 ** (delay / HALF_LIFE_MIN))


def counts(rng: np.random.Generator) -> float:
    """Draw the counts that correspond to SUV 1, from 100 to 10,000."""
    return float(10 ** rng.uniform(2, 4))


UNITS: Final[dict[str, Callable[[np.random.Generator], float]]] = {
    "SUV": lambda rng: 1.0,
    "kBq/mL": kbq_per_ml,
    "Bq/mL": lambda rng: 1000 * kbq_per_ml(rng),
    "counts": counts,
}


def measure(pets: list[Pet], unit: str) -> tuple[int, NDArray[np.float64]]:
    """Return how many scaled PETs are mistaken, and the ratio of each scale to the true one."""
    mistaken, ratios = 0, []
    for index, pet in enumerate(pets):
        rng = np.random.default_rng([21, index])
        for _ in range(1 if unit == "SUV" else DRAWS):
            factor = UNITS[unit](rng)
            values = pet.suv * np.float32(factor)
            scale, _ = suv_scale(np.rint(values) if unit == "counts" else values, pet.body)
            mistaken += (scale == 1.0) != (unit == "SUV")
            ratios.append(scale * factor)
    return mistaken, np.array(ratios)


def run(phantoms: int = 36) -> None:
    """Print the table; fail if a unit other than kBq/mL is mistaken."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    is_sound = True
    print("| PETs | unit | mistaken | scale / true scale: median [5 %, 95 %] |")
    print("| --- | --- | --- | --- |")
    drawn = list(phantom_pets(phantoms))
    cohorts = {
        "real": list(real_pets()),
        "phantoms": drawn,
        "heads of phantoms": [head_of(pet) for pet in drawn],
    }
    for name, pets in cohorts.items():
        if not pets:
            print(f"| {name}: not in {REALDATA} | | | |")
            continue
        for unit in UNITS:
            mistaken, ratios = measure(pets, unit)
            low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
            print(
                f"| {len(pets)} {name} | {unit} | {mistaken} of {len(ratios)} | "
                f"{middle:.2f} [{low:.2f}, {high:.2f}] |"
            )
            is_sound &= mistaken == 0 or unit == "kBq/mL"
    raise SystemExit(0 if is_sound else 1)


if __name__ == "__main__":
    typer.run(run)
