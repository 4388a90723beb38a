"""Task 3: a Task 1 network with trained weights learns the HPV status."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from evaluation.outputs import HPV_PROBABILITY
from shared.clinical import ClinicalFeature, encode
from shared.conventions import IntTriple, LabelVolume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.grand_challenge.outputs import write_hpv
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import best_threshold, roc_auc
from shared.models.card import MemberKind
from shared.models.hpv import HpvModel
from shared.models.networks.base import HpvNetworkBase, HpvNetworkConfig
from shared.models.networks.hpv import HpvNetwork
from shared.models.networks.hpv_lesions import LesionHpvConfig, LesionHpvNetwork
from shared.preprocessing.intensity import Channel
from shared.preprocessing.window import lesion_centre
from shared.tasks import TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.layout import Patient
from training.config import Configuration, HpvSettings
from training.loop.checkpointing import compute_again
from training.loop.module import TrainedModule
from training.samples.batches import BalancedBatches, Share
from training.samples.channels import network_input
from training.samples.crops import JitteredWindow, no_lesion_centre
from training.samples.dataset import Sample, Samples, Windows, variation
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, ScoredCase, StartingWeights, TrainedFold
from training.tasks.linear import BalancedLogistic, Linear
from training.tasks.pooled import FeatureStore, PooledSamples, PooledWindows
from training.tasks.prognosis import PrognosisTask, Ranking, by_kind
from training.tasks.segmentation import BATCH_DICE, segmentation_loss

BALANCED_ACCURACY: Final = "balanced_accuracy"
AUC: Final = "auc"


class HpvModule(TrainedModule[tuple[float, bool]]):
    """The loss is binary cross-entropy on the HPV status."""

    network: HpvNetworkBase
    schedule: HpvSettings

    def __init__(
        self, network: HpvNetworkBase, settings: HpvSettings, seed: int, channels: Sequence[Channel]
    ) -> None:
        super().__init__(network, settings, seed)
        self.channels = channels

    def loss(self, batch: Sample) -> Tensor:
        """Return the loss of a batch of windows, or of a batch of pooled features."""
        return functional.binary_cross_entropy_with_logits(
            self.logits(batch)[:, 0].float(), batch["hpv"].float()
        )

    def logits(self, batch: Sample) -> Tensor:
        """Return the logits of a batch, shape (n, 1)."""
        if "pooled" in batch:
            head = cast(LesionHpvNetwork, self.network).head
            return cast(Tensor, head(batch["pooled"], batch["clinical"]))
        image = network_input(batch, self.channels)
        return cast(Tensor, self.network.classifier()(image, batch["clinical"]))

    def validate(self, batch: Sample) -> tuple[float, bool]:
        """Return the logit of one patient's window, and the truth."""
        return float(self.logits(batch)), bool(batch["hpv"])

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


class BottleneckModule(HpvModule):
    """The loss is DiceCE on the lesions plus binary cross-entropy on the HPV status."""

    network: HpvNetwork

    def __init__(
        self,
        network: HpvNetwork,
        settings: HpvSettings,
        seed: int,
        channels: Sequence[Channel],
        batch_dice: bool,
    ) -> None:
        super().__init__(network, settings, seed, channels)
        self.criterion = segmentation_loss(batch_dice)

    def loss(self, batch: Sample) -> Tensor:
        """Return the sum of both losses; without any label map, only the loss of the status."""
        logits, status = self.network(batch["image"], batch["clinical"])
        outlined = batch["outlined"]
        if outlined.any():
            loss = self.criterion(logits[outlined].float(), batch["labels"][outlined])
            # The mean over all patients of the batch, outlined or not: the losses of accumulated
            # batches then have the loss of one large batch as their mean.
            loss = loss * outlined.float().mean()
        else:  # a zero gradient for the decoder, because other processes wait for its gradient
            loss = 0.0 * logits.float().sum()
        loss = loss + functional.binary_cross_entropy_with_logits(
            status[:, 0].float(), batch["hpv"].float()
        )
        return cast(Tensor, loss)


