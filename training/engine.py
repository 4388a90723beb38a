"""The training loop that the three tasks share: Lightning, checkpoints, resume, best by score."""

from __future__ import annotations

import ctypes
import math
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from training.config import Schedule

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Tell glibc to reuse the large blocks that each CPU training step frees and takes again.

    By default it gives them back to the kernel, which must clear them anew: a step of the demo
    network took 1.5 s that way and takes 1.05 s so. Elsewhere than on Linux nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


class TrainedModule(lightning.LightningModule):
    """A network with the paper's optimiser; subclasses add the loss and the validation score.

    A subclass logs `score`, higher is better, after each validation.
    """

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule

    def configure_optimizers(self) -> Any:
        """Return Adam, and the half cosine where the schedule asks for it."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.schedule.learning_rate)
        if not self.schedule.cosine_decay:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def log_loss(self, loss: torch.Tensor) -> None:
        """Log the training loss, and stop at once where it is not a number."""
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss.item()} at step {self.global_step}; lower the learning "
                "rate or train in 32-true precision"
            )
        self.log("loss", loss, prog_bar=True)


def fit(
    module: TrainedModule,
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    run_folder: Path,
) -> nn.Module:
    """Train, or go on where `run_folder` was left, and return the best checkpoint's network."""
    keep_freed_memory()
    checkpoints = ModelCheckpoint(
        run_folder, filename="best", monitor="score", mode="max", save_last=True
    )
    trainer = lightning.Trainer(
        max_epochs=module.schedule.epochs,
        precision=module.schedule.precision,
        check_val_every_n_epoch=module.schedule.validate_every_epochs,
        callbacks=[checkpoints, TQDMProgressBar(refresh_rate=10)],
        logger=TensorBoardLogger(run_folder, name=None, version="log"),
        log_every_n_steps=5,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    last = run_folder / "last.ckpt"
    trainer.fit(module, batches, validation, ckpt_path=str(last) if last.exists() else None)
    best = torch.load(checkpoints.best_model_path, map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    return module.network.eval()
