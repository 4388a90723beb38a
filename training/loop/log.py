"""Prints the progress of a training: bars in a terminal, otherwise one line for each epoch.

The lines are always written to `log.txt` too.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from training.processes import is_first_process

LOG: Final = "log.txt"

_HARMLESS: Final = (
    r"Found \d+ module\(s\) in eval mode",  # a frozen encoder
    "Checkpoint directory .* exists and is not empty",  # a training resumes from there
    ".* does not have many workers",  # the user chooses their number
    "The number of training batches .* is smaller than the log",  # the log has a line per epoch
    # Lightning 2.6 calls torch.utils._pytree in a way that torch 2.13 will drop.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


class _NoAdvertisement(logging.Filter):
    """Drops the tips of Lightning, which advertise its company's services."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is not a tip."""
        return "Tip: For seamless cloud" not in record.getMessage()


_NO_ADVERTISEMENT: Final = _NoAdvertisement()


def silence_libraries() -> None:
    """Hide harmless warnings of the libraries, and Lightning's advertisements."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message)
    # Adding a filter twice has no effect.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_NO_ADVERTISEMENT)


def log_callbacks(folder: Path, epochs: int) -> list[Callback]:
    """Return the callbacks that report the progress of a training in a folder."""
    is_terminal = sys.stderr.isatty()
    bars: list[Callback] = [TQDMProgressBar(refresh_rate=10)] if is_terminal else []
    return [EpochLog(folder, epochs, is_printed=not is_terminal), *bars]


def validation_scores(trainer: lightning.Trainer) -> dict[str, float]:
    """Return the scores of the validation that has just ended."""
    names = set(trainer.callback_metrics) - {"loss", "loss_step", "gradient_norm"}
    return {name: float(trainer.callback_metrics[name]) for name in sorted(names)}


class EpochLog(Callback):
    """Writes a line for each epoch: mean loss, scores if there was a validation, time.

    Parameters
    ----------
    folder : the lines are appended to `log.txt` in this folder, by the first process.
    epochs : total number of epochs.
    is_printed : whether the lines are also printed.
    """

    def __init__(self, folder: Path, epochs: int, *, is_printed: bool) -> None:
        self._path = folder / LOG
        self._epochs = epochs
        self._is_printed = is_printed
        self._seconds: list[float] = []
        self._losses: list[Any] = []
        self._scores: dict[str, float] = {}
        self._started = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        """Begin a line."""
        self._started = time.monotonic()
        self._losses.clear()
        self._scores = {}

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        *_: object,
    ) -> None:
        """Keep the loss of a step on its device."""
        self._losses.append(outputs["loss"].detach())

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Keep the scores."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._scores = validation_scores(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Write the line."""
        if not is_first_process():
            return
        epoch = trainer.current_epoch + 1
        self._seconds.append(time.monotonic() - self._started)
        mean_seconds = sum(self._seconds) / len(self._seconds)
        left = timedelta(seconds=round(mean_seconds * (self._epochs - epoch)))
        loss = sum(float(loss) for loss in self._losses) / len(self._losses)
        scores = "".join(f", {name} {value:.3f}" for name, value in self._scores.items())
        line = (
            f"{self._path.parent.name}: epoch {epoch} of {self._epochs}: loss {loss:.4f}{scores}, "
            f"{self._seconds[-1]:.0f} s, {left} left"
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        if self._is_printed:
            print(line, flush=True)
