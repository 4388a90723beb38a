"""Fits the scale of clinical values, and the code for a missing value, to a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from shared.clinical import NETWORK_VARIABLES, ClinicalFeature, ClinicalRecord


def fit_features(
    keys: Sequence[str],
    records: Sequence[ClinicalRecord],
    missing: Literal["minus one", "mean"],
) -> tuple[ClinicalFeature, ...]:
    """Return one feature for each clinical variable, in the given order.

    Variables that `shared.clinical.VARIABLES` z-normalises get the mean and the standard deviation
    of the records (0 and 1 if no record has a value). The other variables are not scaled.

    Parameters
    ----------
    keys : keys of `NETWORK_VARIABLES`.
    records : the records of the patients that the network is trained on.
    missing : the code for a missing value: -1, or the mean of the records that have a value (-1 if
        no record has one).
    """
    features = []
    for key in keys:
        values = [v for record in records if (v := getattr(record, key)) is not None]
        feature = ClinicalFeature(key=key)
        if values and NETWORK_VARIABLES[key].scale == "z-normalised":
            mean, std = float(np.mean(values)), float(np.std(values)) or 1.0
            feature = ClinicalFeature(key=key, mean=mean, std=std)
        if values and missing == "mean":
            code = (float(np.mean(values)) - feature.mean) / feature.std
            feature = feature.model_copy(update={"missing": code})
        features.append(feature)
    return tuple(features)
