"""The table of post-processing rules, for a model with known errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from shared.clinical import ClinicalRecord
from shared.conventions import Label, Volume
from shared.errors import InputError
from shared.geometry import resample
from shared.models.card import load_card
from shared.models.segmentation import SegmentationCard, SegmentationModel
from shared.postprocessing.rules import Rules
from shared.preprocessing.pipeline import Prepared
from tests.training.synthetic import configuration
from training.cohort.folds import k_folds, keep, read_folds
from training.cohort.layout import Patient
from training.studies.ablation import (
    Setting,
    ablate,
    by_held_out_models,
    candidate_settings,
    markdown,
)
from training.tasks.segmentation import Segmentation

ROOT = Path(__file__).resolve().parents[3]
CASE = ROOT / "tests/cases/no_primary"
MODEL = ROOT / "task1_segmentation/model"
TRUTH = CASE / "truth.nii.gz"


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    """Return the sample case as a patient of a cohort."""
    folder = tmp_path_factory.mktemp("patient")
    for name in ("ct", "pet"):
        image = sitk.ReadImage(str(CASE / f"input/images/{name}/no_primary.mha"))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return Patient(
        patient_id="no_primary",
        ct=folder / "ct.nii.gz",
        pet=folder / "pet.nii.gz",
        labels=TRUTH,
        clinical=ClinicalRecord(),
        hpv=None,
        relapse=None,
        rfs_days=None,
    )


class InventedPrimary:
    """A model that finds every node and, without mirroring, a false primary of low probability."""

    card = load_card(MODEL, SegmentationCard)

    def predict_probabilities(self, prepared: Prepared, axes: Sequence[str]) -> Volume:
        truth = sitk.ReadImage(str(TRUTH), sitk.sitkUInt8)
        labels = sitk.GetArrayFromImage(
            resample(truth, prepared.undo.region, interpolation="nearest", outside=0)
        )
        probabilities = np.stack([labels == label for label in (0, 1, 2)]).astype(np.float32)
        # Within the scan and away from the nodes, so that it cannot be a lesion.
        nodes = np.argwhere(labels == Label.GTVN)
        z, y, x = nodes.min(axis=0)
        corner = np.s_[z : z + 6, y - 20 : y - 14, x : x + 6]
        if not axes:
            probabilities[:, *corner] = np.array([0.35, 0.55, 0.1])[:, None, None, None]
        return probabilities


INVENTED_PRIMARY: Any = InventedPrimary()


@pytest.fixture(scope="module")
def table(patient: Patient) -> pd.DataFrame:
    served = configuration().segmentation.model_copy(
        update={"rules": Rules(min_primary_mass_mm3=5000), "min_component_mm3": {"GTVn": 1e6}}
    )
    return ablate([(patient, INVENTED_PRIMARY)], candidate_settings(served, ["x"]))


def test_rule_that_removes_the_invented_primary_scores_better(table: pd.DataFrame) -> None:
    paper = table.loc["paper: components under 100 mm³"]
    for name in (
        "least mean probability of a primary, 0.6",
        "least mass of a primary, 1000 mm³",
        "mirrored along x",
        "as configured",
    ):
        assert table.loc[name, "no_primary_found"] == 1, name
        assert table.loc[name, "gtvp_dice"] == 1, name
    assert paper["no_primary_found"] == 0
    assert table.loc["as configured", "gtvn_aggregated_dice"] == 0  # every node is too small
    assert paper["gtvp_dice"] == 0
    assert paper["gtvn_aggregated_dice"] > 0.9
    assert paper["sum"] == pytest.approx(paper.iloc[:3].sum())


def test_each_row_of_the_table_is_one_setting(table: pd.DataFrame) -> None:
    assert table.index.is_unique
    assert table.index[:2].tolist() == ["nothing", "paper: components under 100 mm³"]
    lines = markdown(table).splitlines()
    assert len(lines) == 2 + len(table)
    assert all(line.count("|") == 2 + table.shape[1] for line in lines)


def test_patient_without_labels_is_refused(patient: Patient) -> None:
    unlabelled = dataclasses.replace(patient, labels=None)
    setting = Setting(name="nothing", min_component_mm3={})
    with pytest.raises(InputError, match="expected a label map of patient no_primary, found none"):
        ablate([(unlabelled, INVENTED_PRIMARY)], [setting])


def test_each_patient_gets_the_model_of_the_fold_that_held_it_out(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = [dataclasses.replace(patient, patient_id=f"MDA-{n:03d}") for n in range(5)]
    keep(k_folds({p.patient_id: "MDA" for p in patients}, 2, seed=0), tmp_path / "segmentation")
    exported: list[tuple[str, Path]] = []

    def export(_: Segmentation, __: Path, *, folds: list[str], model: Path) -> None:
        exported.extend((fold, model) for fold in folds)

    monkeypatch.setattr("training.studies.ablation.export_run", export)
    monkeypatch.setattr(SegmentationModel, "load", lambda folder: folder)
    pairs = by_held_out_models(Segmentation(), patients[:-1], tmp_path)
    folds = {fold.name: fold for fold in read_folds(tmp_path / "segmentation").folds}
    models: dict[str, Any] = {patient.patient_id: model for patient, model in pairs}
    assert sorted(models) == [p.patient_id for p in patients[:-1]]
    for name, model in models.items():
        assert name in folds[model.parent.name.removeprefix("fold")].held_out
    runs = tmp_path / "segmentation"
    assert exported == [(name, runs / f"fold{name}" / "model") for name in ("0", "1")]
