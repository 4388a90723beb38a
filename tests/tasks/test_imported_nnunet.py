"""An imported ensemble of five nnU-Nets feeds the HPV and survival models of Task 2's container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.export.nnunet import fabricated
from tests.training.export.nnunet.fabricated import results_folder
from training.config import load_configuration
from training.export.nnunet.importing import import_nnunet
from training.export.record import Provenance

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "tests/cases/no_primary/input"


@pytest.mark.slow
def test_five_imported_folds_feed_hpv_and_survival_models(tmp_path: Path) -> None:
    """The models of the repository have the preparation of `demo`, and so has the nnU-Net."""
    preparation = load_configuration("demo").preparation.model_dump(mode="json")
    fullres = fabricated.configuration(residual=True) | {"patch_size": [64, 64, 64]}
    results = results_folder(
        tmp_path / "results",
        residual=True,
        folds=tuple("01234"),
        axes=None,
        plans_changes={"configurations": {"3d_fullres": fullres}},
        dataset_changes={"hecktor_preparation": preparation},
    )
    model = tmp_path / "model"
    model.mkdir()
    for path in (ROOT / "task2_survival/model").iterdir():
        if path.is_file():
            shutil.copy(path, model)
    shutil.copytree(ROOT / "task3_hpv/model", model / "hpv")
    card = import_nnunet(results, model / "segmentation", provenance=Provenance())
    assert len(card.members) == 5
    command = f"""
import sys; sys.path.insert(0, {str(ROOT / "task2_survival")!r})
from pathlib import Path
import inference
chain = inference.init_model(Path({str(model)!r}))
inference.run(chain, Path({str(CASE)!r}), Path({str(tmp_path)!r}))
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "segmentation model: Dataset025_HECKTOR nnUNetPlans 3d_fullres" in done.stdout
    assert "5 networks" in done.stdout
    assert "HPV: logit" in done.stdout
    assert isinstance(json.loads((tmp_path / "rfs.json").read_text()), float)
