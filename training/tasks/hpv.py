"""Task 3: a Task 1 network with trained weights learns the HPV status at its bottleneck."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional

from evaluation.outputs import HPV_PROBABILITY
from shared.clinical import ClinicalFeature, encode
from shared.conventions import LabelVolume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.grand_challenge.outputs import write_hpv
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import best_threshold, roc_auc
from shared.models.card import MemberKind
from shared.models.hpv import HpvModel
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.preprocessing.intensity import Channel
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.config import Configuration, HpvSettings
from training.loop.checkpointing import compute_again
from training.loop.module import TrainedModule
from training.samples.batches import BalancedBatches
from training.samples.crops import JitteredWindow, no_lesion_centre
from training.samples.dataset import Sample, Samples, Windows, variation
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, ScoredCase, TrainedFold
from training.tasks.linear import BalancedLogistic, Linear
from training.tasks.prognosis import PrognosisTask, by_kind
from training.tasks.segmentation import BATCH_DICE, segmentation_loss

BALANCED_ACCURACY: Final = "balanced_accuracy"
AUC: Final = "auc"


class HpvModule(TrainedModule[tuple[float, bool]]):
    """The loss is DiceCE on the lesions plus binary cross-entropy on the HPV status."""

    network: HpvNetwork
    schedule: HpvSettings

    def __init__(
        self, network: HpvNetwork, settings: HpvSettings, seed: int, batch_dice: bool
    ) -> None:
        super().__init__(network, settings, seed)
        self.criterion = segmentation_loss(batch_dice)

    def loss(self, batch: Sample) -> Tensor:
        """Return the sum of both losses; without any label map, only the loss of the status."""
        logits, status = self.network(batch["image"], batch["clinical"])
        outlined = batch["outlined"]
        if outlined.any():
            loss = self.criterion(logits[outlined].float(), batch["labels"][outlined])
            # The mean over all patients of the batch, so that the batches of a step add up to it.
            loss = loss * outlined.float().mean()
        else:  # a zero gradient for the decoder, because other processes wait for one
            loss = 0.0 * logits.float().sum()
        loss = loss + functional.binary_cross_entropy_with_logits(
            status[:, 0].float(), batch["hpv"].float()
        )
        return cast(Tensor, loss)

    def validate(self, batch: Sample) -> tuple[float, bool]:
        """Return the logit of one patient's central window, and the truth."""
        logit = self.network.classifier()(batch["image"], batch["clinical"])
        return float(logit), bool(batch["hpv"])

    def scores(self, observations: Sequence[tuple[float, bool]]) -> dict[str, float]:
        """Return balanced accuracy at a logit of 0, AUC and balanced log-loss.

        If the balanced accuracy selects the epoch, the log-loss breaks ties.
        """
        logits = np.nan_to_num([logit for logit, _ in observations])
        truth = np.array([status for _, status in observations])
        losses = np.logaddexp(0, np.where(truth, -logits, logits))
        accuracy = balanced_accuracy(logits > 0, truth)
        loss = float(np.mean([losses[truth].mean(), losses[~truth].mean()]))
        auc = roc_auc(expit(logits), truth)
        score = {
            "balanced accuracy": accuracy - 1e-3 * loss,
            "AUC": auc,
            "balanced log-loss": -loss,
        }[self.schedule.selected_by]
        return {
            BALANCED_ACCURACY: accuracy,
            AUC: auc,
            "balanced_log_loss": loss,
            "score": score,
        }


