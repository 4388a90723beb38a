"""nnU-Net on the folds of `tests.benchmarks.sarcoma`, trained within a budget of CPU time.

nnU-Net gets the same voxels as our training, but only the part of each region that the CT shows, so
it does not train on padding. It plans patch, batch and levels itself. Its probabilities are put
back into the region, and from there both methods come to the CT's grid by the same code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import AIR_HU, Label
from shared.geometry import bounding_slices
from shared.postprocessing.restore import SegmentedRegion
from tests.benchmarks.nnunet_environment import (
    CHECKPOINT,
    make_environment,
    results_folder,
    run_nnunet,
)
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold
from training.cohort.nnunet_files import FILE_ENDING, IMAGES, LABELS, image_file, labels_file
from training.studies.nnunet_dataset import SPLITS

NUMBER: Final = 40
NAME: Final = f"Dataset{NUMBER:03d}_SARCOMA"
FEATURES: Final = 16
"""Features of nnU-Net's first level. Its default of 32 would allow a third of the steps."""


class NnunetFolds:
    """nnU-Net's folds, trained with one seed.

    Attributes
    ----------
    folder : environment and data sets of nnU-Net; a second seed uses them too.
    """

    def __init__(
        self,
        folder: Path,
        patients: Sequence[PreparedPatient],
        folds: Sequence[Fold],
        *,
        cpu_minutes: float,
        seed: int,
    ) -> None:
        """Make what is missing of the environment, the data set and the trained folds."""
        self.folder = folder.resolve()
        self._results = f"results{seed}"
        make_environment(self.folder)
        dataset = self.folder / "raw" / NAME
        if not (self.folder / "pre" / NAME / SPLITS).exists():
            _write_dataset(patients, dataset)
            run_nnunet(self.folder, "plan_as_it_is", dataset=NUMBER, features=FEATURES)
            splits = [{"train": list(f.training), "val": list(f.held_out)} for f in folds]
            (self.folder / "pre" / NAME / SPLITS).write_text(json.dumps(splits))
        self.used: list[dict[str, Any]] = []
        """For each fold, the steps and the CPU minutes of its training."""
        for number in range(len(folds)):
            used = self.folder / self._results / f"fold{number}.json"
            if not used.exists():
                words = run_nnunet(
                    self.folder, "train_within", results=self._results,
                    dataset=NUMBER, fold=number, cpu_minutes=cpu_minutes, seed=seed,
                )  # fmt: skip
                used.write_text(words.splitlines()[-1])
            self.used.append(json.loads(used.read_text()))
        trained = results_folder(self.folder, NAME, self._results)
        assert all((trained / f"fold_{k}" / CHECKPOINT).exists() for k in range(len(folds)))

    def segment(
        self, number: int, patients: Sequence[PreparedPatient]
    ) -> dict[str, SegmentedRegion]:
        """Return what the network of a fold finds in each patient's region, by patient ID."""
        dataset, output = self.folder / "raw" / NAME, self.folder / "segmented"
        output.mkdir(exist_ok=True)
        names = [patient.patient_id for patient in patients]
        run_nnunet(
            self.folder, "segment",
            model=str(results_folder(self.folder, NAME, self._results)), fold=number,
            cases=[[str(image_file(dataset, n, k)) for k in range(2)] for n in names],
            outputs=[str(output / n) for n in names],
        )  # fmt: skip
        return {p.patient_id: _in_region(p, output / f"{p.patient_id}.npz") for p in patients}


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


def _in_region(patient: PreparedPatient, path: Path) -> SegmentedRegion:
    """Return nnU-Net's probabilities of background and GTVp, put back into the region."""
    with np.load(path) as arrays:
        probabilities: NDArray[np.float32] = arrays["probabilities"].astype(np.float32)
    whole = np.zeros((len(Label), *patient.labels.shape), np.float32)
    whole[Label.BACKGROUND] = 1
    whole[:2, *shown_part(patient)] = probabilities
    return SegmentedRegion(labels=whole.argmax(axis=0).astype(np.uint8), probabilities=whole)
