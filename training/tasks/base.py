"""The interface of a task in training; it covers everything that differs between the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.clinical import ClinicalFeature
from shared.models.card import MemberKind
from shared.models.chain import Predictions
from shared.models.ensemble import Ensemble
from shared.models.networks.base import NetworkConfig
from shared.preprocessing.intensity import Channel
from shared.preprocessing.pipeline import Prepared
from shared.schema import Strict
from shared.tasks import TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold
from training.cohort.layout import Patient
from training.config import Configuration, Schedule
from training.loop.hardware import Device, Hardware
from training.loop.module import TrainedModule
from training.samples.batches import EpochBatches
from training.samples.dataset import Sample, Samples, Windows
from training.samples.loaders import Loading, training_loader, validation_loader


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """Weights of a Task 1 network.

    Attributes
    ----------
    part : the whole network, or only its encoder, if Task 1 was not trained in this folder of runs
        but adopted.
    weights : the `state_dict` of this part.
    """

    part: Literal["network", "encoder"] = "network"
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """Everything that is needed to train one fold of a task.

    Attributes
    ----------
    patients, held_out : the training patients and the held-out patients, as `Task.training_view`
        and `Task.with_inputs` return them. If the models are trained on everybody, `held_out` is
        empty.
    without_outcome : patients who are in no fold because the task cannot learn from them; later
        tasks may need predictions for them too.
    features : clinical inputs, scaled.
    start : weights of a Task 1 network, if the task starts from one.
    runs : folder of runs, which holds what earlier tasks predicted.
    workers : number of loading processes of each training process.
    hardware : the hardware that the training runs on.
    """

    fold: Fold
    configuration: Configuration
    patients: Sequence[PreparedPatient]
    held_out: Sequence[PreparedPatient]
    without_outcome: Sequence[PreparedPatient] = ()
    features: tuple[ClinicalFeature, ...] = ()
    start: StartingWeights | None = None
    runs: Path
    seed: int = 0
    workers: int = 0
    hardware: Hardware = field(default_factory=partial(Hardware, devices=1, accelerator="cpu"))

    @property
    def parts(self) -> dict[str, Sequence[PreparedPatient]]:
        """The training patients and, if there are any, the held-out patients, by name."""
        held_out = {"held-out": self.held_out} if self.held_out else {}
        return {"training": self.patients, **held_out}

    @property
    def device(self) -> Device:
        """The device on which a process trains, and the trained network predicts."""
        return self.hardware.device

    @property
    def loading(self) -> Loading:
        """How one process gets its batches."""
        return Loading(
            workers=self.workers,
            pin_memory=self.device == "cuda",
            processes=self.hardware.local_processes,
        )


class MemberStatistics(Strict):
    """Mean and standard deviation of a model's risks on the training patients, for the card."""

    risk_mean: float = 0.0
    risk_std: PositiveFloat = 1.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """The kinds of models to serve.

    Attributes
    ----------
    reason : why, in a sentence for the card; empty if all kinds are served without a comparison.
    """

    kinds: tuple[MemberKind, ...]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """The models of a fold by kind, and the statistics of each."""

    training: FoldTraining
    models: Mapping[MemberKind, nn.Module]
    statistics: Mapping[MemberKind, MemberStatistics]


@dataclass(frozen=True, kw_only=True)
class ScoredCase:
    """A patient with the predictions that are compared with the truth.

    Attributes
    ----------
    prepared : the prepared case, which the models take.
    predictions : the predictions of the chain of models.
    """

    patient: Patient
    prepared: Prepared
    predictions: Predictions


