"""The three entry points: the libraries that they load, and the inputs that outputs depend on."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from shared.models.hpv import HpvModel
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.preprocessing.pipeline import Prepared, prepare
from shared.tasks import Algorithm

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests/cases"
NOT_IN_A_CONTAINER = ("torch", "monai", "pandas", "sklearn", "scipy", "matplotlib", "onnx")

RUN = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
script, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    print("loaded:", *sorted({set(NOT_IN_A_CONTAINER)!r} & set(sys.modules)))
    raise
"""


@dataclass(frozen=True)
class Job:
    """A finished job: the text that it printed, and the file that it wrote."""

    stdout: list[str]
    stderr: str
    output: Path


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Run each task in a fresh interpreter on a sample case whose record is empty."""
    folder = tmp_path_factory.mktemp("jobs")
    case = folder / "input"
    shutil.copytree(CASES / "no_primary/input", case)
    (case / "ehr.json").write_text("{}")
    return {task.name: run(task, case, folder / task.name) for task in CURRENT.algorithms}


def run(task: Algorithm, case: Path, folder: Path) -> Job:
    """Run a task as a user does in a checkout: with the models of the task folders."""
    script = str(ROOT / task.name / "inference.py")
    places = ["--input", case, "--output", folder / "output"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, script, *map(str, places)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Job(done.stdout.splitlines(), done.stderr, folder / "output" / task.outputs[0].path)


@pytest.mark.parametrize("task", CURRENT.algorithms, ids=lambda task: task.name)
def test_a_job_loads_no_training_library_and_leaves_stderr_empty(
    jobs: dict[str, Job], task: Algorithm
) -> None:
    job = jobs[task.name]
    assert job.stdout[-1] == "loaded:"
    assert job.stdout[-2].startswith("done in ")
    assert job.stderr == ""


@pytest.mark.parametrize("task", CURRENT.algorithms, ids=lambda task: task.name)
def test_the_log_says_that_the_weights_are_not_for_patients(
    jobs: dict[str, Job], task: Algorithm
) -> None:
    card = json.loads((ROOT / task.name / "model/model.json").read_text())
    assert "phantoms" in card["notice"]
    assert "not for patients" in card["notice"]
    assert card["notice"] in jobs[task.name].stdout
    assert any("provider" in line for line in jobs[task.name].stdout)


def test_mask_lies_on_the_grid_of_the_ct(jobs: dict[str, Job]) -> None:
    mask = sitk.ReadImage(str(jobs["task1_segmentation"].output))
    (ct,) = (CASES / "no_primary/input/images/ct").iterdir()
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert mask.IsSameImageGeometryAs(sitk.ReadImage(str(ct)))
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1, 2}


def test_an_empty_record_gives_a_finite_risk(jobs: dict[str, Job]) -> None:
    risk = json.loads(jobs["task2_survival"].output.read_text())
    assert isinstance(risk, float)
    assert math.isfinite(risk)


def test_an_empty_record_gives_a_boolean(jobs: dict[str, Job]) -> None:
    assert json.loads(jobs["task3_hpv"].output.read_text()) in (True, False)


@pytest.mark.parametrize("task", CURRENT.algorithms, ids=lambda task: task.name)
def test_bundled_models_are_inside_the_model_folder_or_else_beside_it_in_the_checkout(
    task: Algorithm, tmp_path: Path
) -> None:
    own = tmp_path / task.name / "model"
    in_image = {place: own / place for place in task.bundled}
    assert task.bundled_models(own) == in_image  # for the message that a model is missing
    in_checkout = {place: tmp_path / owner / "model" for place, owner in task.bundled.items()}
    for folder in in_checkout.values():
        folder.mkdir(parents=True)
    assert task.bundled_models(own) == in_checkout
    assert task.bundled_models(own) == {
        place: folder for place, folder in task.model_folders(tmp_path).items() if place != "."
    }
    for folder in in_image.values():
        folder.mkdir(parents=True)
    assert task.bundled_models(own) == in_image


# What outputs depend on

CLINICAL = ClinicalRecord(
    age=60, gender=1, tobacco=0, alcohol=1, performance_status=0, treatment=1, m_stage=0, hpv=0.8
)
CHANGED = {
    "age": 85.0,
    "gender": 0.0,
    "tobacco": 1.0,
    "alcohol": 0.0,
    "performance_status": 3.0,
    "treatment": 0.0,
    "m_stage": 1.0,
    "hpv": 0.1,
}
"""Another possible value for each clinical feature."""


@dataclass(frozen=True)
class Seen:
    """A sample case as the models see it."""

    case: Case
    prepared: Prepared
    segmented: SegmentedRegion

    @property
    def labels(self) -> LabelVolume:
        return self.segmented.labels


@pytest.fixture(scope="module")
def segmentation() -> SegmentationModel:
    return SegmentationModel.load(ROOT / "task1_segmentation/model")


@pytest.fixture(scope="module")
def hpv() -> HpvModel:
    return HpvModel.load(ROOT / "task3_hpv/model")


@pytest.fixture(scope="module")
def survival() -> SurvivalModel:
    return SurvivalModel.load(ROOT / "task2_survival/model")


def see(name: str, model: SegmentationModel) -> Seen:
    case = read_case(CASES / name / "input", CURRENT)
    prepared = prepare(case, model.card.preparation)
    return Seen(case, prepared, model.segment(prepared))


@pytest.fixture(scope="module")
def one(segmentation: SegmentationModel) -> Seen:
    return see("oblique_flipped", segmentation)


@pytest.fixture(scope="module")
def other(segmentation: SegmentationModel) -> Seen:
    return see("whole_body", segmentation)


def without_uptake(prepared: Prepared) -> Prepared:
    return replace(prepared, pet_suv=np.zeros_like(prepared.pet_suv))


def without_anatomy(prepared: Prepared) -> Prepared:
    return replace(prepared, ct_hu=np.full_like(prepared.ct_hu, 40))


def test_segmentation_depends_on_both_images(segmentation: SegmentationModel, one: Seen) -> None:
    for changed in (without_uptake(one.prepared), without_anatomy(one.prepared)):
        assert not np.array_equal(segmentation.segment(changed).labels, one.labels)


def test_hpv_depends_on_both_images(hpv: HpvModel, one: Seen, other: Seen) -> None:
    logit = hpv.predict(one.prepared, CLINICAL, one.labels).logit
    for changed in (without_uptake(one.prepared), without_anatomy(one.prepared), other.prepared):
        assert abs(hpv.predict(changed, CLINICAL, one.labels).logit - logit) > 1e-3


def test_hpv_depends_on_each_clinical_value(hpv: HpvModel, one: Seen) -> None:
    logit = hpv.predict(one.prepared, CLINICAL, one.labels).logit
    keys = [feature.key for feature in hpv.card.clinical]
    assert keys == ["age", "gender", "tobacco", "alcohol"]
    for key in keys:
        for value in (CHANGED[key], None):
            changed = replace(CLINICAL, **{key: value})
            assert abs(hpv.predict(one.prepared, changed, one.labels).logit - logit) > 1e-4, key


def test_risk_depends_on_images_and_lesions(
    survival: SurvivalModel, one: Seen, other: Seen
) -> None:
    risk = survival.predict(one.prepared, one.labels, CLINICAL)
    changed = {
        "PET": (without_uptake(one.prepared), one.labels),
        "CT": (without_anatomy(one.prepared), one.labels),
        "lesions": (one.prepared, np.zeros_like(one.labels)),
        "kind of lesion": (one.prepared, np.where(one.labels > 0, 3 - one.labels, 0)),
        "patient": (other.prepared, other.labels),
    }
    for what, (prepared, labels) in changed.items():
        found = survival.predict(prepared, labels.astype(np.uint8), CLINICAL)
        assert abs(found - risk) > 1e-3, what


def test_risk_depends_on_each_clinical_value(survival: SurvivalModel, one: Seen) -> None:
    risk = survival.predict(one.prepared, one.labels, CLINICAL)
    keys = [feature.key for feature in survival.card.clinical]
    assert set(keys) == set(CHANGED)
    for key in keys:
        for value in (CHANGED[key], None):
            changed = replace(CLINICAL, **{key: value})
            found = survival.predict(one.prepared, one.labels, changed)
            assert abs(found - risk) > 1e-4, key


def test_task_2_is_fed_what_tasks_1_and_3_answer(
    jobs: dict[str, Job], segmentation: SegmentationModel, hpv: HpvModel, survival: SurvivalModel
) -> None:
    seen, nothing = see("no_primary", segmentation), ClinicalRecord()
    mask = sitk.GetArrayFromImage(restore(seen.segmented, seen.prepared.undo))
    written = sitk.ReadImage(str(jobs["task1_segmentation"].output))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), mask)
    status = hpv.predict(seen.prepared, nothing, seen.labels)
    assert json.loads(jobs["task3_hpv"].output.read_text()) == status.decision
    record = replace(nothing, hpv=status.probability)
    risk = survival.predict(seen.prepared, seen.labels, record)
    found = json.loads(jobs["task2_survival"].output.read_text())
    assert found == pytest.approx(risk, abs=1e-4)


def test_models_see_the_region_that_their_cards_state(
    one: Seen, segmentation: SegmentationModel
) -> None:
    region = one.prepared.undo.region
    assert region.size_xyz == segmentation.card.preparation.size_xyz
    assert one.prepared.undo.ct == Grid.of(one.case.ct_hu)
