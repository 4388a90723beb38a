"""What differs between the trainings of segmentation, HPV status and survival: one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

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
class FoldTraining:
    """The training of one fold of a task.

    Attributes
    ----------
    patients, held_out : those trained on and those held out, as the task sees them.
    without_outcome : patients who are in no fold because the task cannot learn from them; later
        tasks may need predictions for them too.
    features : clinical inputs, scaled.
    starting_weights : of a Task 1 network, if the task starts from one.
    runs : folder of runs, which holds what earlier tasks predicted.
    workers : loading processes of each process of the training.
    hardware : what the training runs on.
    """

    fold: Fold
    configuration: Configuration
    patients: Sequence[PreparedPatient]
    held_out: Sequence[PreparedPatient]
    without_outcome: Sequence[PreparedPatient] = ()
    features: tuple[ClinicalFeature, ...] = ()
    starting_weights: Mapping[str, Tensor] | None = None
    runs: Path
    seed: int = 0
    workers: int = 0
    hardware: Hardware = field(default_factory=partial(Hardware, devices=1, accelerator="cpu"))

    @property
    def device(self) -> Device:
        """The device on which a process trains, and the trained network predicts."""
        return self.hardware.device

    @property
    def loading(self) -> Loading:
        """How the batches of one process come to it."""
        return Loading(
            workers=self.workers,
            pin_memory=self.device == "cuda",
            processes=self.hardware.local_processes,
        )


class MemberStatistics(Strict):
    """What the card states about one model of a fold: its risks on the patients trained on."""

    risk_mean: float = 0.0
    risk_std: PositiveFloat = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainedFold:
    """The models of a fold, by kind, with what the card states about each."""

    training: FoldTraining
    models: Mapping[MemberKind, nn.Module]
    statistics: Mapping[MemberKind, MemberStatistics]


@dataclass(frozen=True, kw_only=True)
class ScoredCase:
    """A patient whom the models have answered about, to be compared with the truth.

    Attributes
    ----------
    prepared : the input of the models.
    predictions : of the models that the containers chain.
    """

    patient: Patient
    prepared: Prepared
    predictions: Predictions


class Task(ABC):
    """A task in training."""

    name: ClassVar[TaskName]
    model_type: ClassVar[type[Ensemble[Any]]]
    """The class that serves the exported models; it names the class of the card."""
    about: ClassVar[str]
    """What its training command says about itself."""
    follows: ClassVar[tuple[TaskName, ...]] = ()
    """The tasks to train first, because it can start from their weights or predictions."""
    default_held_out: ClassVar[int] = 60
    """Patients held out if nothing else is asked for."""
    starts_from_segmentation: ClassVar[bool] = False
    """Whether its network starts from the weights of a Task 1 network."""

    @abstractmethod
    def settings(self, configuration: Configuration) -> Schedule:
        """Return the task's part of a configuration."""

    def not_additive(self, configuration: Configuration) -> str | None:
        """Return why the loss of a batch is not the mean of its parts' losses; None if it is.

        If it is, accumulating the gradients of several batches gives that of one large batch.
        """
        del configuration
        return None

    @abstractmethod
    def has_truth(self, patient: Patient) -> bool:
        """Whether the truth is known, so that the task can learn from the patient and be scored."""

    def training_view(self, patient: PreparedPatient) -> PreparedPatient | None:
        """Return a patient as training sees it; None if the task has nothing to learn from it."""
        return patient if self.has_truth(patient.patient) else None

    def with_inputs(
        self, patients: Sequence[PreparedPatient], runs: Path, configuration: Configuration
    ) -> Sequence[PreparedPatient]:
        """Return patients with the inputs that earlier tasks predicted, if so configured."""
        del runs, configuration
        return patients

    @abstractmethod
    def stratum(self, patient: PreparedPatient) -> str:
        """Return the outcome by which folds are stratified, in addition to the centre."""

    @abstractmethod
    def network_config(self, configuration: Configuration) -> NetworkConfig:
        """Return the shape of the network, which also knows the part that serves."""

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
        """Return which samples make a batch."""

    @abstractmethod
    def windows(self, patients: Sequence[PreparedPatient], training: FoldTraining) -> Windows:
        """Return what validation, or serving, sees of patients."""

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
        """Return the clinical inputs, scaled on the patients trained on."""
        del configuration, patients
        return ()

    def kinds(self, configuration: Configuration) -> tuple[MemberKind, ...]:
        """Return the kinds of models that each fold has."""
        del configuration
        return ("network",)

    def fit_linear(self, training: FoldTraining) -> dict[MemberKind, nn.Module]:
        """Return the linear models of a fold; none for most tasks."""
        del training
        return {}

    @abstractmethod
    def card(
        self, configuration: Configuration, run_folder: Path, kinds: Sequence[MemberKind]
    ) -> dict[str, Any]:
        """Return the fields of the model card that only this task has.

        Parameters
        ----------
        run_folder : of the task; holds its out-of-fold predictions.
        kinds : the kinds that are exported.
        """

    def check(self, training: FoldTraining) -> None:
        """Raise InputError if nothing could be learned from a fold, or nothing scored in it."""
        del training

    def statistics(
        self, models: Mapping[MemberKind, nn.Module], training: FoldTraining
    ) -> dict[MemberKind, MemberStatistics]:
        """Return what the card states about each model of a fold."""
        del training
        return {kind: MemberStatistics() for kind in models}

    @abstractmethod
    def predict_held_out(self, trained: TrainedFold) -> None:
        """Write predictions for the patients that a fold's models have not seen."""

    @abstractmethod
    def require_predictions(self, folder: Path, patient_ids: Sequence[str]) -> None:
        """Raise InputError if a patient has no prediction.

        Parameters
        ----------
        folder : in which `predict_held_out` has written.
        """

    @abstractmethod
    def write_answer(self, folder: Path, patient: PreparedPatient, output_dir: Path) -> None:
        """Write the out-of-fold prediction for a patient as the task's container writes its answer.

        Parameters
        ----------
        folder : in which `predict_held_out` has written.
        """

    @abstractmethod
    def observe(self, model: Any, case: ScoredCase) -> dict[str, Any]:
        """Return what the task's metrics are computed from, for one patient.

        Parameters
        ----------
        model : of the class `model_type`. It is run here if it has no prediction in
            `case.predictions`.

        Returns
        -------
        By the name of the metric as the card states it; empty if the truth is unknown.
        """

    @abstractmethod
    def score(self, metric: str, observations: Sequence[Any]) -> float:
        """Return a metric of patients from what `observe` returned for it."""
