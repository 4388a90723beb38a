"""The scores of training runs on held-out patients, from tables written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from shared.errors import HecktorError, InputError
from tests.training.synthetic import configuration, make_patient, names_of
from training import __main__ as program
from training.cohort.folds import FOLDS, Fold, Folds, leave_one_centre_out
from training.export.record import RUN, Provenance, RunRecord
from training.loop.fit import RESULT, FitResult
from training.loop.hardware import Hardware
from training.studies.held_out_scores import HEADLINE, MIXED, held_out_scores, markdown
from training.tasks import out_of_fold

PATIENTS = [
    make_patient(n, "MDA" if n < 6 else "USZ", hpv=n % 2 == 0, relapse=n % 3 > 0, days=100.0 - n)
    for n in range(12)
]
NAMES = names_of(PATIENTS)
MIXED_FOLDS = Folds(
    how="2 folds",
    strata={},
    folds=(
        Fold(name="0", training=NAMES[6:], held_out=NAMES[:6]),
        Fold(name="1", training=NAMES[:6], held_out=NAMES[6:]),
    ),
)


def write_run(runs: Path, folds: Folds, best: float | None = None) -> Path:
    """Write out-of-fold risks of perfect order, and logits that are wrong for one patient."""
    for number, fold in enumerate(folds.folds):
        held_out = [patient for patient in PATIENTS if patient.patient_id in fold.held_out]
        risks = np.array([-(patient.patient.rfs_days or 0) for patient in held_out])
        logits = np.array([1.0 if patient.patient.hpv else -1.0 for patient in held_out])
        logits[0] *= 1 if number else -1
        out_of_fold.write_risks(
            runs / "survival" / out_of_fold.FOLDER, fold.name, held_out, {"linear": risks}
        )
        out_of_fold.write_logits(
            runs / "hpv" / out_of_fold.FOLDER, fold.name, held_out, {"network": logits}
        )
        scores = {"balanced_accuracy": 0.7, "auc": 0.8, "score": 0.7}
        for task in ("hpv", "survival"):
            folder = runs / task / f"fold{fold.name}"
            folder.mkdir()
            if best is not None and task == "hpv":
                result = FitResult(
                    kept="best checkpoint",
                    best={**scores, "balanced_accuracy": best},
                    late=scores,
                    train_seconds=1,
                )
                (folder / RESULT).write_text(result.model_dump_json())
    for task in ("hpv", "survival"):
        (runs / task / FOLDS).write_text(folds.model_dump_json())
    return runs


def by_centre() -> Folds:
    strata = dict.fromkeys(NAMES, "")
    return leave_one_centre_out(strata, {p.patient_id: p.patient.centre for p in PATIENTS})


def test_scores_stand_beside_their_optimism(tmp_path: Path) -> None:
    scores = {s.metric: s for s in held_out_scores([write_run(tmp_path, MIXED_FOLDS, best=0.85)])}
    assert list(scores) == ["balanced_accuracy", "auc", "c_index"]
    accuracy = scores["balanced_accuracy"]
    assert accuracy.score.value == pytest.approx((5 / 6 + 1) / 2)
    assert accuracy.score.low is not None
    assert accuracy.optimism == pytest.approx(0.15)
    assert (accuracy.patients, accuracy.folds) == (12, MIXED)
    assert scores["c_index"].score.value == 1
    assert scores["c_index"].optimism is None  # there is no network
    text = markdown(list(scores.values()))
    assert "| folds of mixed centres | hpv | balanced_accuracy | 0.917 [" in text
    assert text.splitlines()[2].endswith("| 12 | +0.150 |")
    assert "train with --by-centre" in text


def test_leaving_one_centre_out_is_the_headline(tmp_path: Path) -> None:
    mixed = write_run(tmp_path / "mixed", MIXED_FOLDS)
    runs = write_run(tmp_path / "centres", by_centre())
    scores = held_out_scores([mixed, runs])
    assert [score.folds for score in scores] == [HEADLINE] * 3 + [MIXED] * 3
    assert "train with --by-centre" not in markdown(scores)


def keep_record(folder: Path, **task1: object) -> None:
    settings = configuration(**task1)
    RunRecord.first(
        "tiny",
        settings,
        schedule=settings.segmentation,
        features=(),
        hardware=Hardware(),
        seed=0,
        provenance=Provenance(),
    ).keep(folder, Provenance())


def test_lesions_are_added_up_over_patients(tmp_path: Path) -> None:
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    folder.mkdir(parents=True)
    table = {
        "PatientID": ["A", "B"],
        "fold": ["0", "1"],
        "gtvp_dice": [0.5, 1.0],
        "gtvn_shared_mm3": [10.0, 0.0],
        "gtvn_found_mm3": [20.0, 0.0],
        "gtvn_true_mm3": [10.0, 10.0],
        "gtvn_true_positives": [1, 0],
        "gtvn_false_positives": [1, 0],
        "gtvn_false_negatives": [0, 1],
    }
    pd.DataFrame(table).to_csv(folder / out_of_fold.SCORES, index=False)
    path = tmp_path / "segmentation" / FOLDS
    path.write_text(MIXED_FOLDS.model_dump_json())
    adopted = held_out_scores([tmp_path])  # without run.json
    keep_record(tmp_path / "segmentation")
    assert held_out_scores([tmp_path]) == adopted
    values = {score.metric: score.score.value for score in adopted}
    assert values == {
        "gtvp_dice": 0.75,
        "gtvn_aggregated_dice": pytest.approx(20 / 40),
        "gtvn_aggregated_f1": pytest.approx(2 / 4),
    }
    (tmp_path / "segmentation" / RUN).unlink()
    keep_record(tmp_path / "segmentation", lesions=("GTVp",))
    assert [score.metric for score in held_out_scores([tmp_path])] == ["gtvp_dice"]


def test_incomplete_folds_have_no_score(tmp_path: Path) -> None:
    runs = write_run(tmp_path, MIXED_FOLDS)
    further = (*MIXED_FOLDS.folds, Fold(name="2", training=NAMES[:3], held_out=NAMES[3:]))
    more = MIXED_FOLDS.model_copy(update={"folds": further})
    for task in ("hpv", "survival"):
        (runs / task / FOLDS).write_text(more.model_dump_json())
    with pytest.raises(InputError, match="expected a task with held-out patients whose folds"):
        held_out_scores([runs])


def test_command_prints_the_table(tmp_path: Path) -> None:
    write_run(tmp_path, by_centre())
    result = CliRunner().invoke(program.app, ["scores", str(tmp_path)], catch_exceptions=False)
    assert "| leave one centre out | survival | c_index | 1.000 [" in result.output
    with pytest.raises(HecktorError, match="train first"):
        CliRunner().invoke(program.app, ["scores", "nowhere"], catch_exceptions=False)
