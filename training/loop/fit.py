"""The training loop that the three tasks share: Lightning, on one or several processes.

The order of the data and each sample follow from (seed, epoch, patient), dropout from (seed,
epoch); a run that was stopped repeats the epoch it was in and ends where it would have ended.
Averaging counts its epochs on from those of the training proper, so that it sees new samples.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.errors import HecktorError
from shared.files import whole, write_whole
from training.config import Precision, Schedule
from training.processes import gathered, is_first_process
from training.samples.dataset import EpochBatches, Sample

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4

RESULT: Final = "result.json"
NETWORK: Final = "network.pt"
LOG_EVERY_STEPS: Final = 5

Accelerator: TypeAlias = Literal["auto", "gpu", "cpu"]
Device: TypeAlias = Literal["cuda", "cpu"]

Seen = TypeVar("Seen")
"""What validation keeps of a patient."""


class TrainingError(HecktorError):
    """A training went wrong in a way that its user can mend."""


@dataclass(frozen=True)
class Hardware:
    """What a training runs on.

    Attributes
    ----------
    devices : GPUs of each machine (CPU: processes); None takes all GPUs, or one process.
    nodes : machines.
    accelerator : "auto" takes GPUs where torch sees any.
    precision, accumulate_batches : instead of those of the configuration.
    """

    devices: int | None = None
    nodes: int = 1
    accelerator: Accelerator = "auto"
    precision: Precision | None = None
    accumulate_batches: int | None = None

    @property
    def device(self) -> Device:
        """What one process works on."""
        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        all_gpus = torch.cuda.device_count() if self.device == "cuda" else 1
        return (self.devices or all_gpus) * self.nodes

    def check(self) -> None:
        """Raise TrainingError if this machine does not have it."""
        if self.accelerator == "gpu" and self.device != "cuda":
            raise TrainingError(
                "expected a GPU that torch sees, as --accelerator gpu asks, found none; install a "
                "CUDA build of torch, or leave the option out"
            )
        if self.device == "cuda" and (self.devices or 0) > torch.cuda.device_count():
            raise TrainingError(
                f"expected the {self.devices} GPUs of --devices, found {torch.cuda.device_count()}"
            )


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


class TrainedModule(lightning.LightningModule, Generic[Seen]):
    """A network with the paper's optimiser; subclasses add the loss and the validation score."""

    def __init__(self, network: nn.Module, schedule: Schedule, seed: int) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.seed = seed
        self.learning_rate = schedule.learning_rate
        self.cosine_decay = schedule.cosine_decay
        self.first_epoch = 0
        self._seen: list[Seen] = []

    def loss(self, batch: Sample) -> Tensor:
        """Return the loss of a batch."""
        raise NotImplementedError

    def validate(self, batch: Sample) -> Seen:
        """Return what the score needs to know of one patient."""
        raise NotImplementedError

    def scores(self, seen: Sequence[Seen]) -> dict[str, float]:
        """Return scores over all patients; `score`, higher is better, selects the checkpoint."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        """Return Adam, and the half cosine where the schedule asks for it."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        if not self.cosine_decay:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        decay = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Make dropout a function of seed, epoch and process."""
        epoch = self.first_epoch + self.current_epoch
        torch.manual_seed(self.seed + 1000 * epoch + self.global_rank)

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """Return the loss, and stop at once where it is not a number."""
        loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.global_step}; lower the learning "
                "rate or train in 32-true precision, in another folder of runs or after deleting "
                "this task's (its cache may stay), for a run goes on only as it began"
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the norm of the gradient, and warn early where it is not finite."""
        if self.global_step % LOG_EVERY_STEPS:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.log("gradient_norm", norm)
        if not torch.isfinite(norm):
            # Now and then that is normal in 16-mixed: its scaler leaves such a step out.
            warnings.warn(
                f"the gradient is {norm.item()} at step {self.global_step}; if the loss does not "
                "fall, lower the learning rate or train in 32-true or bf16-mixed precision",
                stacklevel=2,
            )

    def validation_step(self, batch: Sample, _: int) -> None:
        """Keep what the score needs to know of one patient."""
        self._seen.append(self.validate(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the patients of all processes."""
        scores = self.scores(gathered(self._seen))
        self._seen.clear()
        # They are the same in all processes, so their mean over these is too.
        self.log_dict(scores, prog_bar=True, sync_dist=True)


