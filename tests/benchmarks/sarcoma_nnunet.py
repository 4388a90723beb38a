"""nnU-Net on the folds of `tests.benchmarks.sarcoma`, trained within a budget.

nnU-Net gets the same voxels as our training, but only the part of each region that the CT shows, so
it does not train on padding. It plans patch, batch and levels itself. Its probabilities are put
back into the region, and from there both methods come to the CT's grid by the same code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import AIR_HU, Label, Volume
from shared.geometry import bounding_slices
from tests.benchmarks.nnunet_environment import make_environment, results_folder, run_nnunet
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold
from training.cohort.nnunet_files import FILE_ENDING, IMAGES, LABELS, image_file, labels_file
from training.loop.hardware import Device
from training.studies.nnunet_dataset import SPLITS

NUMBER: Final = 40
NAME: Final = f"Dataset{NUMBER:03d}_SARCOMA"
FEATURES: Final = 16
"""Features of nnU-Net's first level. Its default of 32 would allow a third of the steps."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a fold of nnU-Net may use.

    Attributes
    ----------
    cpu_minutes : CPU time of its training on a CPU.
    steps : steps instead of minutes; required on a GPU.
    """

    cpu_minutes: float
    steps: int | None = None


class NnunetFold:
    """One fold of nnU-Net with one seed.

    Attributes
    ----------
    folder : environment and data set, which all folds and seeds share; see `make_dataset`.
    """

    def __init__(
        self, folder: Path, number: int, *, seed: int, device: Device, threads: int
    ) -> None:
        self.folder, self.number = folder.resolve(), number
        self._seed, self._device, self._threads = seed, device, threads
        self._results = f"results{seed}"

    def train(self, budget: Budget) -> dict[str, float]:
        """Train the fold, and return its steps, CPU minutes and peak memory."""
        words = run_nnunet(
            self.folder, "train_within", results=self._results, threads=self._threads,
            dataset=NUMBER, fold=self.number, seed=self._seed, device=self._device,
            **asdict(budget),
        )  # fmt: skip
        used: dict[str, float] = json.loads(words.splitlines()[-1])
        return used

    def predict(self, patients: Sequence[PreparedPatient]) -> dict[str, Volume]:
        """Return the probabilities of patients' regions, shape (3, z, y, x), by patient ID."""
        dataset = self.folder / "raw" / NAME
        output = self.folder / "segmented" / f"{self._results}_{self.number}"
        output.mkdir(parents=True, exist_ok=True)
        names = [patient.patient_id for patient in patients]
        run_nnunet(
            self.folder, "segment", threads=self._threads, device=self._device, fold=self.number,
            model=str(results_folder(self.folder, NAME, self._results)),
            cases=[[str(image_file(dataset, n, k)) for k in range(2)] for n in names],
            outputs=[str(output / n) for n in names],
        )  # fmt: skip
        return {p.patient_id: _in_region(p, output / f"{p.patient_id}.npz") for p in patients}


def make_dataset(folder: Path, patients: Sequence[PreparedPatient], folds: Sequence[Fold]) -> None:
    """Make nnU-Net's environment and its planned data set in a folder, unless they are there."""
    folder = folder.resolve()
    make_environment(folder)
    splits = folder / "pre" / NAME / SPLITS
    if splits.exists():
        return
    _write_dataset(patients, folder / "raw" / NAME)
    run_nnunet(folder, "plan_as_it_is", dataset=NUMBER, features=FEATURES)
    content = [{"train": list(f.training), "val": list(f.held_out)} for f in folds]
    splits.write_text(json.dumps(content))


def shown_part(patient: PreparedPatient) -> tuple[slice, slice, slice]:
    """Return the box [z, y, x] of a region outside which the CT has only padding."""
    box = bounding_slices(np.asarray(patient.image[0]) > AIR_HU + 1)
    assert box is not None, f"{patient.patient_id}: the CT shows nothing of the region"
    return box


def _write_dataset(patients: Sequence[PreparedPatient], dataset: Path) -> None:
    """Write CT, PET and label map of each patient, and the description of the data set."""
    for name in (IMAGES, LABELS):
        (dataset / name).mkdir(parents=True, exist_ok=True)
    for patient in patients:
        box = shown_part(patient)
        ct_hu, pet_suv = np.asarray(patient.image, dtype=np.float32)
        for volume, path in (
            (ct_hu, image_file(dataset, patient.patient_id, 0)),
            (pet_suv, image_file(dataset, patient.patient_id, 1)),
            (np.asarray(patient.labels), labels_file(dataset, patient.patient_id)),
        ):
            image = patient.undo.region.image(volume)
            start = [int(side.start) for side in box[::-1]]
            size = [int(side.stop - side.start) for side in box[::-1]]
            sitk.WriteImage(sitk.RegionOfInterest(image, size, start), str(path))
    description = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": int(Label.GTVP)},
        "numTraining": len(patients),
        "file_ending": FILE_ENDING,
    }
    (dataset / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def _in_region(patient: PreparedPatient, path: Path) -> Volume:
    """Return nnU-Net's probabilities, put back into the region; GTVn has a probability of 0."""
    with np.load(path) as arrays:
        probabilities: NDArray[np.float32] = arrays["probabilities"].astype(np.float32)
    whole = np.zeros((len(Label), *patient.labels.shape), np.float32)
    whole[Label.BACKGROUND] = 1
    whole[:2, *shown_part(patient)] = probabilities
    return whole
