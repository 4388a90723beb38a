"""Task 2: a ResNet18 on CT, PET and lesions and a clinical branch learn the risk of recurrence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.clinical import ClinicalFeature, encode
from shared.editions import CURRENT
from shared.errors import InputError
from shared.grand_challenge.outputs import write_risk
from shared.metrics.survival import concordance_index
from shared.models.card import MemberKind
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork
from shared.models.survival import SurvivalModel
from shared.preprocessing.intensity import Channel
from shared.preprocessing.window import lesion_centre
from shared.tasks import TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.config import Configuration, SurvivalSettings
from training.loop.losses import cox_loss
from training.loop.module import TrainedModule
from training.samples.batches import ShuffledBatches
from training.samples.channels import network_input
from training.samples.crops import JitteredWindow
from training.samples.dataset import Sample, Samples, Windows, variation
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, MemberStatistics, ScoredCase, TrainedFold
from training.tasks.linear import Linear, RidgeCox
from training.tasks.prognosis import PrognosisTask, Ranking, by_kind

C_INDEX: Final = "c_index"


class SurvivalModule(TrainedModule[tuple[float, float, bool]]):
    """The loss is the Cox loss within the batch; the score is the C-index."""

    schedule: SurvivalSettings

    def loss(self, batch: Sample) -> Tensor:
        """Return the Cox loss of the batch."""
        risks = self._risks(batch)[:, 0]
        return cox_loss(risks, batch["rfs_days"], batch["relapse"])

    def validate(self, batch: Sample) -> tuple[float, float, bool]:
        """Return one patient's risk and outcome."""
        return float(self._risks(batch)), float(batch["rfs_days"]), bool(batch["relapse"])

    def _risks(self, batch: Sample) -> Tensor:
        image = network_input(batch, self.schedule.channels)
        return cast(Tensor, self.network(image, batch["clinical"]))

    def scores(self, observations: Sequence[tuple[float, float, bool]]) -> dict[str, float]:
        """Return the C-index."""
        c_index = concordance_index(*zip(*observations, strict=True))
        return {C_INDEX: c_index, "score": c_index}