class Task(ABC):
    """A task in training."""

    name: ClassVar[TaskName]
    model_type: ClassVar[type[Ensemble[Any]]]
    """The class that serves the exported models; it also states the class of the card."""
    about: ClassVar[str]
    """The help text of the task's training command."""
    follows: ClassVar[tuple[TaskName, ...]] = ()
    """The tasks to train first, because this task can start from their weights or predictions."""
    default_held_out: ClassVar[int] = 60
    """Number of patients to hold out by default."""
    has_statistics: ClassVar[bool] = False
    """Whether a card states the mean and the spread of a model's outputs."""
    starts_from_segmentation: ClassVar[bool] = False
    """Whether the network starts from the weights of a Task 1 network."""

    @abstractmethod
    def settings(self, configuration: Configuration) -> Schedule:
        """Return the task's part of a configuration."""

    def kept_views(self, configuration: Configuration) -> int | None:
        """Return how many windows of a training patient the network sees in all epochs.

        None means that it sees a new one in every epoch.
        """
        del configuration
        return None

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why the loss of a batch is not the mean of its parts' losses; None if it is.

        If it is this mean, accumulating the gradients of several batches gives the gradient of one
        large batch.
        """
        del configuration
        return None

    def out_of_fold_needs(self, configuration: Configuration) -> dict[TaskName, dict[str, str]]:
        """Return the settings that need out-of-fold predictions, by the task that predicts.

        Returns
        -------
        For each task whose predictions are needed, which may be this one, the settings that need
        them, as the configuration states them. Each setting comes with the one that can replace
        it.
        """
        del configuration
        return {}

    @abstractmethod
    def has_truth(self, patient: Patient) -> bool:
        """Return whether the truth is known, which both training and scoring need."""

    def training_view(self, patient: PreparedPatient) -> PreparedPatient | None:
        """Return a patient's data for training; None if the task cannot learn from the patient."""
        return patient if self.has_truth(patient.patient) else None

    def with_inputs(
        self, patients: Sequence[PreparedPatient], runs: Path, configuration: Configuration
    ) -> Sequence[PreparedPatient]:
        """Return patients with the predictions of earlier tasks as inputs, if configured."""
        del runs, configuration
        return patients

    @abstractmethod
    def stratum(self, patient: PreparedPatient) -> str:
        """Return the outcome by which folds are stratified, in addition to the centre."""

    @abstractmethod
    def network_config(self, configuration: Configuration) -> NetworkConfig:
        """Return the configuration of the network."""

    @abstractmethod
    def channels(self, configuration: Configuration) -> tuple[Channel, ...]:
        """Return the network's channels in order."""

    @abstractmethod
    def network(
        self, configuration: Configuration, features: Sequence[ClinicalFeature]
    ) -> nn.Module:
        """Return the network with fresh weights."""

    @abstractmethod
    def module(self, training: FoldTraining) -> TrainedModule[Any]:
        """Return the network with its loss and scores."""

    @abstractmethod
    def samples(self, training: FoldTraining) -> Samples:
        """Return the samples to train on."""

    @abstractmethod
    def batches(self, training: FoldTraining) -> EpochBatches:
        """Return the sampler that chooses the samples of each batch."""

    @abstractmethod
    def windows(self, patients: Sequence[PreparedPatient], training: FoldTraining) -> Windows:
        """Return the windows of patients that validation and serving use."""

    def loaders(self, training: FoldTraining) -> tuple[DataLoader[Sample], DataLoader[Sample]]:
        """Return batches to train on, and held-out patients to validate on, one at a time."""
        settings, loading = self.settings(training.configuration), training.loading
        image_type = training.hardware.image_type(settings)
        samples = replace(self.samples(training), image_type=image_type)
        windows = replace(self.windows(training.held_out, training), image_type=image_type)
        return (
            training_loader(samples, self.batches(training), settings.batch_size, loading),
            validation_loader(windows, loading),
        )

    def features(
        self, configuration: Configuration, patients: Sequence[PreparedPatient]
    ) -> tuple[ClinicalFeature, ...]:
        """Return the clinical inputs, with the scale of the training patients."""
        del configuration, patients
        return ()

    def kinds(self, configuration: Configuration) -> tuple[MemberKind, ...]:
        """Return the kinds of models that each fold has."""
        del configuration
        return ("network",)

    def served(self, configuration: Configuration, run_folder: Path) -> Served:
        """Return the kinds of a trained run's models to serve: by default all."""
        del run_folder
        return Served(kinds=self.kinds(configuration))

    def fit_linear(self, training: FoldTraining) -> dict[MemberKind, nn.Module]:
        """Return the linear models of a fold; by default there are none."""
        del training
        return {}

    @abstractmethod
    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[MemberKind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has.

        Parameters
        ----------
        run_folder : run folder of the task, which holds the out-of-fold predictions.
        kinds : the kinds of models to export.
        """

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if the task cannot be trained or scored on a fold."""
        del training

    def statistics(
        self, models: Mapping[MemberKind, nn.Module], training: FoldTraining
    ) -> dict[MemberKind, MemberStatistics]:
        """Return the statistics of each model of a fold."""
        del training
        return {kind: MemberStatistics() for kind in models}

    @abstractmethod
    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write predictions for the patients that a fold's models were not trained on."""

    @abstractmethod
    def require_predictions(self, folder: Path, patient_ids: Sequence[str]) -> None:
        """Raise InputError if a patient has no prediction.

        Parameters
        ----------
        folder : folder that `predict_held_out` wrote to.
        """

    @abstractmethod
    def write_answer(self, folder: Path, patient: PreparedPatient, output_dir: Path) -> None:
        """Write the out-of-fold prediction of a patient in the form of the container's output.

        Parameters
        ----------
        folder : folder that `predict_held_out` wrote to.
        """

    @abstractmethod
    def observe(self, model: Any, case: ScoredCase) -> dict[str, Any]:
        """Return the observations of one patient from which the task's metrics are computed.

        Parameters
        ----------
        model : the task's model, of the class `model_type`. It is not run again, but it can combine
            the outputs of its members in `case.predictions`.

        Returns
        -------
        The observation for each metric, by the metric's name in the card; empty if the truth is
        unknown.
        """

    @abstractmethod
    def score(self, metric: str, observations: Sequence[Any]) -> float:
        """Return a metric from the observations of patients that `observe` returned for it."""
