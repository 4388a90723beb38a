"""The part of training that Tasks 2 and 3 share: networks and linear models of one fold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.clinical import ClinicalFeature, encode
from shared.conventions import LabelVolume
from shared.errors import InputError
from shared.lesions import MEASURES, measure_lesions
from shared.metrics.uncertainty import mean_over_groups, paired_difference
from shared.models.card import Member, MemberKind
from shared.models.networks.linear import LinearModel
from shared.preprocessing.intensity import Channel
from shared.tasks import TaskName
from training.cohort.cache import PreparedPatient
from training.cohort.features import fit_features
from training.config import Configuration, PrognosisSettings
from training.samples.channels import network_input
from training.samples.dataset import Sample
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining, Served, Task
from training.tasks.linear import Linear, linear_model

_KINDS: dict[str, tuple[MemberKind, ...]] = {
    "networks": ("network",),
    "linear": ("linear",),
    "both": ("network", "linear"),
    "best": ("network", "linear"),
}


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A score of how well outputs rank patients.

    Attributes
    ----------
    metric : the function that returns the score of outputs, given the outcomes.
    read : the function that returns the out-of-fold outputs and outcomes in a folder, see
        `out_of_fold.logits_of_kinds`.
    outcomes : names of the columns that the metric takes after the outputs.
    """

    name: str
    read: Callable[[Path], pd.DataFrame]
    metric: Callable[..., float]
    outcomes: tuple[str, ...]


