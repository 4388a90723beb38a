"""Writes a cohort as a raw data set of nnU-Net v2.

The images are the prepared regions of the cache: channel 0 is the CT in HU, channel 1 the PET in
SUV. nnU-Net thus trains on the regions that the containers will see, rounded to float16. The labels
are those of the regions. `dataset.json` also holds the preparation, under a key that nnU-Net
ignores. nnU-Net copies the file to its results, where `training.export.nnunet` reads the key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from shared.errors import InputError
from shared.files import write_first, write_whole
from shared.models.segmentation import LABELS as LABEL_NAMES
from shared.preprocessing.intensity import IMAGE_CHANNELS
from shared.preprocessing.region import Preparation
from training.cohort.cache import PreparedPatient
from training.cohort.cache_files import patient_path
from training.cohort.folds import FOLDS, Folds, HoldOut, read_folds, share_folds
from training.cohort.nnunet_files import (
    FILE_ENDING,
    IMAGES,
    LABELS,
    labels_file,
    write_patient,
)
from training.cohort.pool import process_pool
from training.export.nnunet.results import PREPARATION_KEY
from training.tasks.planning import learnable, make_folds, strata_of
from training.tasks.segmentation import Segmentation

SPLITS: Final = "splits_final.json"


@dataclass(frozen=True, kw_only=True)
class DatasetName:
    """Number and name of a data set; nnU-Net's commands take the number."""

    number: int
    name: str

    @property
    def folder(self) -> str:
        """Name of the data set's folder in `nnUNet_raw`."""
        return f"Dataset{self.number:03d}_{self.name}"


def write_dataset(
    patients: Sequence[PreparedPatient],
    raw: Path,
    dataset: DatasetName,
    *,
    preparation: Preparation,
    runs: Path,
    hold_out: HoldOut,
    seed: int,
    workers: int,
) -> Path:
    """Write the patients with a label map, and return the data set's folder.

    A repeated call skips the patients whose label map exists, without comparing it with the cache.
    `splits_final.json` must be copied to nnU-Net's folder of preprocessed data sets. nnU-Net
    numbers its folds from 0.

    Parameters
    ----------
    patients : the prepared cohort; patients without a label map are left out.
    raw : nnU-Net's folder of raw data sets, `nnUNet_raw`.
    runs : folder of runs with the cache of the patients.
    hold_out : how to make the folds; by default those of Task 1 in `runs`, otherwise five folds.
    seed : seed of the folds.
    workers : number of processes that write.

    Raises
    ------
    InputError
        If the folder holds another data set or other patients, or the patients do not allow the
        folds.
    """
    task = Segmentation()
    views = learnable(task, patients)
    folds = _folds(task, views, patients, runs=runs, hold_out=hold_out, seed=seed)
    folder = raw / dataset.folder
    _claim(folder, _description(len(views), preparation), {view.patient_id for view in views})
    splits = [{"train": list(f.training), "val": list(f.held_out)} for f in folds.folds]
    write_whole(folder / SPLITS, json.dumps(splits, indent=1) + "\n")
    new = [view for view in views if not labels_file(folder, view.patient_id).exists()]
    with process_pool(workers) as pool:
        futures = [
            pool.submit(
                write_patient,
                view.patient_id,
                view.undo.region,
                image=patient_path(runs / "cache", view.patient, "image.npy"),
                labels=patient_path(runs / "cache", view.patient, "labels.npy"),
                folder=folder,
            )
            for view in new
        ]
        try:
            completed = as_completed(futures)
            for future in tqdm(completed, total=len(futures), desc="writing", unit="patient"):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return folder


def _folds(
    task: Segmentation,
    views: Sequence[PreparedPatient],
    patients: Sequence[PreparedPatient],
    *,
    runs: Path,
    hold_out: HoldOut,
    seed: int,
) -> Folds:
    run_folder = runs / task.name
    strata = strata_of(task, views)
    others = [patient for patient in patients if patient.patient_id not in strata]
    if not hold_out.is_chosen and (run_folder / FOLDS).is_file():
        without_labels = {patient.patient_id for patient in others}
        return share_folds(read_folds(run_folder), strata, without_labels, seed)
    return make_folds(
        task,
        views,
        others,
        hold_out=hold_out.or_default_folds(),
        shared=run_folder,
        seed=seed,
    )


def _description(patients: int, preparation: Preparation) -> dict[str, Any]:
    """Return the content of `dataset.json`; nnU-Net scales a channel according to its name."""
    return {
        "channel_names": {str(k): name for k, name in enumerate(IMAGE_CHANNELS)},
        "labels": {name: int(label) for name, label in LABEL_NAMES.items()},
        "numTraining": patients,
        "file_ending": FILE_ENDING,
        PREPARATION_KEY: preparation.model_dump(mode="json"),
    }


def _claim(folder: Path, description: dict[str, Any], patient_ids: Collection[str]) -> None:
    """Make the folder with its `dataset.json`, or check that an existing one has these patients.

    Unfinished files of a killed process are deleted, because nnU-Net would take them for images.
    """
    for name in (IMAGES, LABELS):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for draft in (folder / name).glob(".*"):
            draft.unlink()
    path = folder / "dataset.json"
    write_first(path, json.dumps(description, indent=1) + "\n")
    existing = json.loads(path.read_text(encoding="utf-8"))
    if existing != description:
        differing = [key for key, value in description.items() if existing.get(key) != value]
        raise InputError(
            f"expected a new folder or the data set that this command began in {folder}, found "
            f"another {' and '.join(differing) or 'dataset.json'}; delete it or give another number"
        )
    written = {path.name.removesuffix(FILE_ENDING) for path in (folder / LABELS).iterdir()}
    if unknown := sorted(written - set(patient_ids)):
        raise InputError(
            f"expected only patients of this cohort in {folder}, found {unknown[0]}; delete the "
            "folder or give another number"
        )
