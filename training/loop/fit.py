"""The training loop that the three tasks share: Lightning, on one or several processes.

The order of the data and each sample depend only on (seed, epoch, patient), and dropout only on
(seed, epoch). A run that was stopped repeats the interrupted epoch with the same samples. On a CPU
it gives the same result; on GPUs only up to rounding, because cuDNN chooses algorithms by speed and
some of them add numbers in a varying order. The epochs of weight averaging continue the count of
the main training, so they use new samples.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.files import whole, write_whole
from shared.schema import Strict
from training.loop.failures import explained_failures
from training.loop.hardware import Hardware
from training.loop.late import LateWeights
from training.loop.log import log_callbacks, silence_libraries, validation_scores
from training.loop.module import LOG_EVERY_STEPS, TrainedModule
from training.processes import is_first_process
from training.samples.batches import EpochBatches

RESULT: Final = "result.json"
NETWORK: Final = "network.pt"
LATE: Final = "late.pt"
BEST: Final = "best.ckpt"
LAST: Final = "last.ckpt"


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
    """`result.json`: the result of training one fold's network, scored on the held-out patients.

    Attributes
    ----------
    kept : which weights are served.
    best : scores of the epoch that did best on these patients; empty if nobody was held out.
    averaged : scores of the mean after weight averaging, if there was any.
    late : scores of the weights that predict the held-out patients, who have not chosen them; empty
        if nobody was held out.
    train_seconds : total training time, even if the training was stopped and resumed.
    """

    kept: Literal["best checkpoint", "mean of weights", "late weights"]
    best: dict[str, float]
    averaged: dict[str, float] | None = None
    late: dict[str, float]
    train_seconds: float

    @property
    def optimism(self) -> dict[str, float]:
        """Each score of the best epoch minus the same score in `late`."""
        return {name: self.best[name] - value for name, value in self.late.items()}


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The two networks that a training returns.

    Attributes
    ----------
    network : the network to serve.
    late : the network that predicts the held-out patients, none of whom has chosen its weights.
    """

    network: nn.Module
    late: nn.Module


def fit(
    make_module: Callable[[], TrainedModule[Any]],
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    hardware: Hardware,
) -> Fitted:
    """Train, or resume from `folder`, and return the networks.

    Parameters
    ----------
    make_module : makes a module; called for the main training and for weight averaging.
    batches : a loader with an `EpochBatches` sampler.
    validation : a loader of the held-out patients. If there are none, nothing is validated and no
        epoch can be chosen: the late weights are served or, with weight averaging, its mean.
    folder : folder of the fold, for the checkpoints, TensorBoard's log, the weights (`network.pt`,
        `late.pt`) and the scores (`result.json`). If `result.json` exists, nothing is trained
        again.

    Raises
    ------
    TrainingError
        If the loss is not finite in many steps in a row, a loading process died, or memory is full.
    """
    module = make_module()
    if (folder / RESULT).exists():
        return _load(make_module, folder)
    schedule = module.schedule
    every = schedule.validate_every_epochs
    main = _fit(module, batches, validation, folder, hardware, schedule.epochs, every)
    is_validated = len(cast(Sized, validation.dataset)) > 0
    is_best = is_validated and schedule.checkpoint == "best"
    weights, late = main.best_weights if is_best else main.late_weights, main.late_weights
    result = FitResult(
        kept="best checkpoint" if is_best else "late weights",
        best=main.best,
        late=main.late,
        train_seconds=main.seconds,
    )
    if schedule.averaging is not None:
        mean = make_module()
        mean.network.load_state_dict(weights)
        mean.learning_rate, mean.cosine_decay = schedule.averaging.learning_rate, False
        mean.first_epoch = schedule.epochs
        last, within = schedule.averaging.epochs, folder / "averaging"
        more = _fit(mean, batches, validation, within, hardware, last, last, EpochAveraging())
        is_kept = (
            not is_validated
            or schedule.averaging.keep == "always"
            or more.best["score"] >= main.best["score"]
        )
        weights = more.best_weights if is_kept else weights
        if not is_best:
            late = weights
        result = FitResult(
            kept="mean of weights" if is_kept else "best checkpoint",
            best=main.best,
            averaged=more.best,
            late=main.late if is_best else more.best,
            train_seconds=main.seconds + more.seconds,
        )
    if is_first_process():
        save_weights(weights, folder / NETWORK)
        save_weights(late, folder / LATE)
        write_whole(folder / RESULT, result.model_dump_json(indent=1) + "\n")
    return Fitted(
        network=_network(make_module, weights),
        late=_network(make_module, late),
    )