class PrognosisTask(Task):
    """A task whose models return one number per patient."""

    @abstractmethod
    def settings(self, configuration: Configuration) -> PrognosisSettings:
        """Return the task's part of a configuration."""

    @abstractmethod
    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the part of a network that maps an image and a clinical vector to a number."""

    def out_of_fold_needs(self, configuration: Configuration) -> dict[TaskName, dict[str, str]]:
        """Return the settings that need out-of-fold predictions, by the task that predicts."""
        settings, needs = self.settings(configuration), dict[TaskName, dict[str, str]]()
        if settings.masks == "predicted":
            needs["segmentation"] = {'masks = "predicted"': 'masks = "true"'}
        if len(self.kinds(configuration)) > 1:
            models = f'models = "{settings.models}"'
            needs[self.name] = {models: 'models = "networks" or "linear"'}
        return needs

    def with_inputs(
        self, patients: Sequence[PreparedPatient], runs: Path, configuration: Configuration
    ) -> Sequence[PreparedPatient]:
        """Return the patients.

        Raises
        ------
        InputError
            If the task learns from true lesions and a patient has no label map; training would
            treat the patient as one without lesions.
        """
        without = [p.patient_id for p in patients if p.patient.labels is None]
        if without and self.settings(configuration).masks == "true":
            raise InputError(
                f"expected a label map for every patient that {self.name} learns from, found "
                f'{len(without)} without, such as {without[0]}; set masks = "predicted" in '
                f"[{self.name}] of the configuration, or remove these patients from the table"
            )
        return patients

    def kinds(self, configuration: Configuration) -> tuple[MemberKind, ...]:
        """Return the kinds of models that the configuration sets."""
        return _KINDS[self.settings(configuration).models]

    @property
    @abstractmethod
    def ranking(self) -> Ranking:
        """The score by which kinds of models are compared out of fold."""

    def served(self, configuration: Configuration, run_folder: Path) -> Served:
        """Return all kinds; with `models = "best"`, networks only if they add something."""
        kinds = self.kinds(configuration)
        if self.settings(configuration).models != "best":
            return Served(kinds=kinds)
        outputs = self.ranking.read(run_folder / out_of_fold.FOLDER)
        both, linear = (
            mean_over_groups(
                self.ranking.metric,
                [outputs[column] for column in (name, *self.ranking.outcomes)],
                outputs["fold"],
            )
            for name in ("together", "linear")
        )
        patients = len(outputs)
        everybody = np.arange(patients)
        gain = paired_difference(both, linear, patients)
        kept = gain.value > 0
        return Served(
            kinds=kinds if kept else ("linear",),
            reason=f"Networks {'kept' if kept else 'left out'}: out of fold, {self.ranking.name} "
            f"{both(everybody):.3f} with networks and {linear(everybody):.3f} without, a gain of "
            f"{gain:+.3f} on {patients} patients.",
        )

    def features(
        self, configuration: Configuration, patients: Sequence[PreparedPatient]
    ) -> tuple[ClinicalFeature, ...]:
        """Return the clinical inputs, with the scale of the training patients."""
        settings = self.settings(configuration)
        records = [patient.patient.clinical for patient in patients]
        return fit_features(settings.clinical, records, settings.missing)

    @abstractmethod
    def fit_values(
        self, values: NDArray[np.float32], patients: Sequence[PreparedPatient]
    ) -> Linear:
        """Return a model fitted to patients and their `linear_inputs`."""

    def fit_linear(self, training: FoldTraining) -> dict[MemberKind, nn.Module]:
        """Return the linear model of a fold, if the configuration has linear models."""
        if "linear" not in self.kinds(training.configuration):
            return {}
        function = self.fit_values(
            self.linear_inputs(training.patients, training), training.patients
        )
        return {"linear": linear_model(function, len(training.features), len(MEASURES))}

    def measured_lesions(self, training: FoldTraining) -> Callable[[PreparedPatient], LabelVolume]:
        """Return a function that returns the lesions to measure, by default a patient's labels."""
        del training
        return lambda patient: patient.labels

    def linear_inputs(
        self, patients: Sequence[PreparedPatient], training: FoldTraining
    ) -> NDArray[np.float32]:
        """Return the inputs of a linear model, shape (patients, clinical features + measures)."""
        mask_of = self.measured_lesions(training)
        rows = [
            (*encode(p.patient.clinical, training.features), *measures_of(p, mask_of(p)))
            for p in patients
        ]
        return np.array(rows, dtype=np.float32)

    @torch.inference_mode()
    def outputs(
        self,
        models: Mapping[MemberKind, nn.Module],
        patients: Sequence[PreparedPatient],
        training: FoldTraining,
    ) -> dict[MemberKind, NDArray[np.float64]]:
        """Return the outputs of each model of a fold for patients, shape (patients,)."""
        outputs: dict[MemberKind, NDArray[np.float64]] = {}
        for kind, model in models.items():
            if isinstance(model, LinearModel):
                clinical, measures = np.split(
                    self.linear_inputs(patients, training), [len(training.features)], 1
                )
                values = model(torch.from_numpy(clinical), torch.from_numpy(measures))[:, 0]
            else:
                scorer, windows = self.scorer(model).eval(), self.windows(patients, training)
                samples = map(windows.__getitem__, range(len(windows)))
                values = torch.stack([_number(scorer, s, windows.channels) for s in samples])
            outputs[kind] = values.double().numpy()
        return outputs


def measures_of(patient: PreparedPatient, labels: LabelVolume) -> NDArray[np.float32]:
    """Return `LesionMeasures.vector` of the lesions in a patient's region."""
    ct_hu, pet_suv = np.asarray(patient.image, dtype=np.float32)
    measures = measure_lesions(labels, ct_hu, pet_suv, patient.undo.region)
    return measures.vector().astype(np.float32)


def by_kind(outputs: Iterable[tuple[Member, float]]) -> dict[str, list[tuple[Member, float]]]:
    """Return the outputs of all members and, if there are several kinds, those of each kind.

    Returns
    -------
    The outputs by the suffix of the score's name, which is empty for all members together.
    """
    everything = list(outputs)
    kinds = dict.fromkeys(member.kind for member, _ in everything)
    alone = {
        f"_{kind}_alone": [(m, value) for m, value in everything if m.kind == kind]
        for kind in (kinds if len(kinds) > 1 else ())
    }
    return {"": everything, **alone}


def _number(scorer: nn.Module, sample: Sample, channels: Sequence[Channel]) -> Tensor:
    batch = {name: value[None] for name, value in sample.items()}
    output: Tensor = scorer(network_input(batch, channels), batch["clinical"])
    return output.flatten()[0]
