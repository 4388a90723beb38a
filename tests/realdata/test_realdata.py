"""Real PET/CT through the three algorithms, and the region on real head-and-neck CTs.

The images are read in place from `../shared/realdata`, or the folder in HECKTOR_REALDATA. The tests
write pictures of Task 1's masks, for a person to look at, to the folder in HECKTOR_PICTURES, or by
default to pytest's temporary folder.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from evaluation.running.programs import stage_models
from shared.editions import CURRENT
from shared.geometry import Grid, resample
from shared.preprocessing.region import Preparation, find_region
from tests.tree import REALDATA, ROOT

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not REALDATA.is_dir(),
        reason="the real images are not here: expected ../shared/realdata or HECKTOR_REALDATA",
    ),
]

SARCOMAS = ("STS_001", "STS_007", "STS_015", "STS_019", "STS_028", "STS_035")
"""In STS_019, CT and PET are 6 mm apart. In STS_035, their numbers of slices differ."""
WHOLE_BODY = "whole-body PET"


def images_of(name: str) -> tuple[Path, Path]:
    """Return the CT and the PET of a case."""
    folder = REALDATA / "sts_petct" / ("STS_001" if name == WHOLE_BODY else name)
    whole_body = REALDATA / "wholebody_pet/STS_001_FDG_PET_SUVbw.nii.gz"
    pet = whole_body if name == WHOLE_BODY else folder / "PET_image.nii.gz"
    return folder / "CT_image.nii.gz", pet


# CI runs the tests of the whole-body PET in a step of their own.
@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow) for name in (WHOLE_BODY, *SARCOMAS)]
)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return an input folder in the platform's layout."""
    folder = tmp_path / "input"
    for modality, source in zip(("ct", "pet"), images_of(request.param), strict=True):
        target = folder / f"images/{modality}/{modality}.mha"
        target.parent.mkdir(parents=True)
        sitk.WriteImage(sitk.ReadImage(str(source)), str(target), useCompression=False)
    (folder / "ehr.json").write_text(json.dumps({"Age": 60, "Gender": "M", "M-stage": "Mx"}))
    return folder


@pytest.fixture(scope="module")
def algorithms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ModuleType, object]]:
    """Return each task's entry point with its models, loaded once."""
    folder = tmp_path_factory.mktemp("models")
    loaded = {}
    for task in CURRENT.algorithms:
        path = ROOT / task.name / "inference.py"
        spec = importlib.util.spec_from_file_location(f"{task.name}_inference", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        stage_models(task.model_folders(ROOT), folder / task.name)
        loaded[task.name] = (module, module.init_model(folder / task.name))
    return loaded


def test_all_tasks_run_and_the_mask_lies_exactly_on_the_ct(
    algorithms: dict[str, tuple[ModuleType, object]],
    case: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    outputs = {}
    for task in CURRENT.algorithms:
        module, models = algorithms[task.name]
        module.run(models, case, tmp_path / task.name)
        outputs[task.tasks[0]] = tmp_path / task.name / task.outputs[0].path
        written = [path for path in (tmp_path / task.name).rglob("*") if path.is_file()]
        assert written == [outputs[task.tasks[0]]]
    ct = sitk.ReadImage(str(case / "images/ct/ct.mha"))
    pet = sitk.ReadImage(str(case / "images/pet/pet.mha"))
    mask = sitk.ReadImage(str(outputs["segmentation"]))
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(mask) == Grid.of(ct)
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1, 2}
    assert math.isfinite(json.loads(outputs["survival"].read_text()))
    assert json.loads(outputs["hpv"].read_text()) in (True, False)
    pictures = Path(os.environ.get("HECKTOR_PICTURES", tmp_path))
    name = request.node.callspec.params["case"].replace(" ", "_")
    draw_projection(pet, mask, pictures / f"{name}.png")


def draw_projection(pet: sitk.Image, mask: sitk.Image, path: Path) -> None:
    """Write the coronal maximum projection of a PET with the outlines of GTVp and GTVn."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    upright = sitk.DICOMOrient(pet, "LPS")
    on_pet = resample(mask, Grid.of(upright), interpolation="nearest", outside=0)
    uptake = sitk.GetArrayFromImage(upright).max(axis=1)
    labels = sitk.GetArrayFromImage(on_pet)
    x_mm, _, z_mm = upright.GetSpacing()
    figure, axes = plt.subplots(figsize=(5, 8))
    axes.imshow(uptake, cmap="gray_r", origin="lower", aspect=z_mm / x_mm, vmin=0, vmax=10)
    for label, colour in ((1, "red"), (2, "blue")):
        projected = (labels == label).any(axis=1)
        if projected.any():
            axes.contour(projected, levels=[0.5], colors=colour, linewidths=0.8)
    axes.set_title(f"{path.stem}: SUV 0 to 10, GTVp red, GTVn blue", fontsize=8)
    axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    assert path.stat().st_size > 0


PREPARATION = Preparation(spacing_mm=4, size_xyz=(72, 72, 72), interpolation="linear")


def test_region_holds_the_targets_of_real_head_and_neck_cts() -> None:
    cts = sorted((REALDATA / "openkbp_ct").glob("*_ct.nii.gz"))
    assert len(cts) == 60
    shares = {}
    for path in cts:
        ct = sitk.ReadImage(str(path))
        labels = sitk.ReadImage(str(path).replace("_ct.nii.gz", "_labels.nii.gz"))
        pet = Grid.of(ct).filled(1, sitk.sitkFloat32)
        low, high = find_region(ct, pet, PREPARATION).region.extent_mm()
        is_target = np.isin(sitk.GetArrayViewFromImage(labels), (1, 2, 3))  # PTV56, PTV63, PTV70
        world = Grid.of(labels).world_mm(np.argwhere(is_target)[:, ::-1].astype(float))
        shares[path.name] = np.mean(np.all((world >= low) & (world <= high), axis=1))
    # The lowest share is 0.98: the targets of that CT are 300 mm high, and no region of 288 mm can
    # contain them.
    assert {name: share for name, share in shares.items() if share < 0.97} == {}
