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
from training.loop.hardware import TrainingError
from training.processes import gathered
from training.samples.dataset import Sample

LOG_EVERY_STEPS: Final = 5

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

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the loss; stop at once if it is not finite."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"expected a finite loss, found {loss.item()} at step {self.global_step}; lower "
                "the learning rate or train in 32-true precision, and use another folder of runs "
                "or delete this task's folder (but not the cache), because a run resumes only with "
                "the same settings"
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of the gradient, and warn early if it is not finite."""
        if self.global_step % LOG_EVERY_STEPS:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.log("gradient_norm", norm)
        if not torch.isfinite(norm):
            # In 16-mixed precision this is normal from time to time; the scaler skips the step.
            warnings.warn(
                f"the gradient is {norm.item()} at step {self.global_step}; if the loss does not "
                "fall, lower the learning rate or train in 32-true or bf16-mixed precision",
                stacklevel=2,
            )

    def validation_step(self, batch: Sample, _: int) -> None:
        """Keep the data about one patient that the scores need."""
        self._observations.append(self.validate(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the patients of all processes."""
        scores = self.scores(gathered(self._observations))
        self._observations.clear()
        # The scores are equal in all processes, so their mean is too.
        self.log_dict(scores, prog_bar=True, sync_dist=True)
