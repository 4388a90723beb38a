"""Task 2: a ResNet18 on PET, CT and lesions and a clinical branch learn the risk of recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from shared.clinical import ClinicalFeature, encode
from shared.metrics.survival import concordance_index
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork
from shared.preprocessing.window import lesion_center, window_box
from training.config import Configuration
from training.data import Cached
from training.engine import TrainedModule, fit
from training.losses import cox_loss
from training.samples import (
    JitteredWindow,
    Samples,
    ShuffledBatches,
    loader,
    window,
    with_lesions,
)

CLINICAL_KEYS = (
    "hpv",
    "tobacco",
    "alcohol",
    "age",
    "gender",
    "performance_status",
    "treatment",
    "m_stage",
)
"""The paper's clinical inputs of Task 2, in its order."""


class SurvivalModule(TrainedModule):
    """Cox's partial likelihood within the batch; validated by the C-index."""

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the Cox loss of the batch."""
        risks = self.network(batch["image"], batch["clinical"])[:, 0]
        loss = cox_loss(risks, batch["rfs_days"], batch["relapse"])
        self.log_loss(loss)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to collect risks."""
        self.results: list[tuple[float, float, bool]] = []

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Keep one patient's risk."""
        risk = self.network(batch["image"], batch["clinical"])
        self.results.append((float(risk), float(batch["rfs_days"]), bool(batch["relapse"])))

    def on_validation_epoch_end(self) -> None:
        """Log the C-index."""
        risks, times, events = zip(*self.results, strict=True)
        c_index = concordance_index(risks, times, events)
        self.log_dict({"c_index": c_index, "score": c_index}, prog_bar=True)


@dataclass(frozen=True)
class LesionWindows(Dataset[dict[str, Tensor]]):
    """Patients' windows as serving takes them."""

    patients: Sequence[Cached]
    configuration: Configuration
    features: tuple[ClinicalFeature, ...]

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return image (4, z, y, x), clinical vector and outcome."""
        patient = self.patients[index]
        labels = patient.labels
        size = self.configuration.survival.window_zyx
        box = window_box(labels.shape, size, lesion_center(labels))
        image, cut = window(patient, box, self.configuration.intensity)
        return {"image": with_lesions(image, cut), **_targets(patient, self.features)}


def _targets(patient: Cached, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.files.clinical, features)),
        "rfs_days": torch.tensor(patient.files.rfs_days),
        "relapse": torch.tensor(bool(patient.files.relapse)),
    }


def train(
    configuration: Configuration,
    patients: Sequence[Cached],
    held_out: Sequence[Cached],
    features: tuple[ClinicalFeature, ...],
    run_folder: Path,
    seed: int,
    loader_workers: int,
) -> nn.Module:
    """Train and return the network with the best C-index.

    Patients without follow-up are the caller's to leave out. Their clinical records carry the HPV
    status that training is to see.
    """
    settings = configuration.survival
    network = SurvivalNetwork(
        SurvivalConfig(
            block_inplanes=settings.block_inplanes,
            clinical_features=len(features),
            clinical_width=settings.clinical_width,
            dropout=settings.dropout,
        )
    )
    samples = Samples(
        patients,
        configuration.intensity,
        JitteredWindow(settings.window_zyx, lesion_center),
        [_targets(patient, features) for patient in patients],
        lesion_channels=True,
    )
    batches = ShuffledBatches(len(patients), settings.batch_size, seed)
    validation: DataLoader[Any] = DataLoader(
        LesionWindows(held_out, configuration, features), batch_size=1
    )
    module = SurvivalModule(network, settings)
    return fit(module, loader(samples, batches, loader_workers), validation, run_folder)


@torch.inference_mode()
def risk_scale(
    network: nn.Module,
    configuration: Configuration,
    patients: Sequence[Cached],
    features: tuple[ClinicalFeature, ...],
) -> tuple[float, float]:
    """Return mean and standard deviation of the risks of patients, for the model card."""
    samples = LesionWindows(patients, configuration, features)
    risks = torch.cat(
        [
            network(s["image"][None], s["clinical"][None])[0]
            for s in map(samples.__getitem__, range(len(samples)))
        ]
    )
    return float(risks.mean()), float(risks.std())