class Hpv(PrognosisTask):
    """Task 3: a head on a Task 1 network, linear models, or both."""

    name = "hpv"
    model_type = HpvModel
    about = (
        "Train Task 3, starting from Task 1's weights in RUNS, and write its model folder. By "
        "default the held-out patients are those of Task 1."
    )
    follows = ("segmentation",)
    starts_from_segmentation = True
    ranking = Ranking(
        name="AUC",
        read=out_of_fold.logits_of_kinds,
        metric=lambda logits, truth: roc_auc(expit(logits), truth.astype(bool)),
        outcomes=("HPV Status",),
    )

    def __init__(self) -> None:
        self._store = FeatureStore()

    def settings(self, configuration: Configuration) -> HpvSettings:
        """Return the task's part of a configuration."""
        return configuration.hpv

    def kept_views(self, configuration: Configuration) -> int | None:
        """Return the number of views if the encoder is frozen, otherwise None."""
        config = configuration.hpv.network
        if isinstance(config, LesionHpvConfig) and config.encoder == "frozen":
            return config.views
        return None

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why the loss of a batch may not be the mean of its parts' losses."""
        if configuration.hpv.network.head == "lesions":
            return "batch norm compares the patients of a batch"
        return BATCH_DICE if configuration.segmentation.batch_dice else None

    def out_of_fold_needs(self, configuration: Configuration) -> dict[TaskName, dict[str, str]]:
        """Return the settings that need out-of-fold predictions, by the task that predicts."""
        needs = super().out_of_fold_needs(configuration)
        if configuration.hpv.threshold == "out of fold":
            needs.setdefault(self.name, {})['threshold = "out of fold"'] = 'threshold = "half"'
        return needs

    def has_truth(self, patient: Patient) -> bool:
        """Return whether the status is known."""
        return patient.hpv is not None

    def stratum(self, patient: PreparedPatient) -> str:
        """Return the status."""
        return f"HPV {bool(patient.patient.hpv):d}"

    def with_inputs(
        self, patients: Sequence[PreparedPatient], runs: Path, configuration: Configuration
    ) -> Sequence[PreparedPatient]:
        """Return patients with Task 1's masks if a head on the lesions is to learn from them.

        A head at the bottleneck learns to outline the true lesions; the lesions that its linear
        models measure come from `measured_lesions`.
        """
        patients = super().with_inputs(patients, runs, configuration)
        return _with_masks(patients, runs, configuration.hpv)

    def network_config(self, configuration: Configuration) -> HpvNetworkConfig:
        """Return the configuration of the head."""
        return configuration.hpv.network

    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return the network's channels in order: those of Task 1, and the lesions if needed."""
        return configuration.hpv.network.channels(configuration.segmentation.channels)

    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> HpvNetworkBase:
        """Return the network with fresh weights."""
        task1 = configuration.segmentation
        return self.network_config(configuration).build(
            task1.network, in_channels=len(task1.channels), clinical_features=len(features)
        )

    def module(self, training: FoldTraining) -> HpvModule:
        """Return the network with Task 1's weights, its loss and its scores."""
        configuration = training.configuration
        network = self.network(configuration, training.features)
        if training.start is not None:
            _start(network, training.start, training.fold.name)
        settings, channels = configuration.hpv, self.channels(configuration)
        if not isinstance(network, HpvNetwork):
            return HpvModule(network, settings, training.seed, channels)
        task1 = configuration.segmentation
        levels = network.config.levels(network.backbone)
        compute_again(chain.from_iterable(levels[: task1.checkpoint_levels]))
        return BottleneckModule(network, settings, training.seed, channels, task1.batch_dice)

    def loaders(self, training: FoldTraining) -> tuple[DataLoader[Sample], DataLoader[Sample]]:
        """Return batches of windows or, if the encoder is frozen, of their pooled features."""
        views = self.kept_views(training.configuration)
        if views is None:
            return super().loaders(training)
        network = cast(LesionHpvNetwork, self.module(training).network)
        samples, windows = self.samples(training), self.windows(training.patients, training)
        held_out = self.windows(training.held_out, training)
        device = training.device
        features = self._store.features(
            network, windows, device=device, samples=samples, views=views
        )
        pooled_samples = PooledSamples(
            features=features,
            targets=samples.targets,
            variation=replace(samples.variation, mirror=()),
        )
        pooled_windows = PooledWindows(
            features=self._store.features(network, held_out, device=device),
            targets=held_out.targets,
        )
        return (
            DataLoader(pooled_samples, batch_sampler=self.batches(training)),
            DataLoader(pooled_windows, batch_size=1, sampler=Share(len(pooled_windows))),
        )

    def samples(self, training: FoldTraining) -> Samples:
        """Return windows on the centre of the region or on the lesions, with a small shift."""
        settings = training.configuration.hpv
        return Samples(
            patients=training.patients,
            intensity=training.configuration.intensity,
            channels=self.channels(training.configuration),
            place=JitteredWindow(settings.window_zyx, _centre_of(settings)),
            targets=[_targets(patient, training.features) for patient in training.patients],
            augmentation=settings.augmentation,
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
        """Return the windows of patients, on the centre of the region or on the lesions."""
        return Windows(
            patients=patients,
            intensity=training.configuration.intensity,
            channels=self.channels(training.configuration),
            window_zyx=training.configuration.hpv.window_zyx,
            centre_of=_centre_of(training.configuration.hpv),
            targets=[_targets(patient, training.features) for patient in patients],
            needs_labels=False,
        )

    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the part that serving needs."""
        return cast(HpvNetworkBase, network).classifier()

    def fit_values(
        self, values: NDArray[np.float32], patients: Sequence[PreparedPatient]
    ) -> Linear:
        """Return a logistic regression."""
        return BalancedLogistic().fit(values, [bool(p.patient.hpv) for p in patients]).logit

    def measured_lesions(self, training: FoldTraining) -> Callable[[PreparedPatient], LabelVolume]:
        """Return a function that returns the lesions to measure: Task 1's, if configured.

        With a head on the lesions, the labels of the patients are the configured ones already.
        """
        settings = training.configuration.hpv
        if settings.network.head == "bottleneck" and settings.masks == "predicted":
            return out_of_fold.masks(training.runs)
        return super().measured_lesions(training)

    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write the logits of the held-out patients and of those whose status is unknown."""
        training = trained.training
        others = _with_masks(training.without_outcome, training.runs, training.configuration.hpv)
        patients = [*training.held_out, *others]
        if not patients:
            return
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

    def observe(self, model: HpvModel, case: ScoredCase) -> dict[str, tuple[float, bool]]:
        """Return decisions and probabilities of all members and of each kind, with the status."""
        status = case.patient.hpv
        if status is None:
            return {}
        observations: dict[str, tuple[float, bool]] = {}
        for suffix, outputs in by_kind(case.predictions.hpv_outputs).items():
            prediction = model.combine(outputs)
            observations[f"{BALANCED_ACCURACY}{suffix}"] = (prediction.decision, status)
            observations[f"{AUC}{suffix}"] = (prediction.probability, status)
        return observations

    def score(self, metric: str, observations: Sequence[tuple[float, bool]]) -> float:
        """Return the balanced accuracy of decisions or the AUC of probabilities."""
        predictions, statuses = map(np.asarray, zip(*observations, strict=True))
        if metric.startswith(AUC):
            return roc_auc(predictions, statuses)
        return balanced_accuracy(predictions.astype(bool), statuses)

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if all training or all held-out patients have the same status."""
        for part, patients in training.parts.items():
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


def _with_masks(
    patients: Sequence[PreparedPatient], runs: Path, settings: HpvSettings
) -> Sequence[PreparedPatient]:
    if settings.network.head == "bottleneck" or settings.masks == "true":
        return patients
    return out_of_fold.with_masks(patients, runs)


def _start(network: HpvNetworkBase, start: StartingWeights, fold: str) -> None:
    """Load weights of Task 1.

    Raises
    ------
    InputError
        If they are those of another network, or the head needs the whole network and only the
        encoder is known.
    """
    try:
        if start.part == "network":
            network.load_segmentation(dict(start.weights))
        elif isinstance(network, LesionHpvNetwork):
            network.load_encoder(start.weights)
        else:
            raise InputError(
                f'fold {fold}: expected a trained Task 1 network, since head = "bottleneck" trains '
                "its decoder too, found an adopted model, of which only the encoder is known; set "
                'head = "lesions" in [hpv.network], or train Task 1'
            )
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(
            f"fold {fold}: expected weights of [segmentation.network] from Task 1, found others "
            f"({detail}); give the configuration that Task 1 was trained with"
        ) from None


def _centre_of(settings: HpvSettings) -> Callable[[LabelVolume], IntTriple | None]:
    return lesion_centre if settings.network.head == "lesions" else no_lesion_centre


def _targets(patient: PreparedPatient, features: Sequence[ClinicalFeature]) -> dict[str, Tensor]:
    return {
        "clinical": torch.from_numpy(encode(patient.patient.clinical, features)),
        "hpv": torch.tensor(bool(patient.patient.hpv)),
        "outlined": torch.tensor(patient.patient.labels is not None),
    }
