"""What the trainings of Tasks 2 and 3 share: networks and linear models of one fold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.clinical import ClinicalFeature, encode
from shared.conventions import LabelVolume
from shared.errors import InputError
from shared.lesions import MEASURES, measure_lesions
from shared.models.card import Kind
from shared.models.networks.linear import LinearModel
from training.cohort.cache import Cached
from training.cohort.features import fit_features
from training.config import Configuration, PrognosisSettings
from training.samples.dataset import Windows
from training.tasks.linear import Linear, linear_model
from training.train import Job, Task

_KINDS: dict[str, tuple[Kind, ...]] = {
    "networks": ("network",),
    "linear": ("linear",),
    "both": ("network", "linear"),
}


class PrognosisTask(Task):
    """A task whose models say one number of a patient."""

    @abstractmethod
    def settings(self, configuration: Configuration) -> PrognosisSettings:
        """Return the task's part of a configuration."""

    @abstractmethod
    def windows(self, patients: Sequence[Cached], job: Job) -> Windows:
        """Return patients' windows as serving takes them."""

    @abstractmethod
    def scorer(self, network: nn.Module) -> nn.Module:
        """Return the part of a network that serves: from image and clinical vector to a number."""

    def fed(
        self, patients: Sequence[Cached], runs: Path, configuration: Configuration
    ) -> Sequence[Cached]:
        """Return the patients.

        Raises
        ------
        InputError
            If true lesions are learnt from and a patient has none outlined: it would seem that
            there are none.
        """
        without = [p.files.patient_id for p in patients if p.files.labels is None]
        if without and self.settings(configuration).masks == "true":
            raise InputError(
                f"expected a label map of every patient that {self.name} learns from, found "
                f'{len(without)} without, such as {without[0]}; set masks = "predicted" in '
                f"[{self.name}] of the configuration, or leave them out of the table"
            )
        return patients

    def kinds(self, configuration: Configuration) -> tuple[Kind, ...]:
        """Return what is trained."""
        return _KINDS[self.settings(configuration).models]

    def features(
        self, configuration: Configuration, patients: Sequence[Cached]
    ) -> tuple[ClinicalFeature, ...]:
        """Return the clinical inputs, scaled on the patients trained on."""
        settings = self.settings(configuration)
        records = [patient.files.clinical for patient in patients]
        return fit_features(settings.clinical, records, settings.missing)

    @abstractmethod
    def fit_linear(self, values: NDArray[np.float32], patients: Sequence[Cached]) -> Linear:
        """Return a model fitted to patients, with what `linear_inputs` says of them."""

    def fitted(self, job: Job) -> dict[Kind, nn.Module]:
        """Return the linear model of a fold, where the configuration asks for one."""
        if "linear" not in self.kinds(job.configuration):
            return {}
        function = self.fit_linear(self.linear_inputs(job.fitted, job), job.fitted)
        return {"linear": linear_model(function, len(job.features), len(MEASURES))}

    def measured_lesions(self, job: Job) -> Callable[[Cached], LabelVolume]:
        """Return how to find the lesions that are measured: a patient's own, as `fed` gave them."""
        del job
        return lambda patient: patient.labels

    def linear_inputs(self, patients: Sequence[Cached], job: Job) -> NDArray[np.float32]:
        """Return what a linear model sees, shape (patients, clinical features + measures)."""
        mask_of = self.measured_lesions(job)
        rows = [
            (*encode(p.files.clinical, job.features), *measures_of(p, mask_of(p))) for p in patients
        ]
        return np.array(rows, dtype=np.float32)

    @torch.inference_mode()
    def outputs(
        self, models: Mapping[Kind, nn.Module], patients: Sequence[Cached], job: Job
    ) -> dict[Kind, NDArray[np.float64]]:
        """Return what each model of a fold says of patients, shape (patients,)."""
        said: dict[Kind, NDArray[np.float64]] = {}
        for kind, model in models.items():
            if isinstance(model, LinearModel):
                clinical, measures = np.split(
                    self.linear_inputs(patients, job), [len(job.features)], 1
                )
                values = model(torch.from_numpy(clinical), torch.from_numpy(measures))[:, 0]
            else:
                scorer, windows = self.scorer(model).eval(), self.windows(patients, job)
                samples = map(windows.__getitem__, range(len(windows)))
                values = torch.stack([_number(scorer, s) for s in samples])
            said[kind] = values.double().numpy()
        return said


def measures_of(patient: Cached, labels: LabelVolume) -> NDArray[np.float32]:
    """Return what lesions on a patient's region measure, as `LesionMeasures.vector` orders it."""
    ct_hu, pet_suv = np.asarray(patient.image, dtype=np.float32)
    measures = measure_lesions(labels, ct_hu, pet_suv, patient.undo.region)
    return measures.vector().astype(np.float32)


def _number(scorer: nn.Module, sample: Mapping[str, Tensor]) -> Tensor:
    said: Tensor = scorer(sample["image"][None], sample["clinical"][None])
    return said.flatten()[0]
