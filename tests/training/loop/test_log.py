"""What a training prints without a terminal, and what it keeps libraries from printing."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from training.loop.log import LOG, EpochLog, silence_libraries


def run_epoch(log: EpochLog, epoch: int, losses: list[float], scores: dict[str, float]) -> None:
    trainer: Any = SimpleNamespace(
        current_epoch=epoch,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        callback_metrics={"loss": 9.0, "gradient_norm": 9.0, **scores},
    )
    log.on_train_epoch_start()
    for loss in losses:
        log.on_train_batch_end(trainer, trainer, {"loss": torch.tensor(loss)})
    if scores:
        log.on_validation_end(trainer, trainer)
    log.on_train_epoch_end(trainer, trainer)


def test_each_epoch_has_a_line_with_mean_loss_scores_and_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fold0"
    log = EpochLog(folder, 3, is_printed=True)
    run_epoch(log, 0, [1.0, 2.0], {})
    run_epoch(log, 1, [0.5], {"score": 1.25, "gtvp_dice": 0.5})
    lines = (folder / LOG).read_text().splitlines()
    assert lines == [
        "fold0: epoch 1 of 3: loss 1.5000, 0 s, 0:00:00 left",
        "fold0: epoch 2 of 3: loss 0.5000, gtvp_dice 0.500, score 1.250, 0 s, 0:00:00 left",
    ]
    assert capsys.readouterr().out.splitlines() == lines
    resumed = EpochLog(folder, 3, is_printed=False)
    run_epoch(resumed, 2, [0.25], {})
    assert (folder / LOG).read_text().splitlines()[:2] == lines
    assert len((folder / LOG).read_text().splitlines()) == 3
    assert capsys.readouterr().out == ""


def test_time_left_is_the_mean_time_of_the_epochs_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 100.0, 100.0, 300.0])
    monkeypatch.setattr("training.loop.log.time.monotonic", lambda: next(times))
    log = EpochLog(tmp_path, 50, is_printed=False)
    run_epoch(log, 0, [1.0], {})
    run_epoch(log, 1, [1.0], {})
    first, second = (tmp_path / LOG).read_text().splitlines()
    assert first.endswith("100 s, 1:21:40 left")
    assert second.endswith("200 s, 2:00:00 left")


def test_advertisements_are_dropped_and_other_messages_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    silence_libraries()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger=logger.name):
            rank_zero_info("💡 Tip: For seamless cloud logging, try installing something")
            rank_zero_info("Restoring states from the checkpoint path")
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message for record in caplog.records if record.name == logger.name][:1] == [
        "Restoring states from the checkpoint path"
    ]


def test_only_known_warnings_are_ignored() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence_libraries()
        warnings.warn("Checkpoint directory x exists and is not empty", stacklevel=1)
        with pytest.raises(UserWarning, match=re.escape("something else")):
            warnings.warn("something else", stacklevel=1)