class Hpv(PrognosisTask):
    """Task 3: the Task 1 network with a head on its bottleneck, linear models, or both."""

    name = "hpv"
    model_type = HpvModel
    about = (
        "Train Task 3, starting from Task 1's weights in RUNS, and write its model folder. By "
        "default the held-out patients are those of Task 1."
    )
    follows = ("segmentation",)
    starts_from_segmentation = True

    def settings(self, configuration: Configuration) -> HpvSettings:
        """Return the task's part of a configuration."""
        return configuration.hpv

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why, with `batch_dice`, the loss of a batch is not the mean of its parts'."""
        return BATCH_DICE if configuration.segmentation.batch_dice else None

    def has_truth(self, patient: Patient) -> bool:
        """Return whether the status is known."""
        return patient.hpv is not None

    def stratum(self, patient: PreparedPatient) -> str:
        """Return the status."""
        return f"HPV {bool(patient.patient.hpv):d}"

    def network_config(self, configuration: Configuration) -> HpvConfig:
        """Return the configuration of the head."""
        return configuration.hpv.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return the network's channels in order: those of Task 1."""
        return configuration.segmentation.channels

    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> HpvNetwork:
        """Return the network with fresh weights."""
        task1 = configuration.segmentation
        return self.network_config(configuration).build(
            task1.network, in_channels=len(task1.channels), clinical_features=len(features)
        )

    def module(self, training: FoldTraining) -> HpvModule:
        """Return the network with Task 1's weights, its loss and its scores."""
        network = self.network(training.configuration, training.features)
        if training.starting_weights is not None:
            network.load_segmentation(dict(training.starting_weights))
        task1 = training.configuration.segmentation
        levels = network.config.levels(network.backbone)
        compute_again(chain.from_iterable(levels[: task1.checkpoint_levels]))
        return HpvModule(network, training.configuration.hpv, training.seed, task1.batch_dice)

    def samples(self, training: FoldTraining) -> Samples:
        """Return central windows."""
        settings = training.configuration.hpv
        return Samples(
            patients=training.patients,
            intensity=training.configuration.intensity,
            channels=self.channels(training.configuration),
            place=JitteredWindow(settings.window_zyx, no_lesion_centre),
            targets=[_targets(patient, training.features) for patient in training.patients],
            variation=variation(settings, training.features),
        )

    def batches(self, training: FoldTraining) -> BalancedBatches:
        """Return batches with as many positive as negative patients."""
        settings = training.configuration.hpv
        return BalancedBatches(
            [bool(patient.patient.hpv) for patient in training.patients],
            settings.batch_size,
            training.seed,
            training.hardware.accumulation_of(settings),
        )

    def windows(self, patients: Sequence[PreparedPatient], training: FoldTraining) -> Windows:
        """Return patients' central windows."""
        return Windows(
            patients=patients,
            intensity=training.configuration.intensity,
            channels=self.channels(training.configuration),
            window_zyx=training.configuration.hpv.window_zyx,
            centre_of=no_lesion_centre,
            targets=[_targets(patient, training.features) for patient in patients],
            needs_labels=False,
        )

    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the network without its decoder."""
        return cast(HpvNetwork, network).classifier()

    def fit_values(
        self, values: NDArray[np.float32], patients: Sequence[PreparedPatient]
    ) -> Linear:
        """Return a logistic regression."""
        return BalancedLogistic().fit(values, [bool(p.patient.hpv) for p in patients]).logit

    def measured_lesions(self, training: FoldTraining) -> Callable[[PreparedPatient], LabelVolume]:
        """Return how to find the lesions to measure: those of Task 1 if the configuration asks.

        `with_inputs` does not replace the masks, since the network learns to outline the true ones.
        """
        if training.configuration.hpv.masks == "predicted":
            return out_of_fold.masks(training.runs)
        return super().measured_lesions(training)

    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write the logits of the held-out patients and of those whose status is unknown."""
        training = trained.training
        patients = [*training.held_out, *training.without_outcome]
        logits = self.outputs(trained.models, patients, training)
        folder = training.runs / self.name / out_of_fold.FOLDER
        out_of_fold.write_logits(folder, training.fold.name, patients, logits)

    def require_predictions(self, folder: Path, patient_ids: Sequence[str]) -> None:
        """Raise InputError if a patient has no logit."""
        out_of_fold.read_hpv_probabilities(folder, patient_ids)

    def write_answer(self, folder: Path, patient: PreparedPatient, output_dir: Path) -> None:
        """Write the decision at a probability of 0.5, and the probability for the evaluation."""
        (probability,) = out_of_fold.read_hpv_probabilities(folder, [patient.patient_id])
        write_hpv(output_dir, probability >= 0.5, CURRENT)
        (output_dir / HPV_PROBABILITY).write_text(json.dumps(probability), encoding="utf-8")

    def observe(self, model: HpvModel, case: ScoredCase) -> dict[str, tuple[bool, bool]]:
        """Return the decisions of all members and of each kind, with the status."""
        status = case.patient.hpv
        if status is None:
            return {}
        return {
            f"{BALANCED_ACCURACY}{suffix}": (model.combine(outputs).decision, status)
            for suffix, outputs in by_kind(case.predictions.hpv_outputs).items()
        }

    def score(self, metric: str, observations: Sequence[tuple[bool, bool]]) -> float:
        """Return the balanced accuracy."""
        del metric
        return balanced_accuracy(*map(np.asarray, zip(*observations, strict=True)))

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if all training or all held-out patients have the same status."""
        parts = {"training": training.patients, "held-out": training.held_out}
        for part, patients in parts.items():
            positive = sum(bool(patient.patient.hpv) for patient in patients)
            if positive in (0, len(patients)):
                raise InputError(
                    f"fold {training.fold.name}: expected patients of both HPV statuses among the "
                    f"{len(patients)} {part} patients, found {positive} positive; hold out more, "
                    "or use other folds or a larger cohort"
                )

    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[MemberKind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has."""
        settings, threshold = configuration.hpv, 0.5
        folder = run_folder / out_of_fold.FOLDER
        if settings.threshold == "out of fold":
            threshold = best_threshold(*out_of_fold.read_known_hpv(folder, kinds))
        return {
            "window_zyx": settings.window_zyx,
            "threshold": threshold,
            **out_of_fold.fit_hpv_weights(folder, kinds).fields(),
        }


def _targets(patient: PreparedPatient, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.patient.clinical, features)),
        "hpv": torch.tensor(bool(patient.patient.hpv)),
        "outlined": torch.tensor(patient.patient.labels is not None),
    }
