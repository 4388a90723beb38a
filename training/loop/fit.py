"""The training loop that the three tasks share: Lightning, on one or several processes.

The order of the data and each sample depend only on (seed, epoch, patient), and dropout only on
(seed, epoch). A run that was stopped repeats the interrupted epoch with the same samples. On a CPU
it gives the same result; on GPUs only up to rounding, because cuDNN chooses algorithms by speed and
some of them add in any order. The epochs of weight averaging continue the count of the main
training, so they use new samples.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.files import whole, write_whole
from shared.schema import Strict
from training.loop.failures import explained_failures
from training.loop.hardware import Hardware, keep_freed_memory
from training.loop.module import LOG_EVERY_STEPS, TrainedModule
from training.processes import is_first_process
from training.samples.batches import EpochBatches

RESULT: Final = "result.json"
NETWORK: Final = "network.pt"


class EpochAveraging(WeightAveraging):
    """Averages the weights after each epoch; validation and checkpoints use the mean.

    The mean is updated at the last step of an epoch and not at the end of the epoch, because
    validation runs between the two.
    """

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Count the steps of an epoch."""
        self._steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether the last step was the last step of its epoch."""
        return step_idx is not None and (step_idx + 1) % self._steps == 0


class FitResult(Strict):
    """`result.json`: the result of training one fold's network.

    Attributes
    ----------
    kept : which weights the network has.
    best, averaged : scores of the best checkpoint and, after weight averaging, of the mean.
    train_seconds : total training time, also if the training was stopped and resumed.
    """

    kept: Literal["best checkpoint", "mean of weights"]
    best: dict[str, float]
    averaged: dict[str, float] | None = None
    train_seconds: float

    @property
    def scores(self) -> dict[str, float]:
        """The scores of the weights that were kept."""
        return (
            self.best if self.averaged is None or self.kept != "mean of weights" else self.averaged
        )


def fit(
    make_module: Callable[[], TrainedModule[Any]],
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    hardware: Hardware,
) -> nn.Module:
    """Train, or resume from `folder`, and return the chosen network.

    Parameters
    ----------
    make_module : makes a module; called for the main training and for weight averaging.
    batches : a loader with an `EpochBatches` sampler.
    folder : folder of the fold, for the checkpoints, TensorBoard's log, `network.pt` with the
        chosen weights and `result.json` with the scores. If `result.json` exists, nothing is
        trained again.

    Raises
    ------
    TrainingError
        If the loss is not finite in many steps in a row, a loading process died, or memory is full.
    """
    module = make_module()
    if (folder / RESULT).exists():
        module.network.load_state_dict(torch.load(folder / NETWORK, weights_only=True))
        return module.network.eval()
    keep_freed_memory()
    schedule = module.schedule
    every = schedule.validate_every_epochs
    best, seconds = _fit(module, batches, validation, folder, hardware, schedule.epochs, every)
    weights = _load_best(folder)
    result = FitResult(kept="best checkpoint", best=best, train_seconds=seconds)
    if schedule.averaging is not None:
        mean = make_module()
        mean.load_state_dict(weights)
        mean.learning_rate, mean.cosine_decay = schedule.averaging.learning_rate, False
        mean.first_epoch = schedule.epochs
        last, within = schedule.averaging.epochs, folder / "averaging"
        averaged, more = _fit(
            mean, batches, validation, within, hardware, last, last, EpochAveraging()
        )
        is_kept = schedule.averaging.keep == "always" or averaged["score"] >= best["score"]
        result = FitResult(
            kept="mean of weights" if is_kept else "best checkpoint",
            best=best,
            averaged=averaged,
            train_seconds=seconds + more,
        )
        weights = _load_best(within) if is_kept else weights
    fresh = make_module()  # a module that Lightning has not moved or wrapped
    fresh.load_state_dict(weights)
    if is_first_process():
        save_weights(fresh.network, folder / NETWORK)
        write_whole(folder / RESULT, result.model_dump_json(indent=1) + "\n")
    return fresh.network.eval()


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights completely or not at all; raise OSError if the disk is full."""
    _save(network.state_dict(), path)


def _save(content: Mapping[str, Any], path: Path) -> None:
    stored = io.BytesIO()  # torch.save to a file turns a full disk into a RuntimeError
    torch.save(content, stored)
    with whole(path) as draft:
        draft.write_bytes(stored.getbuffer())


class _WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically, so a full disk leaves the previous checkpoint intact.

    Lightning writes a draft to the temporary folder. If that is on another disk, moving the draft
    is a copy, which is not atomic.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint completely or not at all; raise OSError if the disk is full."""
        del storage_options
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _save(checkpoint, Path(path))


def _load_best(folder: Path) -> dict[str, Tensor]:
    checkpoint = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    state: dict[str, Tensor] = checkpoint["state_dict"]
    return state


def _fit(
    module: TrainedModule[Any],
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    hardware: Hardware,
    epochs: int,
    validate_every_epochs: int,
    averaging: EpochAveraging | None = None,
) -> tuple[dict[str, float], float]:
    """Train; return the scores of the best checkpoint, `best.ckpt`, and the training time in s."""
    timer = Timer()
    best = ModelCheckpoint(
        folder, "best", monitor="score", mode="max", enable_version_counter=False
    )
    last = ModelCheckpoint(
        folder, "last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    scores = _BestScores()
    extra = [] if averaging is None else [averaging]
    cast(EpochBatches, batches.batch_sampler).first_epoch = module.first_epoch
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", ".* does not have many workers")  # the user chooses
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the log")
    trainer = lightning.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices or "auto",
        num_nodes=hardware.nodes,
        max_epochs=epochs,
        precision=hardware.precision_of(module.schedule),
        accumulate_grad_batches=hardware.accumulation_of(module.schedule),
        check_val_every_n_epoch=min(validate_every_epochs, epochs),
        callbacks=[*extra, timer, scores, best, last, TQDMProgressBar(refresh_rate=10)],
        logger=TensorBoardLogger(folder, name=None, version="log"),
        plugins=[_WholeCheckpoints()],
        log_every_n_steps=LOG_EVERY_STEPS,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        benchmark=hardware.device == "cuda",
    )
    checkpoint = folder / "last.ckpt"
    with explained_failures():
        trainer.fit(
            module, batches, validation, ckpt_path=str(checkpoint) if checkpoint.exists() else None
        )
    return scores.best, timer.time_elapsed()


class _BestScores(lightning.Callback):
    """Keeps all scores of the validation with the highest `score`, also in checkpoints."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Keep the logged scores if they are the best so far."""
        names = set(trainer.callback_metrics) - {"loss", "loss_step", "gradient_norm"}
        found = {name: float(trainer.callback_metrics[name]) for name in sorted(names)}
        if not self.best or found["score"] > self.best["score"]:
            self.best = found

    def state_dict(self) -> dict[str, Any]:
        """Return the scores for a checkpoint."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores from a checkpoint."""
        self.best = dict(state_dict)
