"""A linear model of clinical values and lesion measures, as a module that can be exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearModel(nn.Module):
    """Maps the clinical vector and the lesion measures to a risk or a logit."""

    def __init__(self, clinical_features: int, measures: int) -> None:
        super().__init__()
        self.clinical_features, self.measures = clinical_features, measures
        self.output = nn.Linear(clinical_features + measures, 1)

    def forward(self, clinical: Tensor, measures: Tensor) -> Tensor:
        """Return the output, shape (batch, 1).

        Parameters
        ----------
        clinical : shape (batch, clinical_features), from `shared.clinical.encode`.
        measures : shape (batch, measures), from `shared.lesions.LesionMeasures.vector`.
        """
        output: Tensor = self.output(torch.cat([clinical, measures], dim=1))
        return output
