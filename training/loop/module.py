"""A network with its optimiser, loss and validation, as a Lightning module."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import lightning
import torch
from torch import Tensor, nn

from training.config import Schedule
from training.loop.hardware import TrainingError, keep_freed_memory
from training.processes import gathered
from training.samples.dataset import Sample

LOG_EVERY_STEPS: Final = 5
MOST_LEFT_OUT: Final = 10
"""A training stops when this many steps in a row are left out. In 16-mixed precision, the gradient
scaler deliberately starts with a scale that is too large, and the first few steps are left out
until the scale is small enough."""

Observation = TypeVar("Observation")
"""The data about one patient that validation keeps for the scores."""


class TrainedModule(lightning.LightningModule, ABC, Generic[Observation]):
    """A network with the paper's optimiser; subclasses add the loss and the validation scores."""

    def __init__(self, network: nn.Module, schedule: Schedule, seed: int) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.seed = seed
        self.learning_rate = schedule.learning_rate
        self.cosine_decay = schedule.cosine_decay
        self.first_epoch = 0
        self._observations: list[Observation] = []
        self._left_out = 0
        self._last_loss = torch.tensor(0.0)

    @abstractmethod
    def loss(self, batch: Sample) -> Tensor:
        """Return the loss of a batch."""

    @abstractmethod
    def validate(self, batch: Sample) -> Observation:
        """Return the data about one patient that the scores need."""

    @abstractmethod
    def scores(self, observations: Sequence[Observation]) -> dict[str, float]:
        """Return scores of all patients; `score` selects the checkpoint, and higher is better."""

    def configure_optimizers(self) -> Any:
        """Return Adam, with the decay along a half cosine if it is configured."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        if not self.cosine_decay:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Set the random state, so that dropout depends only on seed, epoch and process."""
        epoch = self.first_epoch + self.current_epoch
        torch.manual_seed(self.seed + 1000 * epoch + self.global_rank)

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Let the first batch of an epoch decide whether freed memory is kept."""
        if batch_idx == 0:
            keep_freed_memory(batch)

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the loss."""
        loss = self.loss(batch)
        self._last_loss = loss.detach()
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave the step out if the gradient is not finite; log the norm of the gradient.

        The processes of a training have averaged their gradients by now. All of them therefore
        leave out the same steps, even if the loss was not finite in only one process.

        Raises
        ------
        TrainingError
            After `MOST_LEFT_OUT` such steps in a row.
        """
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.global_step % LOG_EVERY_STEPS == 0:
            self.log("gradient_norm", norm)
        if torch.isfinite(norm):
            self._left_out = 0
            return
        self._left_out += 1
        what = (
            f"the gradient is {norm.item()} and the loss {float(self._last_loss)} at step "
            f"{self.global_step}"
        )
        if self._left_out == MOST_LEFT_OUT:
            raise TrainingError(
                f"expected a finite gradient, but {what}, and {MOST_LEFT_OUT} steps in a row were "
                "left out; lower the learning rate or train in 32-true precision, and use another "
                "folder of runs or delete this task's folder (but not the cache), because a run "
                "resumes only with the same settings"
            )
        for parameter in self.network.parameters():
            parameter.grad = None
        warnings.warn(f"{what}: the step is left out", stacklevel=2)

    def validation_step(self, batch: Sample, _: int) -> None:
        """Keep the data about one patient that the scores need."""
        self._observations.append(self.validate(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the patients of all processes."""
        scores = self.scores(gathered(self._observations))
        self._observations.clear()
        # The scores are equal in all processes, so the averaging by `sync_dist` changes nothing.
        self.log_dict(scores, prog_bar=True, sync_dist=True)