class EpochAveraging(WeightAveraging):
    """The mean of the weights at the end of each epoch; validation and checkpoints see the mean.

    The last step of an epoch, not its end, is when the mean is taken, since validation comes
    between the two.
    """

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Count the steps of an epoch."""
        self._steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the step that was taken is the last of its epoch."""
        return step_idx is not None and (step_idx + 1) % self._steps == 0


@dataclass(frozen=True)
class Result:
    """How a training ended.

    Attributes
    ----------
    kept : which weights the network has.
    best, averaged : scores of the best checkpoint and, where there was averaging, of the mean.
    train_seconds : spent on it, in all its parts if it was stopped in between.
    """

    kept: str
    best: dict[str, float]
    averaged: dict[str, float] | None
    train_seconds: float


def fit(
    make_module: Callable[[], TrainedModule[Any]],
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    hardware: Hardware,
) -> nn.Module:
    """Train, or go on where `folder` was left, and return the chosen network.

    Parameters
    ----------
    make_module : called for the training proper and again for averaging.
    batches : of an `EpochBatches` sampler.
    folder : of the run; gets the checkpoints, TensorBoard's log, `network.pt` with the chosen
        weights and `result.json` with the scores. Where these two are, nothing is trained again.

    Raises
    ------
    TrainingError
        If the loss is not finite.
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
    result = Result("best checkpoint", best, None, seconds)
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
        kept = "mean of weights" if is_kept else "best checkpoint"
        result = Result(kept, best, averaged, seconds + more)
        weights = _load_best(within) if is_kept else weights
    fresh = make_module()  # one that Lightning has not moved or wrapped
    fresh.load_state_dict(weights)
    if is_first_process():
        save_weights(fresh.network, folder / NETWORK)
        write_whole(folder / RESULT, json.dumps(vars(result), indent=1) + "\n")
    return fresh.network.eval()


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, whole or not at all; OSError where the disk is full."""
    _save(network.state_dict(), path)


def _save(content: Mapping[str, Any], path: Path) -> None:
    stored = io.BytesIO()  # torch.save to a file makes a RuntimeError of a full disk
    torch.save(content, stored)
    with whole(path) as draft:
        draft.write_bytes(stored.getbuffer())


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints drafted where they go, so that a full disk leaves the one before as it was.

    Lightning drafts in the folder for temporary files, and across disks its move is a copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint, whole or not at all; OSError where the disk is full."""
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
    """Train; return the scores of the best checkpoint, `best.ckpt`, and the seconds it took."""
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
        precision=hardware.precision or module.schedule.precision,
        accumulate_grad_batches=hardware.accumulate_batches or module.schedule.accumulate_batches,
        check_val_every_n_epoch=min(validate_every_epochs, epochs),
        callbacks=[*extra, timer, scores, best, last, TQDMProgressBar(refresh_rate=10)],
        logger=TensorBoardLogger(folder, name=None, version="log"),
        plugins=[_WholeCheckpoints()],
        log_every_n_steps=LOG_EVERY_STEPS,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    checkpoint = folder / "last.ckpt"
    trainer.fit(
        module, batches, validation, ckpt_path=str(checkpoint) if checkpoint.exists() else None
    )
    return scores.best, timer.time_elapsed()


class _BestScores(lightning.Callback):
    """All scores of the validation with the highest `score`, through checkpoints."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Compare the scores just logged with the best."""
        names = set(trainer.callback_metrics) - {"loss", "loss_step", "gradient_norm"}
        found = {name: float(trainer.callback_metrics[name]) for name in sorted(names)}
        if not self.best or found["score"] > self.best["score"]:
            self.best = found

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.best = dict(state_dict)
