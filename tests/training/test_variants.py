"""The benchmark of variants: what a variant changes, and the table by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from shared.errors import HecktorError
from shared.metrics.segmentation import Detections, Overlap
from tests.benchmarks.variants import (
    HELD_OUT,
    REFERENCE,
    TERMS,
    VariantTraining,
    by_patient,
    changed,
    table,
)
from tests.training.synthetic import configuration
from training.cohort.folds import HoldOut
from training.loop.hardware import Hardware
from training.tasks.segmentation import Totals

PERFECT = Totals([1.0], Overlap(8.0, 8.0, 8.0), Detections(1, 0, 0))
MISSED = Totals([0.0], Overlap(0.0, 0.0, 8.0), Detections(0, 0, 1))
HALF = Totals([0.5], Overlap(2.0, 4.0, 4.0), Detections(1, 1, 0))


def finished(runs: Path, variant: str, seed: int, terms: dict[str, Totals]) -> VariantTraining:
    """Return a training that has segmented these held-out patients."""
    training = VariantTraining(
        cohort=Path("cohort"),
        runs=runs,
        configuration="demo",
        variant=variant,
        change={},
        hold_out=HoldOut(count=1),
        further={},
        fold="0",
        seed=seed,
        workers=0,
        hardware=Hardware(),
    )
    training.folder.mkdir(parents=True)
    content = {HELD_OUT: {name: asdict(totals) for name, totals in terms.items()}}
    (training.folder / TERMS).write_text(json.dumps(content))
    return training


def test_a_variant_changes_only_what_it_names() -> None:
    base = configuration()
    variant = changed(base, {"augmentation": "strong", "network": {"deep_supervision_heads": 0}})
    task1 = variant.segmentation
    assert task1.augmentation == "strong"
    assert task1.network.model_dump() == base.segmentation.network.model_dump() | {
        "deep_supervision_heads": 0
    }
    same = {"augmentation", "network"}
    assert task1.model_dump(exclude=same) == base.segmentation.model_dump(exclude=same)
    assert changed(base, {}) == base


def test_an_unknown_setting_of_a_variant_is_an_error() -> None:
    with pytest.raises((ValueError, HecktorError), match="augmentaton"):
        changed(configuration(), {"augmentaton": "strong"})


def test_the_terms_of_a_patient_add_up_over_trainings() -> None:
    (a, b) = by_patient([{"A": PERFECT, "B": MISSED}, {"A": HALF}])
    assert a.scores()["gtvp_dice"] == 0.75
    assert a.scores()["gtvn_aggregated_dice"] == 2 * 10 / (12 + 12)
    assert (b.gtvn_detections.false_negatives, b.gtvp_dice) == (1, [0.0])


def test_table_compares_the_trainings_that_both_have_finished(tmp_path: Path) -> None:
    trainings = [
        finished(tmp_path, REFERENCE, 0, {"A": MISSED, "B": HALF}),
        finished(tmp_path, REFERENCE, 1, {"A": PERFECT, "B": PERFECT}),
        finished(tmp_path, "other", 0, {"A": PERFECT, "B": PERFECT}),
    ]
    rows = [row.split(" | ") for row in table(trainings, ("GTVp",))][2:]
    assert [row[0] for row in rows] == ["| reference", "| other"]
    assert [row[1] for row in rows] == ["2", "1"]
    reference, other = (row[3] for row in rows)
    assert reference.startswith("0.625 [")
    assert other.startswith("1.000 [1.000, 1.000]; +0.750 [")


def test_trainings_that_are_not_finished_are_not_in_the_table(tmp_path: Path) -> None:
    reference = finished(tmp_path, REFERENCE, 0, {"A": PERFECT})
    other = finished(tmp_path, "other", 0, {"A": PERFECT})
    (other.folder / TERMS).unlink()
    assert len(list(table([reference, other], ("GTVp", "GTVn")))) == 3
