"""A network that is chosen by name is trained, exported and served in Tasks 1 and 3."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from training.cohort.folds import HoldOut
from training.config import CONFIGS_DIR, load_configuration
from training.export.record import Provenance
from training.loop.hardware import Hardware
from training.phantom import Kind, make_cohort
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.train import Options, train

ROOT = Path(__file__).resolve().parents[2]
CASE = ROOT / "tests/cases/no_primary/input"
KIND = Kind(small=True, whole_body=False, brain_in_fov=True, bqml=False, spacing_mm=(4.0, 4.0, 6.0))

SMALL = {
    r"spacing_mm = \d\.0": "spacing_mm = 9.0",
    r"size_xyz = .*": "size_xyz = [32, 32, 32]",
    r"(window|crop)_zyx = [^\n#]*": r"\1_zyx = [16, 16, 16] ",
    r"filters = \[.*?\]": "filters = [4, 8, 8]",
    r"filters = 16 ": "filters = 8 ",
    r"overlap = 0\.\d+": "overlap = 0.0",
    r"blocks_down = \[1, 3.*?\]": "blocks_down = [1, 1, 1]",
    "deep_supervision_heads = 3": "deep_supervision_heads = 1",
    "accumulate_batches = 2": "accumulate_batches = 1",
    "batch_size = 16": "batch_size = 4",
    "16-mixed": "32-true",
    "1024": "64",
    'models = "(both|best)"': 'models = "networks"',
    # The image of Task 3 contains a Task 1 model for another region, so this head uses no lesions.
    r"\[hpv\.network\]\n(.+\n)+": "[hpv.network]\nhead_width = 16\n",
    'masks = "predicted"': 'masks = "true"',
    '\nhpv = "predicted"': '\nhpv = "true"',
    r"\nepochs = \d+": "\nepochs = 1",
    r"\[segmentation\.averaging\]\n(.+\n)+": "",
    r'mirror_axes = \["x"\]': "mirror_axes = []",
}
"""Changes that make a configuration small: coarse voxels, narrow networks, one epoch."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return six phantoms; every other one is HPV-positive."""
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder, 6, seed=5, kind=KIND)
    path = folder / "Task 3/HECKTOR_2025_Training_Task_3.csv"
    table = pd.read_csv(path, index_col="PatientID")
    table["HPV Status"] = [1, 0, 1, 0, 1, 0]
    table.to_csv(path)
    return folder


def hold_out_two(cohort: Path, folder: Path) -> Path:
    """Write a splits file that holds out one patient of each HPV status."""
    names = pd.read_csv(cohort / "Task 3/HECKTOR_2025_Training_Task_3.csv")["PatientID"].tolist()
    path = folder / "splits.json"
    split = {"train": [names[0], *names[3:]], "val": names[1:3]}
    path.write_text(json.dumps([split]))
    return path


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's and MONAI's
        yield


def small(name: str, folder: Path) -> Path:
    """Write a configuration of the repository, small enough for a test."""
    text = (CONFIGS_DIR / f"{name}.toml").read_text(encoding="utf-8")
    for pattern, replacement in SMALL.items():
        text = re.sub(pattern, replacement, text)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def entry_point(task: str) -> ModuleType:
    """Import the `inference.py` of a container."""
    spec = importlib.util.spec_from_file_location(f"{task}_inference", ROOT / task / "inference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(task: str, model: Path, output: Path) -> Path:
    """Run a container's `run` on a sample case and return the file it wrote."""
    inference = entry_point(task)
    inference.run(inference.init_model(model), CASE, output)
    (path,) = (path for path in output.rglob("*") if path.is_file())
    return path


@pytest.mark.slow  # CI runs it in a step of its own
@pytest.mark.parametrize("name", ["demo", "resenc", "segresnet"])
def test_network_is_trained_exported_and_served_in_tasks_1_and_3(
    name: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration, runs = small(name, tmp_path), tmp_path / "runs"
    architecture = load_configuration(str(configuration)).segmentation.network.architecture
    assert architecture == {"demo": "dynunet", "resenc": "resenc_unet"}.get(name, name)
    options = {
        "configuration": str(configuration),
        "hold_out": HoldOut(splits=hold_out_two(cohort, tmp_path)),
        "workers": 0,
        "hardware": Hardware(devices=1, accelerator="cpu"),
        "provenance": Provenance(notice="For tests."),
    }
    train(Segmentation(), cohort, runs, Options(**options, model=tmp_path / "task1"))
    train(Hpv(), cohort, runs, Options(**options, model=tmp_path / "task3"))
    capsys.readouterr()

    mask = sitk.ReadImage(str(serve("task1_segmentation", tmp_path / "task1", tmp_path / "mask")))
    (ct,) = (CASE / "images/ct").iterdir()
    assert mask.IsSameImageGeometryAs(sitk.ReadImage(str(ct)))
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1, 2}
    assert f"segmentation model: {name} configuration, 1 network, " in capsys.readouterr().out

    decision = json.loads(serve("task3_hpv", tmp_path / "task3", tmp_path / "hpv").read_text())
    assert decision in (True, False)
    assert f"hpv model: {name} configuration, 1 network, " in capsys.readouterr().out
