"""Task 2: a ResNet18 on PET, CT and lesions and a clinical branch learn the risk of recurrence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.clinical import ClinicalFeature, encode
from shared.errors import InputError
from shared.metrics.survival import concordance_index
from shared.models.card import Kind, SurvivalCard
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork
from shared.preprocessing.intensity import Channel
from shared.preprocessing.window import lesion_centre
from training.cohort.cache import Cached
from training.cohort.folds import Fold
from training.config import Configuration, SurvivalSettings
from training.loop.fit import TrainedModule
from training.loop.losses import cox_loss
from training.samples.dataset import (
    JitteredWindow,
    Sample,
    Samples,
    ShuffledBatches,
    Windows,
    loader,
    validation_loader,
    variation,
)
from training.tasks import out_of_fold
from training.tasks.linear import Linear, RidgeCox
from training.tasks.prognosis import PrognosisTask
from training.train import Job


class SurvivalModule(TrainedModule[tuple[float, float, bool]]):
    """Cox's partial likelihood within the batch; validated by the C-index."""

    def loss(self, batch: Sample) -> Tensor:
        """Return the Cox loss of the batch."""
        risks = self.network(batch["image"], batch["clinical"])[:, 0]
        return cox_loss(risks, batch["rfs_days"], batch["relapse"])

    def validate(self, batch: Sample) -> tuple[float, float, bool]:
        """Return one patient's risk and outcome."""
        risk = self.network(batch["image"], batch["clinical"])
        return float(risk), float(batch["rfs_days"]), bool(batch["relapse"])

    def scores(self, seen: Sequence[tuple[float, float, bool]]) -> dict[str, float]:
        """Return the C-index."""
        c_index = concordance_index(*zip(*seen, strict=True))
        return {"c_index": c_index, "score": c_index}


