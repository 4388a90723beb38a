"""Computes once what a frozen encoder returns for a patient: the pooled features of a few windows.

Each epoch then trains only the head, and takes seconds.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from shared.models.networks.hpv_lesions import LesionHpvNetwork
from training.loop.hardware import Device
from training.samples.batches import Draw
from training.samples.channels import network_input
from training.samples.dataset import PatientSamples, Sample, Samples, Variation, Windows

Key: TypeAlias = tuple[str, str, int, int]
"""Hash of encoder and settings, patient ID, checksum of the label map, and number of the view."""


@dataclass(frozen=True, kw_only=True)
class PooledSamples(Dataset[Sample]):
    """Pooled features with a patient's targets, instead of windows.

    Attributes
    ----------
    features : for each patient, shape (views, features). A view is a window; the first one is
        placed as in serving, and not augmented.
    targets : for each patient, the values that a sample has in addition to `pooled`.
    variation : random changes of a training sample.
    """

    features: Sequence[Tensor]
    targets: Sequence[Mapping[str, Any]]
    variation: Variation

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.features)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return a random view of a patient, with `pooled` of shape (features,)."""
        index, seed = draw
        rng = np.random.default_rng(seed)
        views = self.features[index]
        sample = {"pooled": views[rng.integers(len(views))], **self.targets[index]}
        return self.variation(sample, rng)


@dataclass(frozen=True, kw_only=True)
class PooledWindows(Dataset[Sample]):
    """Pooled features of patients' windows, placed as in serving, for validation."""

    features: Sequence[Tensor]
    targets: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.features)

    def __getitem__(self, index: int) -> Sample:
        """Return a patient's first view."""
        return {"pooled": self.features[index][0], **self.targets[index]}


class FeatureStore:
    """Computes pooled features and keeps them, so that folds with the same encoder share them."""

    def __init__(self) -> None:
        self._kept: dict[Key, Tensor] = {}

    def features(
        self,
        network: LesionHpvNetwork,
        windows: Windows,
        *,
        device: Device,
        samples: Samples | None = None,
        views: int = 1,
    ) -> list[Tensor]:
        """Return the pooled features of each patient, shape (views, features).

        Parameters
        ----------
        windows : the patients as the container sees them, for the first view.
        samples : the same patients, augmented, for the views after the first; needed if there are
            several. The seed of a view depends only on its number and on the patient.
        views : number of views of a patient.
        """
        was_training = network.training
        network.to(device).eval()
        digest = _digest(network, windows)
        everybody = []
        for index, patient in enumerate(
            tqdm(windows.patients, desc="features of lesions", unit="patient")
        ):
            of_patient = []
            lesions = zlib.crc32(np.ascontiguousarray(patient.labels).tobytes())
            for view in range(views):
                key = (digest, patient.patient_id, lesions, view)
                if key not in self._kept:
                    if view == 0:
                        sample = windows[index]
                    else:
                        assert samples is not None, "views after the first one are augmented"
                        seed = zlib.crc32(f"{patient.patient_id} {view}".encode())
                        sample = samples[index, seed]
                    self._kept[key] = pooled(network, sample, windows, device)
                of_patient.append(self._kept[key])
            everybody.append(torch.stack(of_patient))
        network.cpu().train(was_training)
        return everybody


@torch.inference_mode()
def pooled(
    network: LesionHpvNetwork, sample: Sample, windows: PatientSamples, device: Device
) -> Tensor:
    """Return the pooled features of one sample, shape (features,)."""
    batch = {name: sample[name][None].to(device) for name in ("image", "labels")}
    features: Tensor = network.classifier().pooled(network_input(batch, windows.channels))
    return features[0].float().cpu().clone()


def _digest(network: LesionHpvNetwork, windows: Windows) -> str:
    """Return a hash of the encoder and of everything that decides what it sees of a patient."""
    digest = hashlib.sha256()
    for name, weight in network.encoder.state_dict().items():
        digest.update(name.encode() + weight.cpu().numpy().tobytes())
    settings = (network.pooling.levels, windows.channels, windows.window_zyx, windows.intensity)
    digest.update(repr(settings).encode())
    return digest.hexdigest()
