"""The late weights: the mean of a network's weights over the last epochs of its training.

The best epoch is the one with the best score on the held-out patients: these patients choose it, so
its score on the same patients is too good. They do not choose the late weights. The predictions and
scores of held-out patients therefore come from the late weights. The best epoch's score minus that
of the late weights is called optimism. A mean of several epochs is steadier than the last epoch
alone, whose score depends on where the optimiser happened to stop.

References
----------
Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization, UAI.
Cawley and Talbot 2010, On over-fitting in model selection and subsequent selection bias in
performance evaluation, Journal of Machine Learning Research 11:2079-2107.
"""

from __future__ import annotations

import math
from typing import Any, Final

import lightning
import torch
from torch import Tensor

LATE_SHARE: Final = 0.1
"""Share of the epochs that is averaged, rounded up to whole epochs."""


class LateWeights(lightning.Callback):
    """Averages `module.network` after each of the last epochs; a checkpoint keeps the mean.

    Running statistics of batch norm are averaged like weights. That is close to what they would be
    for the mean, because the weights of the last epochs are close to each other.
    """

    def __init__(self, epochs: int) -> None:
        """Average over the last `LATE_SHARE` of this number of epochs."""
        self._first = epochs - math.ceil(LATE_SHARE * epochs)
        self._count = 0
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Add the weights of an epoch."""
        if trainer.current_epoch < self._first:
            return
        self._count += 1
        with torch.no_grad():
            for name, weight in module.network.state_dict().items():
                value, mean = weight.detach().cpu(), self.weights.get(name)
                if mean is not None and value.is_floating_point():
                    value = mean + (value - mean) / self._count
                self.weights[name] = value.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"count": self._count, "weights": dict(self.weights)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self._count, self.weights = state_dict["count"], dict(state_dict["weights"])
