"""Task 3: the Task 1 network, started from its weights, learns the HPV status at its bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from shared.clinical import ClinicalFeature, encode
from shared.metrics.classification import balanced_accuracy
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.preprocessing.window import window_box
from training.config import Configuration, HpvSettings
from training.data import Cached
from training.engine import TrainedModule, fit
from training.samples import BalancedBatches, JitteredWindow, Samples, loader, window
from training.segmentation import network_config, segmentation_loss

CLINICAL_KEYS = ("age", "gender", "tobacco", "alcohol")
"""The paper's clinical inputs of Task 3, in its order."""


class HpvModule(TrainedModule):
    """DiceCE on the lesions plus binary cross-entropy on the status."""

    network: HpvNetwork

    def __init__(self, network: HpvNetwork, settings: HpvSettings) -> None:
        super().__init__(network, settings)
        self.segmentation_loss = segmentation_loss()
        self.results: list[tuple[float, bool]] = []

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the sum of both losses."""
        logits, status = self.network(batch["image"], batch["clinical"])
        loss = self.segmentation_loss(logits.float(), batch["labels"])
        loss = loss + functional.binary_cross_entropy_with_logits(
            status[:, 0].float(), batch["hpv"].float()
        )
        self.log_loss(loss)
        return cast(Tensor, loss)

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Keep the logit of one patient's central window."""
        logit = self.network.classifier()(batch["image"], batch["clinical"])
        self.results.append((float(logit), bool(batch["hpv"])))

    def on_validation_epoch_end(self) -> None:
        """Log the balanced accuracy at a logit of 0, and the loss that decides between equals."""
        logits = torch.tensor([logit for logit, _ in self.results])
        truth = [status for _, status in self.results]
        accuracy = balanced_accuracy((logits > 0).numpy(), truth)
        entropy = functional.binary_cross_entropy_with_logits(logits, torch.tensor(truth).float())
        self.results.clear()
        self.log_dict({"balanced_accuracy": accuracy, "entropy": entropy}, prog_bar=True)
        self.log("score", accuracy - 1e-3 * entropy)


@dataclass(frozen=True)
class CentralWindows(Dataset[dict[str, Tensor]]):
    """Patients' windows as serving takes them, for validation."""

    patients: Sequence[Cached]
    configuration: Configuration
    features: tuple[ClinicalFeature, ...]

    def __len__(self) -> int:
        """How many patients there are."""
        return len(self.patients)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return image (2, z, y, x), clinical vector and status."""
        patient = self.patients[index]
        box = window_box(patient.labels.shape, self.configuration.hpv.window_zyx)
        image, _ = window(patient, box, self.configuration.intensity)
        return {"image": image, **_targets(patient, self.features)}


def _targets(patient: Cached, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.files.clinical, features)),
        "hpv": torch.tensor(bool(patient.files.hpv)),
    }


def train(
    configuration: Configuration,
    patients: Sequence[Cached],
    held_out: Sequence[Cached],
    features: tuple[ClinicalFeature, ...],
    segmentation: nn.Module,
    run_folder: Path,
    seed: int,
    loader_workers: int,
) -> nn.Module:
    """Train from the Task 1 network's weights and return the network with the best score.

    Patients whose status is unknown are the caller's to leave out.
    """
    settings = configuration.hpv
    network = HpvNetwork(
        HpvConfig(
            unet=network_config(configuration.segmentation),
            clinical_features=len(features),
            head_width=settings.head_width,
            clinical_width=settings.clinical_width,
            dropout=settings.dropout,
        )
    )
    network.load_segmentation(segmentation.state_dict())
    samples = Samples(
        patients,
        configuration.intensity,
        JitteredWindow(settings.window_zyx, lambda _: None),
        [_targets(patient, features) for patient in patients],
    )
    batches = BalancedBatches(
        [bool(patient.files.hpv) for patient in patients], settings.batch_size, seed
    )
    validation: DataLoader[Any] = DataLoader(
        CentralWindows(held_out, configuration, features), batch_size=1
    )
    module = HpvModule(network, settings)
    return fit(module, loader(samples, batches, loader_workers), validation, run_folder)
