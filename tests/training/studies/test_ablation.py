"""The table of rules on lesions, for a network whose faults are known."""

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
from shared.models.card import SegmentationCard, load_card
from shared.models.segmentation import SegmentationModel
from shared.postprocessing.rules import Rules
from shared.preprocessing.pipeline import Prepared
from tests.training.synthetic import configuration
from training.cohort.folds import k_folds, keep, read_folds
from training.cohort.layout import PatientFiles
from training.studies.ablation import Setting, ablate, by_held_out_models, markdown, settings
from training.tasks.segmentation import Segmentation

ROOT = Path(__file__).resolve().parents[3]
CASE = ROOT / "tests/cases/no_primary"
MODEL = ROOT / "task1_segmentation/model"
PATIENT = PatientFiles(
    "no_primary",
    CASE / "input/images/ct/no_primary.mha",
    CASE / "input/images/pet/no_primary.mha",
    CASE / "truth.nii.gz",
    ClinicalRecord(),
    None,
    None,
    None,
)


class InventsAPrimary:
    """Finds every node and, unless mirrored, an unsure primary in the corner of the region."""

    card = load_card(MODEL, SegmentationCard)

    def predict_probabilities(self, prepared: Prepared, axes: Sequence[str]) -> Volume:
        truth = sitk.ReadImage(str(PATIENT.labels), sitk.sitkUInt8)
        labels = sitk.GetArrayFromImage(resample(truth, prepared.undo.region, "nearest", 0))
        probabilities = np.stack([labels == label for label in (0, 1, 2)]).astype(np.float32)
        # within the scan, away from the nodes: whatever lies there is not a lesion
        nodes = np.argwhere(labels == Label.GTVN)
        z, y, x = nodes.min(axis=0)
        corner = np.s_[z : z + 6, y - 20 : y - 14, x : x + 6]
        if not axes:
            probabilities[:, *corner] = np.array([0.35, 0.55, 0.1])[:, None, None, None]
        return probabilities


FAULTY: Any = InventsAPrimary()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    served = configuration().segmentation.model_copy(
        update={"rules": Rules(min_primary_mass_mm3=5000), "min_component_mm3": {"GTVn": 1e6}}
    )
    return ablate([(PATIENT, FAULTY)], settings(served, ["x"]))


def test_a_rule_that_takes_the_invented_primary_away_scores_better(table: pd.DataFrame) -> None:
    paper = table.loc["paper: components under 100 mm³"]
    for name in (
        "primary by mean probability, 0.6",
        "primary by mass, 1000",
        "mirrored along x",
        "as configured",
    ):
        assert table.loc[name, "no_primary_found"] == 1, name
        assert table.loc[name, "gtvp_dice"] == 1, name
    assert paper["no_primary_found"] == 0
    assert table.loc["as configured", "gtvn_aggregated_dice"] == 0  # too small for its bound
    assert paper["gtvp_dice"] == 0
    assert paper["gtvn_aggregated_dice"] > 0.9
    assert paper["sum"] == pytest.approx(paper.iloc[:3].sum())


def test_lines_differ_by_one_setting_each(table: pd.DataFrame) -> None:
    assert table.index.is_unique
    assert table.index[:2].tolist() == ["nothing", "paper: components under 100 mm³"]
    lines = markdown(table).splitlines()
    assert len(lines) == 2 + len(table)
    assert all(line.count("|") == 2 + table.shape[1] for line in lines)


def test_a_patient_without_labels_is_refused() -> None:
    unlabelled = dataclasses.replace(PATIENT, labels=None)
    with pytest.raises(InputError, match="expected labels for patient no_primary"):
        ablate([(unlabelled, FAULTY)], [Setting("nothing", {})])


def test_each_patient_has_the_model_that_has_not_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = [dataclasses.replace(PATIENT, patient_id=f"MDA-{n:03d}") for n in range(5)]
    keep(k_folds({p.patient_id: "MDA" for p in patients}, 2, seed=0), tmp_path / "segmentation")
    exported: list[str] = []
    monkeypatch.setattr(
        "training.studies.ablation.export_run", lambda _, __, folds, ___: exported.extend(folds)
    )
    monkeypatch.setattr(SegmentationModel, "load", lambda folder: folder.parent.name)
    pairs = by_held_out_models(Segmentation(), patients[:-1], tmp_path)
    folds = {fold.name: fold for fold in read_folds(tmp_path / "segmentation").folds}
    found = {patient.patient_id: model for patient, model in pairs}
    assert sorted(found) == [p.patient_id for p in patients[:-1]]
    for name, model in found.items():
        assert name in folds[str(model).removeprefix("fold")].held_out
    assert exported == ["0", "1"]
