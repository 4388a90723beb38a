"""From a cohort to a container's answer: the demo configuration, narrower, for one epoch."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from shared.models.card import load_card
from training.config import CONFIGS_DIR
from training.data import index_cohort

ROOT = Path(__file__).resolve().parents[2]


def python(*words: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def short_demo(path: Path) -> Path:
    """Write the demo configuration with fewer filters and one epoch, and nothing else changed."""
    text = (CONFIGS_DIR / "demo.toml").read_text()
    text = text.replace("filters = [16, 32, 64, 80, 80]", "filters = [8, 16, 16, 16, 16]")
    text = re.sub(r"\nepochs = \d+", "\nepochs = 1", text, count=1)
    text = re.sub(r"\[segmentation\.averaging\]\n(.+\n)+", "", text)
    path.write_text(text)
    return path


def test_trained_weights_run_in_the_container(tmp_path: Path) -> None:
    cohort, model = tmp_path / "cohort", tmp_path / "model"
    python("-m", "training.phantom", cohort, "--patients", 12, "--seed", 5, "--small",
           "--workers", 2, "--tasks", 1)  # fmt: skip
    settings = short_demo(tmp_path / "short_demo.toml")
    python("-m", "training", "segmentation", cohort, tmp_path / "runs", "--configuration", settings,
           "--held-out", 2, "--workers", 0, "--accelerator", "cpu", "--model", model)  # fmt: skip
    card = load_card(model, "segmentation")
    assert card.configuration == "short_demo"
    assert card.training.patients == 10
    assert "phantoms" in card.notice

    patient = index_cohort(cohort)[0]
    case = tmp_path / "input"
    for kind, source in (("ct", patient.ct), ("pet", patient.pet)):
        target = case / "images" / kind / f"{kind}.mha"
        target.parent.mkdir(parents=True)
        sitk.WriteImage(sitk.ReadImage(str(source)), str(target))
    (case / "ehr.json").write_text(json.dumps({}))
    log = python(ROOT / "task1_segmentation/inference.py", "--input", case,
                 "--output", tmp_path / "output", "--model", model)  # fmt: skip
    assert card.notice in log
    (written,) = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    mask = sitk.ReadImage(str(written))
    assert mask.IsSameImageGeometryAs(sitk.ReadImage(str(case / "images/ct/ct.mha")))
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1, 2}
