"""Task 3: the Task 1 network, started from its weights, learns the HPV status at its bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from shared.clinical import ClinicalFeature, encode
from shared.conventions import LabelVolume
from shared.errors import InputError
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import best_threshold
from shared.models.card import HpvCard, Kind
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.preprocessing.intensity import Channel
from training.cohort.cache import Cached
from training.cohort.folds import Fold
from training.config import Configuration, HpvSettings
from training.loop.fit import TrainedModule
from training.samples.dataset import (
    BalancedBatches,
    JitteredWindow,
    Sample,
    Samples,
    Windows,
    loader,
    middle,
    validation_loader,
    variation,
)
from training.tasks import out_of_fold
from training.tasks.linear import BalancedLogistic, Linear
from training.tasks.prognosis import PrognosisTask
from training.tasks.segmentation import segmentation_loss
from training.train import Job


class HpvModule(TrainedModule[tuple[float, bool]]):
    """DiceCE on the lesions plus binary cross-entropy on the status."""

    network: HpvNetwork

    def __init__(
        self, network: HpvNetwork, settings: HpvSettings, seed: int, batch_dice: bool
    ) -> None:
        super().__init__(network, settings, seed)
        self.criterion = segmentation_loss(batch_dice)

    def loss(self, batch: Sample) -> Tensor:
        """Return the sum of both losses; where no lesion was outlined, that of the status alone."""
        logits, status = self.network(batch["image"], batch["clinical"])
        outlined = batch["outlined"]
        if outlined.any():
            loss = self.criterion(logits[outlined].float(), batch["labels"][outlined])
        else:  # a gradient of zero for the decoder, since other processes wait for one
            loss = 0.0 * logits.float().sum()
        loss = loss + functional.binary_cross_entropy_with_logits(
            status[:, 0].float(), batch["hpv"].float()
        )
        return cast(Tensor, loss)

    def validate(self, batch: Sample) -> tuple[float, bool]:
        """Return the logit of one patient's central window, and the truth."""
        logit = self.network.classifier()(batch["image"], batch["clinical"])
        return float(logit), bool(batch["hpv"])

    def scores(self, seen: Sequence[tuple[float, bool]]) -> dict[str, float]:
        """Return the balanced accuracy at a logit of 0; the loss decides between equals."""
        logits = torch.tensor([logit for logit, _ in seen])
        truth = [status for _, status in seen]
        accuracy = balanced_accuracy((logits > 0).numpy(), truth)
        entropy = float(
            functional.binary_cross_entropy_with_logits(logits, torch.tensor(truth).float())
        )
        return {
            "balanced_accuracy": accuracy,
            "entropy": entropy,
            "score": accuracy - 1e-3 * entropy,
        }


class Hpv(PrognosisTask):
    """Task 3 on the frame of `training.train`."""

    name = "hpv"
    model_folder = "task3_hpv"
    card_type = HpvCard
    starts_from_task1 = True

    def settings(self, configuration: Configuration) -> HpvSettings:
        """Return the task's part of a configuration."""
        return configuration.hpv

    def seen(self, patient: Cached) -> Cached | None:
        """Return a patient whose status is known, else None."""
        return patient if patient.files.hpv is not None else None

    def outcome(self, patient: Cached) -> str:
        """Return the status."""
        return f"HPV {bool(patient.files.hpv):d}"

    def network_config(self, configuration: Configuration) -> HpvConfig:
        """Return the shape of the head."""
        return configuration.hpv.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return what the network sees, in order: the same as that of Task 1."""
        return configuration.segmentation.channels

    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> HpvNetwork:
        """Return the network with fresh weights."""
        task1 = configuration.segmentation
        return self.network_config(configuration).build(
            task1.network, in_channels=len(task1.channels), clinical_features=len(features)
        )

    def module(self, job: Job) -> HpvModule:
        """Return the network, started from that of Task 1, with its loss and scores."""
        network = self.network(job.configuration, job.features)
        if job.task1 is not None:
            network.load_segmentation(dict(job.task1))
        batch_dice = job.configuration.segmentation.batch_dice
        return HpvModule(network, job.configuration.hpv, job.seed, batch_dice)

    def loaders(self, job: Job) -> tuple[DataLoader[Sample], DataLoader[Sample]]:
        """Return balanced batches to train on, and central windows to validate on."""
        settings, intensity = job.configuration.hpv, job.configuration.intensity
        samples = Samples(
            patients=job.fitted,
            intensity=intensity,
            channels=self.channels(job.configuration),
            place=JitteredWindow(settings.window_zyx, middle),
            targets=[_targets(patient, job.features) for patient in job.fitted],
            variation=variation(settings, job.features),
        )
        batches = BalancedBatches(
            [bool(patient.files.hpv) for patient in job.fitted], settings.batch_size, job.seed
        )
        windows = self.windows(job.held_out, job)
        return loader(samples, batches, job.workers), validation_loader(windows, job.workers)

    def windows(self, patients: Sequence[Cached], job: Job) -> Windows:
        """Return patients' central windows."""
        return Windows(
            patients=patients,
            intensity=job.configuration.intensity,
            channels=self.channels(job.configuration),
            window_zyx=job.configuration.hpv.window_zyx,
            centre_of=middle,
            targets=[_targets(patient, job.features) for patient in patients],
        )

    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the network without its decoder."""
        return cast(HpvNetwork, network).classifier()

    def fit_linear(self, values: NDArray[np.float32], patients: Sequence[Cached]) -> Linear:
        """Return a logistic regression."""
        return BalancedLogistic().fit(values, [bool(p.files.hpv) for p in patients]).logit

    def measured_lesions(self, job: Job) -> Callable[[Cached], LabelVolume]:
        """Return how to find the lesions that are measured, where asked those of Task 1.

        Not by `fed`, since the network learns to outline the true ones.
        """
        if job.configuration.hpv.masks == "predicted":
            return out_of_fold.masks(job.runs)
        return super().measured_lesions(job)

    def predict_held_out(
        self,
        models: Mapping[Kind, nn.Module],
        members: Mapping[Kind, Mapping[str, float]],
        job: Job,
        fold: Fold,
        run_folder: Path,
    ) -> None:
        """Write the logits of the held-out patients and of those whose status is not known."""
        del members
        patients = [*job.held_out, *job.without_outcome]
        logits = self.outputs(models, patients, job)
        out_of_fold.write_logits(run_folder / out_of_fold.FOLDER, fold.name, patients, logits)

    def check(self, job: Job, fold: Fold) -> None:
        """Raise InputError if one part of a fold has one status only."""
        for part, patients in (("trained on", job.fitted), ("held out", job.held_out)):
            positive = sum(bool(patient.files.hpv) for patient in patients)
            if positive in (0, len(patients)):
                raise InputError(
                    f"fold {fold.name}: expected patients of both HPV statuses among the "
                    f"{len(patients)} {part}, found {positive} positive; hold out more, or give "
                    "other folds or a larger cohort"
                )

    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[Kind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has."""
        settings, threshold = configuration.hpv, 0.5
        if settings.threshold == "out of fold":
            known = out_of_fold.read_known_hpv(run_folder / out_of_fold.FOLDER, kinds)
            threshold = best_threshold(*known)
        return {
            "window_zyx": settings.window_zyx,
            "threshold": threshold,
        }


def _targets(patient: Cached, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.files.clinical, features)),
        "hpv": torch.tensor(bool(patient.files.hpv)),
        "outlined": torch.tensor(patient.files.labels is not None),
    }