class Survival(PrognosisTask):
    """Task 2 on the frame of `training.train`: with true or predicted masks."""

    name = "survival"
    model_folder = "task2_survival"
    card_type = SurvivalCard

    def settings(self, configuration: Configuration) -> SurvivalSettings:
        """Return the task's part of a configuration."""
        return configuration.survival

    def seen(self, patient: Cached) -> Cached | None:
        """Return a patient with follow-up, the true HPV status in the record, else None."""
        files = patient.files
        if files.relapse is None or files.rfs_days is None:
            return None
        return _with_hpv(patient, None if files.hpv is None else float(files.hpv))

    def fed(
        self, patients: Sequence[Cached], runs: Path, configuration: Configuration
    ) -> Sequence[Cached]:
        """Return patients with masks and HPV probability as predicted, where that is asked."""
        settings, fed = configuration.survival, super().fed(patients, runs, configuration)
        if settings.masks == "predicted":
            mask_of = out_of_fold.masks(runs)
            fed = [dataclasses.replace(patient, labels=mask_of(patient)) for patient in fed]
        if settings.hpv == "predicted":
            names = [patient.files.patient_id for patient in fed]
            folder = runs / "hpv" / out_of_fold.FOLDER
            probabilities = out_of_fold.read_hpv_probabilities(folder, names)
            fed = [_with_hpv(*pair) for pair in zip(fed, probabilities, strict=True)]
        return fed

    def outcome(self, patient: Cached) -> str:
        """Return whether a recurrence was observed."""
        return f"relapse {bool(patient.files.relapse):d}"

    def network_config(self, configuration: Configuration) -> SurvivalConfig:
        """Return the shape of the network."""
        return configuration.survival.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return what the network sees, in order."""
        return configuration.survival.channels

    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> SurvivalNetwork:
        """Return the network with fresh weights."""
        channels = configuration.survival.channels
        return self.network_config(configuration).build(
            in_channels=len(channels), clinical_features=len(features)
        )

    def module(self, job: Job) -> SurvivalModule:
        """Return the network with its loss and scores."""
        network = self.network(job.configuration, job.features)
        return SurvivalModule(network, job.configuration.survival, job.seed)

    def loaders(self, job: Job) -> tuple[DataLoader[Sample], DataLoader[Sample]]:
        """Return windows near the lesions to train on, and those of serving to validate on."""
        settings = job.configuration.survival
        samples = Samples(
            patients=job.fitted,
            intensity=job.configuration.intensity,
            channels=settings.channels,
            place=JitteredWindow(settings.window_zyx, lesion_centre),
            targets=[_targets(patient, job.features) for patient in job.fitted],
            variation=variation(settings, job.features),
        )
        batches = ShuffledBatches(len(job.fitted), settings.batch_size, job.seed)
        windows = self.windows(job.held_out, job)
        return loader(samples, batches, job.workers), validation_loader(windows, job.workers)

    def check(self, job: Job, fold: Fold) -> None:
        """Raise InputError if no recurrence is trained on, or no two held-out risks can be ranked.

        A patient with a recurrence can be ranked against those who are followed up for longer.
        """
        outcomes = [(p.files.rfs_days or 0.0, bool(p.files.relapse)) for p in job.held_out]
        longest = max(days for days, _ in outcomes)
        ranked = any(relapse and days < longest for days, relapse in outcomes)
        if not ranked or not any(patient.files.relapse for patient in job.fitted):
            raise InputError(
                f"fold {fold.name}: expected a recurrence among the {len(job.fitted)} trained on, "
                f"and one that is earlier than another's follow-up among the {len(outcomes)} held "
                "out, found none; hold out more, or give other folds or a larger cohort"
            )

    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[Kind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has."""
        del run_folder, kinds
        return {"window_zyx": configuration.survival.window_zyx}

    def members(self, models: Mapping[Kind, nn.Module], job: Job) -> dict[Kind, dict[str, float]]:
        """Return mean and standard deviation of each model's risks of the patients trained on."""
        risks = self.outputs(models, job.fitted, job)
        return {
            kind: {"risk_mean": float(r.mean()), "risk_std": float(r.std(ddof=1))}
            for kind, r in risks.items()
        }

    def predict_held_out(
        self,
        models: Mapping[Kind, nn.Module],
        members: Mapping[Kind, Mapping[str, float]],
        job: Job,
        fold: Fold,
        run_folder: Path,
    ) -> None:
        """Write the standardised risks of the held-out patients."""
        risks = {
            kind: (values - members[kind]["risk_mean"]) / members[kind]["risk_std"]
            for kind, values in self.outputs(models, job.held_out, job).items()
        }
        folder = run_folder / out_of_fold.FOLDER
        out_of_fold.write_risks(folder, fold.name, job.held_out, risks)

    def windows(self, patients: Sequence[Cached], job: Job) -> Windows:
        """Return patients' windows around their lesions."""
        return Windows(
            patients=patients,
            intensity=job.configuration.intensity,
            channels=job.configuration.survival.channels,
            window_zyx=job.configuration.survival.window_zyx,
            centre_of=lesion_centre,
            targets=[_targets(patient, job.features) for patient in patients],
        )

    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the network as it is."""
        return network

    def fit_linear(self, values: NDArray[np.float32], patients: Sequence[Cached]) -> Linear:
        """Return a ridge Cox model."""
        days, relapses = zip(
            *[(p.files.rfs_days, bool(p.files.relapse)) for p in patients], strict=True
        )
        return RidgeCox().fit(values, days, relapses).risk


def _with_hpv(patient: Cached, hpv: float | None) -> Cached:
    clinical = dataclasses.replace(patient.files.clinical, hpv=hpv)
    return dataclasses.replace(patient, files=dataclasses.replace(patient.files, clinical=clinical))


def _targets(patient: Cached, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.files.clinical, features)),
        "rfs_days": torch.tensor(patient.files.rfs_days),
        "relapse": torch.tensor(bool(patient.files.relapse)),
    }
