"""A linear model of clinical values and measures of lesions, as a graph beside the networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearModel(nn.Module):
    """From clinical vector and measures of the lesions to a risk or a logit."""

    def __init__(self, clinical_features: int, measures: int) -> None:
        super().__init__()
        self.clinical_features, self.measures = clinical_features, measures
        self.output = nn.Linear(clinical_features + measures, 1)

    def forward(self, clinical: Tensor, measures: Tensor) -> Tensor:
        """Return the output, shape (batch, 1).

        Parameters
        ----------
        clinical : shape (batch, clinical_features), as `shared.clinical.encode` makes it.
        measures : shape (batch, measures), as `shared.lesions.LesionMeasures.vector` does.
        """
        output: Tensor = self.output(torch.cat([clinical, measures], dim=1))
        return output
