"""The precision of a card is chosen by the scores of held-out patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.errors import HecktorError
from shared.models.card import load_card
from shared.models.segmentation import PrecisionCheck, SegmentationCard
from tests.shared.models.small_networks import SEGMENTATION, unet_member
from tests.training.synthetic import GRID, make_patient, with_facts
from training.cohort.layout import Patient
from training.export.model_folder import export
from training.studies import serving_precision
from training.studies.serving_precision import (
    check_of,
    markdown,
    measure,
    precision_of,
    variants,
    write_precision,
)

CARD = SegmentationCard.model_validate(
    {**SEGMENTATION, "mirror_axes": ["x"], "members": [{"file": "a.onnx", "sha256": "0" * 64}]}
)


def check(gtvp: float, gtvn: float) -> PrecisionCheck:
    """Return a check in which both scores are 0.8 in float32."""
    return PrecisionCheck(
        float32={"gtvp_dice": 0.8, "gtvn_aggregated_dice": 0.8},
        bfloat16={"gtvp_dice": gtvp, "gtvn_aggregated_dice": gtvn},
        patients=9,
        cohort="phantoms",
    )


@pytest.mark.parametrize(
    ("gtvp", "gtvn", "expected"),
    [
        (0.8, 0.8, "bfloat16"),
        (0.9, 0.7985, "bfloat16"),
        (0.9, 0.797, "float32"),
        (0.797, 0.9, "float32"),
        (0.798, 0.8, "float32"),
    ],
)
def test_no_dsc_may_fall_by_two_thousandths(gtvp: float, gtvn: float, expected: str) -> None:
    assert precision_of(check(gtvp, gtvn)) == expected


def test_own_way_is_measured_first_and_each_way_in_both_precisions() -> None:
    ways = [(v.precision, v.overlap, v.mirror_axes) for v in variants(CARD, [0.25], ["none", "xy"])]
    assert ways == [
        ("float32", 0.5, ("x",)),
        ("bfloat16", 0.5, ("x",)),
        ("float32", 0.25, ()),
        ("bfloat16", 0.25, ()),
        ("float32", 0.25, ("x", "y")),
        ("bfloat16", 0.25, ("x", "y")),
    ]
    assert len(variants(CARD, (), ())) == 2


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """Return a patient with images on disk."""
    made = make_patient(0, folder=tmp_path)
    paths = {"ct": tmp_path / "ct.nii.gz", "pet": tmp_path / "pet.nii.gz"}
    for path, image in zip(paths.values(), made.image, strict=True):
        sitk.WriteImage(GRID.image(image.astype(np.float32)), str(path))
    return with_facts(made, **paths).patient


def test_check_is_written_into_the_card(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    export(folder, SegmentationCard, members=[unet_member(0)], fields=SEGMENTATION)
    before = load_card(folder, SegmentationCard)
    monkeypatch.setattr(serving_precision, "has_bfloat16", lambda: True)
    measured = measure(folder, [patient], variants(before, (), ()))
    assert load_card(folder, SegmentationCard) == before
    assert [len(each.totals) for each in measured.values()] == [1, 1]
    table = markdown(measured)
    assert table.count("\n") == 3
    assert "| none | 0.5 | float32 |" in table
    write_precision(folder, check_of(measured, "one phantom"))
    card = load_card(folder, SegmentationCard)
    assert card.precision_check is not None
    assert card.precision_check.patients == 1
    assert card.precision == precision_of(card.precision_check)
    assert "precision_check" in json.loads((folder / "model.json").read_text())


def test_other_cpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_precision, "has_bfloat16", lambda: False)
    with pytest.raises(HecktorError, match="expected a CPU that computes in bfloat16"):
        measure(tmp_path, [], [])
