"""A narrower demo network is trained for one epoch and answers a case in a container.

With `HECKTOR_ENGINE=docker`, as in `.ci/run`, the image that was built last runs; otherwise
`inference.py` runs in this environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.models.card import load_card
from shared.models.segmentation import SegmentationCard
from training.config import CONFIGS_DIR

ROOT = Path(__file__).resolve().parents[2]
TASK = "task1_segmentation"
ENGINE = os.environ.get("HECKTOR_ENGINE")


def python(*words: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def short_demo(path: Path) -> Path:
    """Write the demo configuration with fewer filters and a single epoch."""
    text = (CONFIGS_DIR / "demo.toml").read_text()
    text = text.replace("filters = [16, 32, 64, 80, 80]", "filters = [8, 16, 16, 16, 16]")
    text = re.sub(r"\nepochs = \d+", "\nepochs = 1", text, count=1)
    text = re.sub(r"\[segmentation\.averaging\]\n(.+\n)+", "", text)
    path.write_text(text)
    return path


@pytest.mark.slow
def test_trained_weights_run_in_the_container(tmp_path: Path) -> None:
    cohort, model = tmp_path / "cohort", tmp_path / "model"
    python("-m", "training.phantom", cohort, "--patients", 12, "--seed", 5, "--small",
           "--workers", 2, "--tasks", 1)  # fmt: skip
    settings = short_demo(tmp_path / "short_demo.toml")
    python("-m", "training", "segmentation", cohort, tmp_path / "runs", "--configuration", settings,
           "--held-out", 2, "--workers", 0, "--accelerator", "cpu", "--model", model)  # fmt: skip
    card = load_card(model, SegmentationCard)
    assert card.configuration == "short_demo"
    assert card.training.patients == 10
    assert "phantoms" in card.notice

    cases = tmp_path / "cases"
    python("-m", "training", "cases", cohort, cases)
    case = min(cases.glob("*/input")).parent
    if ENGINE is None:
        output = tmp_path / "output"
        log = python(ROOT / TASK / "inference.py", "--input", case / "input", "--output", output,
                     "--model", model)  # fmt: skip
    else:
        command = ["./test_containers.sh", "--engine", ENGINE, "--no-build", "--task", TASK,
                   "--case", case, "--model", model, "--logs", tmp_path / "logs",
                   "--junit", tmp_path / "junit.xml"]  # fmt: skip
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
        output = tmp_path / "logs" / TASK / case.name / "output"
        log = output.with_name("stdout.txt").read_text()
    assert card.notice in log
    (written,) = [path for path in output.rglob("*") if path.is_file()]
    mask = sitk.ReadImage(str(written))
    (ct,) = (case / "input/images/ct").iterdir()
    assert mask.IsSameImageGeometryAs(sitk.ReadImage(str(ct)))
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1, 2}
