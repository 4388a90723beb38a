"""A finished Task 1 model is adopted, and Tasks 3 and 2 are trained on its masks."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shared.errors import InputError
from shared.models.hpv import HpvModel
from shared.models.segmentation import SegmentationCard, SegmentationModel
from shared.models.survival import SurvivalModel
from tests.training.synthetic import configuration, make_patient, with_facts, without_labels
from training.cohort.cache import PreparedPatient
from training.cohort.folds import HoldOut, read_folds
from training.config import Configuration
from training.export.model_folder import MemberModel, export
from training.export.record import Provenance
from training.loop.hardware import Hardware
from training.studies.adopt import adopt, encoder_weights
from training.tasks import out_of_fold
from training.tasks.hpv import Hpv
from training.tasks.planning import ENCODER, starting_weights
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, train_patients


def settings() -> Configuration:
    content = configuration(epochs=1, overlap=0.0).model_dump()
    head = {"head": "lesions", "strides": (1, 2), "views": 2, "clinical_width": 4}
    content["hpv"] |= {"network": head, "masks": "predicted", "models": "both", "epochs": 2}
    content["survival"] |= {"masks": "predicted", "hpv": "predicted", "models": "both"}
    return Configuration.model_validate(content)


SETTINGS = settings()


def as_trained(network: nn.Module) -> nn.Module:
    """Change the weights so that no two tensors are equal; the exporter would merge equal ones."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=rng)
    return network


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignore the warnings of Lightning and MONAI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedPatient]:
    folder = tmp_path_factory.mktemp("labels")
    everybody = [
        make_patient(n, folder=folder, hpv=n % 2 == 0, relapse=n % 4 < 2, days=9.0 + n)
        for n in range(8)
    ]
    unknown = with_facts(without_labels(make_patient(8, folder=folder)), relapse=None)
    return [*everybody, unknown]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_segmentation(folder, as_trained(SETTINGS.segmentation.network.build(2)))
    return folder


def export_segmentation(folder: Path, network: nn.Module) -> None:
    config = SETTINGS.segmentation.network
    fields = {
        "configuration": "tiny", "notice": "For tests.", "licence": "none",
        "preparation": SETTINGS.preparation, "intensity": SETTINGS.intensity,
        "window_zyx": (16, 16, 16), "channels": ("CT", "PET"),
        "labels": ("background", "GTVp", "GTVn"),
        "training": {"data": "none", "patients": 1, "command": "-", "revision": "-", "seed": 0},
    }  # fmt: skip
    members = [MemberModel(name="a", model=network, config=config)]
    export(folder, SegmentationCard, members=members, fields=fields)


def adopt_for(patients: list[PreparedPatient], model: Path, runs: Path, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "folder": model, "preparation": SETTINGS.preparation, "runs": runs,
        "hold_out": HoldOut(folds=2), "seed": 0,
    }  # fmt: skip
    adopt(Segmentation(), patients, **{**arguments, **changes})


def test_masks_scores_folds_and_encoder_are_written(
    patients: list[PreparedPatient], model: Path, tmp_path: Path
) -> None:
    adopt_for(patients, model, tmp_path)
    folder, served = tmp_path / "segmentation", SegmentationModel.load(model)
    folds = read_folds(folder).folds
    assert sorted(name for fold in folds for name in fold.held_out) == [
        patient.patient_id for patient in patients[:8]
    ]
    for patient in patients:
        written = out_of_fold.read(folder / out_of_fold.FOLDER, patient.patient_id)
        assert np.array_equal(written.labels, served.segment(patient.prepared()).labels)
    scores = pd.read_csv(folder / out_of_fold.FOLDER / out_of_fold.SCORES)
    assert list(scores["PatientID"]) == [patient.patient_id for patient in patients[:8]]
    for fold in folds:
        start = starting_weights(tmp_path, fold)
        assert start.part == "encoder"
        network = SETTINGS.segmentation.network
        network.encoder(network.build(2)).load_state_dict(dict(start.weights))


def test_encoder_weights_give_the_features_of_the_network(tmp_path: Path) -> None:
    config = SETTINGS.segmentation.network
    network = as_trained(config.build(2)).eval()
    export_segmentation(tmp_path, network)
    fresh = config.encoder(config.build(2)).eval()
    fresh.load_state_dict(encoder_weights(tmp_path / "a.onnx"))
    image = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = config.encoder(network)(image), fresh(image)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.slow
def test_tasks_3_and_2_can_be_trained_after_adoption(
    patients: list[PreparedPatient], model: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    adopt_for(patients, model, runs)
    options = Options(
        seed=1, workers=0, hardware=Hardware(devices=1, accelerator="cpu"),
        provenance=Provenance(notice="For tests."),
    )  # fmt: skip
    for task, served in ((Hpv(), HpvModel), (Survival(), SurvivalModel)):
        folder = tmp_path / task.name
        chosen = dataclasses.replace(options, model=folder)
        train_patients(task, patients, SETTINGS, runs=runs, options=chosen)
        card = served.load(folder).card
        # Task 3 has one network, because both folds share the frozen encoder.
        networks = 1 if task.name == "hpv" else 2
        kinds = [member.kind for member in card.members]
        assert kinds == ["network"] * networks + ["linear"] * 2
        assert card.needs_lesions


def test_an_interrupted_adoption_resumes(
    patients: list[PreparedPatient], model: Path, tmp_path: Path
) -> None:
    adopt_for(patients, model, tmp_path)
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    kept, lost = folder / "MDA-000.npz", folder / "MDA-001.npz"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    adopt_for(patients, model, tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert lost.is_file()


def test_a_graph_without_an_encoder_gives_only_masks(
    patients: list[PreparedPatient], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.studies.adopt.PREFIX", "body.")
    adopt_for(patients, model, tmp_path)
    assert not list(tmp_path.rglob(ENCODER))
    with pytest.raises(InputError, match="expected a Task 1 network"):
        starting_weights(tmp_path, read_folds(tmp_path / "segmentation").folds[0])


def test_model_for_another_region_and_existing_run_are_refused(
    patients: list[PreparedPatient], model: Path, tmp_path: Path
) -> None:
    other = SETTINGS.preparation.model_copy(update={"spacing_mm": 5.0})
    with pytest.raises(InputError, match=r"expected a Task 1 model in .* for the region"):
        adopt_for(patients, model, tmp_path, preparation=other)
    (tmp_path / "segmentation").mkdir()
    (tmp_path / "segmentation" / "run.json").touch()
    with pytest.raises(InputError, match="expected no training run of Task 1 in"):
        adopt_for(patients, model, tmp_path)