class Survival(PrognosisTask):
    """Task 2: ResNet18 on image and lesions, linear models, or both."""

    name = "survival"
    model_type = SurvivalModel
    about = (
        "Train Task 2, on true or predicted masks and HPV status, and write its model folder. By "
        "default the held-out patients are those of Task 1."
    )
    follows = ("segmentation", "hpv")
    has_statistics = True
    ranking = Ranking(
        name="C-index",
        read=out_of_fold.risks_of_kinds,
        metric=lambda risks, days, relapses: concordance_index(risks, days, relapses.astype(bool)),
        outcomes=("RFS", "Relapse"),
    )

    def settings(self, configuration: Configuration) -> SurvivalSettings:
        """Return the task's part of a configuration."""
        return configuration.survival

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why the loss of a batch is not the mean of its parts' losses."""
        del configuration
        return "Cox's likelihood and batch norm compare the patients of a batch"

    def out_of_fold_needs(self, configuration: Configuration) -> dict[TaskName, dict[str, str]]:
        """Return the settings that need out-of-fold predictions, by the task that predicts."""
        needs = super().out_of_fold_needs(configuration)
        if configuration.survival.hpv == "predicted":
            needs["hpv"] = {'hpv = "predicted"': 'hpv = "true"'}
        return needs

    def has_truth(self, patient: Patient) -> bool:
        """Return whether the patient was followed up."""
        return patient.relapse is not None and patient.rfs_days is not None

    def training_view(self, patient: PreparedPatient) -> PreparedPatient | None:
        """Return a patient with the true HPV status in the record; None without follow-up."""
        if not self.has_truth(patient.patient):
            return None
        hpv = patient.patient.hpv
        return _with_hpv(patient, None if hpv is None else float(hpv))

    def with_inputs(
        self, patients: Sequence[PreparedPatient], runs: Path, configuration: Configuration
    ) -> Sequence[PreparedPatient]:
        """Return patients with predicted masks and HPV probabilities, if configured."""
        settings = configuration.survival
        patients = super().with_inputs(patients, runs, configuration)
        if settings.masks == "predicted":
            patients = out_of_fold.with_masks(patients, runs)
        if settings.hpv == "predicted":
            names = [patient.patient_id for patient in patients]
            folder = runs / "hpv" / out_of_fold.FOLDER
            probabilities = out_of_fold.read_hpv_probabilities(folder, names)
            patients = [_with_hpv(*pair) for pair in zip(patients, probabilities, strict=True)]
        return patients

    def stratum(self, patient: PreparedPatient) -> str:
        """Return whether a recurrence was observed."""
        return f"relapse {bool(patient.patient.relapse):d}"

    def network_config(self, configuration: Configuration) -> SurvivalConfig:
        """Return the configuration of the network."""
        return configuration.survival.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return the network's channels in order."""
        return configuration.survival.channels

    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> SurvivalNetwork:
        """Return the network with fresh weights."""
        channels = configuration.survival.channels
        return self.network_config(configuration).build(
            in_channels=len(channels), clinical_features=len(features)
        )

    def module(self, training: FoldTraining) -> SurvivalModule:
        """Return the network with its loss and scores."""
        network = self.network(training.configuration, training.features)
        return SurvivalModule(network, training.configuration.survival, training.seed)

    def samples(self, training: FoldTraining) -> Samples:
        """Return windows around the lesions, with a small random shift."""
        settings = training.configuration.survival
        return Samples(
            patients=training.patients,
            intensity=training.configuration.intensity,
            channels=settings.channels,
            place=JitteredWindow(settings.window_zyx, lesion_centre),
            targets=[_targets(patient, training.features) for patient in training.patients],
            needs_labels=False,
            augmentation=settings.augmentation,
            variation=variation(settings, training.features),
        )

    def batches(self, training: FoldTraining) -> ShuffledBatches:
        """Return batches of all patients."""
        return ShuffledBatches(
            len(training.patients), training.configuration.survival.batch_size, training.seed
        )

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if there is no recurrence to train on, or no held-out pair to rank.

        A patient with a recurrence can be ranked against patients with a longer follow-up.
        """
        outcomes = [(p.patient.rfs_days or 0.0, bool(p.patient.relapse)) for p in training.held_out]
        longest = max((days for days, _ in outcomes), default=0.0)
        can_rank = any(relapse and days < longest for days, relapse in outcomes)
        if not any(patient.patient.relapse for patient in training.patients):
            raise InputError(
                f"fold {training.fold.name}: expected a recurrence among the "
                f"{len(training.patients)} training patients, found none; use other folds or a "
                "larger cohort"
            )
        if outcomes and not can_rank:
            raise InputError(
                f"fold {training.fold.name}: expected a recurrence earlier than another patient's "
                f"follow-up among the {len(outcomes)} held-out patients, found none; hold out "
                "more, or use other folds or a larger cohort"
            )

    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[MemberKind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has."""
        weights = out_of_fold.fit_risk_weights(run_folder / out_of_fold.FOLDER, kinds)
        return {"window_zyx": configuration.survival.window_zyx, **weights.fields()}

    def statistics(
        self, models: Mapping[MemberKind, nn.Module], training: FoldTraining
    ) -> dict[MemberKind, MemberStatistics]:
        """Return mean and standard deviation of each model's risks on the training patients."""
        risks = self.outputs(models, training.patients, training)
        return {
            kind: MemberStatistics(risk_mean=float(r.mean()), risk_std=float(r.std(ddof=1)))
            for kind, r in risks.items()
        }

    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write the standardised risks of the held-out patients."""
        training, statistics = trained.training, trained.statistics
        if not training.held_out:
            return
        outputs = self.outputs(trained.models, training.held_out, training)
        risks = {
            kind: (values - statistics[kind].risk_mean) / statistics[kind].risk_std
            for kind, values in outputs.items()
        }
        folder = training.runs / self.name / out_of_fold.FOLDER
        out_of_fold.write_risks(folder, training.fold.name, training.held_out, risks)

    def require_predictions(self, folder: Path, patient_ids: Sequence[str]) -> None:
        """Raise InputError if a patient has no risk."""
        out_of_fold.read_risks(folder, patient_ids)

    def write_answer(self, folder: Path, patient: PreparedPatient, output_dir: Path) -> None:
        """Write the patient's risk."""
        (risk,) = out_of_fold.read_risks(folder, [patient.patient_id])
        write_risk(output_dir, risk, CURRENT)

    def observe(
        self, model: SurvivalModel, case: ScoredCase
    ) -> dict[str, tuple[float, float, bool]]:
        """Return the risks of all members and of each kind, with days and event."""
        days, relapse = case.patient.rfs_days, case.patient.relapse
        if days is None or relapse is None:
            return {}
        return {
            f"{C_INDEX}{suffix}": (model.combine(outputs), days, relapse)
            for suffix, outputs in by_kind(case.predictions.risk_outputs).items()
        }

    def score(self, metric: str, observations: Sequence[tuple[float, float, bool]]) -> float:
        """Return the C-index."""
        del metric
        return concordance_index(*map(np.asarray, zip(*observations, strict=True)))

    def windows(self, patients: Sequence[PreparedPatient], training: FoldTraining) -> Windows:
        """Return the windows of patients around their lesions."""
        return Windows(
            patients=patients,
            intensity=training.configuration.intensity,
            channels=training.configuration.survival.channels,
            window_zyx=training.configuration.survival.window_zyx,
            centre_of=lesion_centre,
            targets=[_targets(patient, training.features) for patient in patients],
            needs_labels=False,
        )

    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the whole network."""
        return network

    def fit_values(
        self, values: NDArray[np.float32], patients: Sequence[PreparedPatient]
    ) -> Linear:
        """Return a ridge Cox model."""
        days, relapses = zip(
            *[(p.patient.rfs_days, bool(p.patient.relapse)) for p in patients], strict=True
        )
        return RidgeCox().fit(values, days, relapses).risk


def _with_hpv(patient: PreparedPatient, hpv: float | None) -> PreparedPatient:
    clinical = dataclasses.replace(patient.patient.clinical, hpv=hpv)
    return dataclasses.replace(
        patient, patient=dataclasses.replace(patient.patient, clinical=clinical)
    )


def _targets(patient: PreparedPatient, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.patient.clinical, features)),
        "rfs_days": torch.tensor(patient.patient.rfs_days),
        "relapse": torch.tensor(bool(patient.patient.relapse)),
    }