def _load(make_module: Callable[[], TrainedModule[Any]], folder: Path) -> Fitted:
    network, late = (
        _network(make_module, torch.load(folder / name, weights_only=True))
        for name in (NETWORK, LATE)
    )
    return Fitted(network=network, late=late)


def _network(
    make_module: Callable[[], TrainedModule[Any]], weights: Mapping[str, Tensor]
) -> nn.Module:
    """Return a network with weights that Lightning has not moved or wrapped."""
    network = make_module().network
    network.load_state_dict(weights)
    return network.eval()


def save_weights(content: Mapping[str, Any], path: Path) -> None:
    """Write weights completely or not at all; raise OSError if the disk is full."""
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
        save_weights(checkpoint, Path(path))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The result of one run of the trainer: scores, weights of the network, and the time.

    Attributes
    ----------
    best, best_weights : scores and weights of the epoch with the best score. Without validation,
        the scores are empty, and the weights are those after the last epoch.
    late, late_weights : scores and weights of the mean over the last epochs; both empty in weight
        averaging. Without validation, the scores are empty.
    """

    best: dict[str, float]
    best_weights: dict[str, Tensor]
    late: dict[str, float]
    late_weights: dict[str, Tensor]
    seconds: float


def network_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a network from a file of weights or a checkpoint of its module."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix != Path(BEST).suffix:
        return content
    state: dict[str, Tensor] = content["state_dict"]
    prefix = "network."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _fit(
    module: TrainedModule[Any],
    batches: DataLoader[Any],
    validation: DataLoader[Any],
    folder: Path,
    hardware: Hardware,
    epochs: int,
    validate_every_epochs: int,
    averaging: EpochAveraging | None = None,
) -> _Run:
    """Train and, except in weight averaging, score the late weights too."""
    timer = Timer()
    is_validated = len(cast(Sized, validation.dataset)) > 0
    best = ModelCheckpoint(
        folder, "best", monitor="score", mode="max", enable_version_counter=False
    )
    last = ModelCheckpoint(
        folder, "last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    scores = _BestScores()
    late = LateWeights(epochs)
    extra = late if averaging is None else averaging
    cast(EpochBatches, batches.batch_sampler).first_epoch = module.first_epoch
    silence_libraries()
    trainer = lightning.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices or "auto",
        num_nodes=hardware.nodes,
        max_epochs=epochs,
        precision=hardware.precision_of(module.schedule),
        accumulate_grad_batches=hardware.accumulation_of(module.schedule),
        check_val_every_n_epoch=min(validate_every_epochs, epochs),
        callbacks=[
            *(extra, timer, scores),
            *([best] if is_validated else []),
            *(last, *log_callbacks(folder, epochs)),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        logger=TensorBoardLogger(folder, name=None, version="log"),
        plugins=[_WholeCheckpoints()],
        log_every_n_steps=LOG_EVERY_STEPS,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        benchmark=hardware.device == "cuda",
    )
    checkpoint = folder / LAST
    with explained_failures():
        trainer.fit(
            module,
            batches,
            validation if is_validated else None,
            ckpt_path=str(checkpoint) if checkpoint.exists() else None,
        )
    late_scores: dict[str, float] = {}
    if averaging is None and is_validated:
        module.network.load_state_dict(late.weights)
        with explained_failures():
            trainer.validate(module, validation, verbose=False)
        late_scores = validation_scores(trainer)
    return _Run(
        best=scores.best,
        best_weights=network_weights(folder / (BEST if is_validated else LAST)),
        late=late_scores,
        late_weights=late.weights,
        seconds=timer.time_elapsed(),
    )


class _BestScores(lightning.Callback):
    """Keeps all scores of the validation with the highest `score`, also in checkpoints."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Keep the scores of an epoch if they are the best so far."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        scores = validation_scores(trainer)
        if not self.best or scores["score"] > self.best["score"]:
            self.best = scores

    def state_dict(self) -> dict[str, Any]:
        """Return the scores for a checkpoint."""
        return dict(self.best)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores from a checkpoint."""
        self.best = dict(state_dict)
