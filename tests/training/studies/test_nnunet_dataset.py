"""A cohort's prepared regions become a raw data set of nnU-Net v2."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from shared.errors import InputError
from shared.preprocessing.region import Preparation
from tests.training.synthetic import GRID, make_patient, without_labels
from training.cohort.cache import PreparedPatient
from training.cohort.cache_files import patient_path
from training.cohort.folds import FOLDS, Fold, Folds, HoldOut
from training.studies.nnunet_dataset import DatasetName, write_dataset

PREPARATION = Preparation(spacing_mm=6, size_xyz=(24, 24, 24), interpolation="linear")
NAME = DatasetName(number=25, name="HECKTOR")


@pytest.fixture
def patients(tmp_path: Path) -> list[PreparedPatient]:
    """Return five patients whose arrays are in a cache; the last has no label map."""
    cache = tmp_path / "runs/cache"
    cache.mkdir(parents=True)
    patients = [make_patient(number, folder=tmp_path) for number in range(5)]
    for each in patients:
        np.save(patient_path(cache, each.patient, "image.npy"), each.image)
        np.save(patient_path(cache, each.patient, "labels.npy"), each.labels)
    return [*patients[:4], without_labels(patients[4])]


def write(patients: list[PreparedPatient], folder: Path, **changes: Any) -> Path:
    options: dict[str, Any] = {
        "preparation": PREPARATION,
        "runs": folder / "runs",
        "hold_out": HoldOut(folds=2),
        "seed": 0,
        "workers": 1,
    }
    return write_dataset(patients, folder / "raw", NAME, **{**options, **changes})


def test_data_set_has_the_voxels_grids_and_names_that_nnunet_expects(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    folder = write(patients, tmp_path)
    assert folder == tmp_path / "raw/Dataset025_HECKTOR"
    names = [patient.patient_id for patient in patients[:4]]
    images = [f"{name}_{channel}.nii.gz" for name in names for channel in ("0000", "0001")]
    assert sorted(p.name for p in (folder / "imagesTr").iterdir()) == images
    labels = [f"{name}.nii.gz" for name in names]
    assert sorted(p.name for p in (folder / "labelsTr").iterdir()) == labels
    for patient in patients[:4]:
        for channel, expected in enumerate(patient.image):
            path = folder / f"imagesTr/{patient.patient_id}_{channel:04d}.nii.gz"
            image = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(
                sitk.GetArrayFromImage(image), expected.astype(np.float32)
            )
            assert (image.GetSpacing(), image.GetSize()) == (GRID.spacing_mm, GRID.size_xyz)
        truth = sitk.ReadImage(str(folder / f"labelsTr/{patient.patient_id}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(truth), patient.labels)
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
        "hecktor_preparation": PREPARATION.model_dump(mode="json"),
    }
    splits = json.loads((folder / "splits_final.json").read_text())
    assert [sorted(split["train"] + split["val"]) for split in splits] == [names, names]
    assert sorted(splits[0]["val"] + splits[1]["val"]) == names


def test_interrupted_command_resumes(patients: list[PreparedPatient], tmp_path: Path) -> None:
    folder = write(patients, tmp_path)
    kept, missing = (folder / f"labelsTr/{patients[k].patient_id}.nii.gz" for k in (0, 1))
    before = kept.stat().st_mtime_ns
    missing.unlink()
    (folder / "imagesTr/.host-1.draft_0000.nii.gz").touch()
    write(patients, tmp_path)
    assert missing.exists()
    assert kept.stat().st_mtime_ns == before
    assert not list((folder / "imagesTr").glob(".*"))


def test_another_data_set_is_not_mixed_in(patients: list[PreparedPatient], tmp_path: Path) -> None:
    write(patients, tmp_path)
    other = dataclasses.replace(patients[0], labels=patients[0].labels)
    with pytest.raises(InputError, match="found another numTraining; delete it or give another"):
        write([other, *patients[1:3]], tmp_path)
    coarse = PREPARATION.model_copy(update={"spacing_mm": 7.0})
    with pytest.raises(InputError, match="found another hecktor_preparation"):
        write(patients, tmp_path, preparation=coarse)


def test_another_cohort_of_the_same_size_is_not_mixed_in(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    folder = write(patients[:4], tmp_path)
    splits = (folder / "splits_final.json").read_bytes()
    replaced = dataclasses.replace(patients[0].patient, patient_id="MDA-099")
    other = [dataclasses.replace(patients[0], patient=replaced), *patients[1:4]]
    with pytest.raises(InputError, match=f"found {patients[0].patient_id}; delete the folder"):
        write(other, tmp_path)
    assert (folder / "splits_final.json").read_bytes() == splits


def test_folds_of_task_1_are_used_by_default(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    first, second, *others = (patient.patient_id for patient in patients[:4])
    fold = Fold(name="0", training=(first, second), held_out=tuple(others))
    (tmp_path / "runs/segmentation").mkdir()
    text = Folds(how="by hand", strata={}, folds=(fold,)).model_dump_json()
    (tmp_path / "runs/segmentation" / FOLDS).write_text(text)
    folder = write(patients, tmp_path, hold_out=HoldOut())
    splits = json.loads((folder / "splits_final.json").read_text())
    assert splits == [{"train": [first, second], "val": others}]


def test_folds_of_task_1_must_be_of_this_cohort(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    first, second, *_ = (patient.patient_id for patient in patients)
    fold = Fold(name="0", training=(first, second), held_out=("MDA-777",))
    (tmp_path / "runs/segmentation").mkdir()
    text = Folds(how="by hand", strata={}, folds=(fold,)).model_dump_json()
    (tmp_path / "runs/segmentation" / FOLDS).write_text(text)
    with pytest.raises(InputError, match="1 patients that are not in it, such as MDA-777"):
        write(patients, tmp_path, hold_out=HoldOut())
