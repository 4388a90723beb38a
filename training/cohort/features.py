"""How clinical values are scaled for a model, from the patients trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from shared.clinical import ClinicalFeature
from training.cohort.cache import PreparedPatient


def features_of(
    keys: Sequence[str], patients: Sequence[PreparedPatient], missing: Literal["minus one", "mean"]
) -> tuple[ClinicalFeature, ...]:
    """Return how clinical values reach a network: age z-normalised on the patients, as the paper.

    Parameters
    ----------
    missing : the code for missing: -1, or the mean over the patients whose value is known (-1 if
        nobody's is).
    """
    features = []
    for key in keys:
        values = [v for p in patients if (v := getattr(p.patient.clinical, key)) is not None]
        feature = ClinicalFeature(key=key)
        if values and key == "age":
            mean, std = float(np.mean(values)), float(np.std(values)) or 1.0
            feature = ClinicalFeature(key=key, mean=mean, std=std)
        if values and missing == "mean":
            code = (float(np.mean(values)) - feature.mean) / feature.std
            feature = feature.model_copy(update={"missing": code})
        features.append(feature)
    return tuple(features)
