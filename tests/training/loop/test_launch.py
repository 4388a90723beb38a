"""The real command line on two processes, killed and resumed; slow: `./run_tests.sh -m slow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from shared.models.card import SegmentationCard, load_card
from tests.training.synthetic import TINY
from training.loop.fit import RESULT
from training.tasks import out_of_fold

ROOT = Path(__file__).resolve().parents[3]


def start(log: Path, *words: object) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that its processes can be killed together."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen[bytes], log: Path) -> str:
    try:
        code = process.wait(timeout=3600)
    finally:
        kill(process)
    text = log.read_text(errors="replace")
    assert code == 0, text[-3000:]
    return text


def kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # all have ended
        return
    process.wait()


@pytest.mark.slow
def test_two_processes_are_killed_resumed_and_export_one_model(tmp_path: Path) -> None:
    """Three epochs, killed after the first, and two of averaging; three of eight held out."""
    cohort, runs, model, log = (tmp_path / name for name in ("cohort", "runs", "model", "log"))
    made = start(log, "-m", "training.phantom", cohort, "--patients", 8, "--seed", 5, "--small",
                 "--tasks", 1)  # fmt: skip
    finish(made, log)
    settings = tmp_path / "tiny.toml"
    settings.write_text(TINY.read_text().replace("\nepochs = 2", "\nepochs = 3", 1))
    command = (
        "-m", "training", "segmentation", cohort, runs, "--configuration", settings,
        "--held-out", 3, "--workers", 0, "--devices", 2, "--accelerator", "cpu", "--model", model,
    )  # fmt: skip
    fold = runs / "segmentation/fold0"

    first = start(log, *command)
    while first.poll() is None and not (fold / "last.ckpt").exists():
        time.sleep(0.1)
    assert first.poll() is None, log.read_text(errors="replace")[-3000:]
    kill(first)
    assert not (fold / RESULT).exists()

    text = finish(start(log, *command), log)
    assert "MEMBER: 2/2" in text
    assert text.count("exported 1 model(s)") == 1
    result = json.loads((fold / RESULT).read_text())
    assert result["kept"] == "mean of weights"
    assert set(result["averaged"]) == set(result["best"])
    assert [m.file for m in load_card(model, SegmentationCard).members] == ["segmentation.onnx"]
    (stated,) = json.loads((runs / "segmentation/folds.json").read_text())["folds"]
    folder = runs / "segmentation" / out_of_fold.FOLDER
    assert sorted(path.stem for path in folder.glob("*.npz")) == stated["held_out"]
    table = pd.read_csv(folder / out_of_fold.SCORES)
    assert table["PatientID"].tolist() == stated["held_out"]

    again = finish(start(log, *command), log)  # nothing is left to train
    assert "Epoch" not in again
