"""Simple models in the folds of the networks, on patients made in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from shared.clinical import ClinicalRecord
from shared.errors import HecktorError, InputError
from shared.lesions import MEASURES, measure_lesions
from shared.metrics.uncertainty import Interval, bootstrap
from shared.models.segmentation import SegmentationModel
from tests.training.synthetic import configuration, make_patient, names_of, with_facts
from training import __main__ as program
from training.cohort.cache import PreparedPatient
from training.cohort.folds import FOLDS, Fold, Folds, HoldOut
from training.loop.fit import RESULT, FitResult
from training.studies.baselines import (
    BASELINES,
    CHOSEN,
    NETWORK,
    OPTIMISM,
    Row,
    compare,
    markdown,
    masks_of_model,
    measure,
    table_of,
    true_mask,
)
from training.tasks import out_of_fold
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

CENTRES = ("CHUM", "MDA", "USZ")


def baseline_patient(number: int) -> PreparedPatient:
    """Return a patient; older ones have earlier recurrences, HPV-positive ones more uptake."""
    hpv = number % 4 != 0
    days = 3000.0 - 20 * number
    patient = make_patient(number, CENTRES[number % 3], hpv=hpv, relapse=number % 2 == 0, days=days)
    image = patient.image * np.array([1, 3 if hpv else 1], np.float16)[:, None, None, None]
    return dataclasses.replace(patient, image=image)


PATIENTS = [baseline_patient(number) for number in range(48)]
BY_CENTRE = HoldOut(by_centre=True)
INPUTS = {"age": ("age",), "lesions": MEASURES}
FEW = {name: dataclasses.replace(each, inputs=INPUTS) for name, each in BASELINES.items()}


@pytest.fixture(autouse=True)
def _few_bootstrap_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.studies.baselines.bootstrap", partial(bootstrap, samples=20))


def measure_few(
    task: Task, runs: Path, hold_out: HoldOut = BY_CENTRE, **changes: object
) -> list[Row]:
    arguments = {"runs": runs, "hold_out": hold_out, "baselines": FEW, **changes}
    return measure(task, PATIENTS, **arguments)  # type: ignore[arg-type]


def row_of(rows: Sequence[Row], model: str, metric: str) -> Row:
    (match,) = (row for row in rows if (row.model, row.metric) == (model, metric))
    return match


def test_table_has_record_measures_and_outcome() -> None:
    patient = PATIENTS[5]
    unlabelled = with_facts(patient, patient_id="MDA-900", labels=None)
    table = table_of([patient, unlabelled], true_mask)
    row = table.loc[patient.patient_id]
    assert (row["age"], row["gender"], row["rfs_days"]) == (55, 1, 2900)
    assert (row["relapse"], row["hpv_status"]) == (False, True)
    assert np.isnan(row["tobacco"])
    ct_hu, suv = patient.image.astype(np.float32)
    expected = measure_lesions(patient.labels, ct_hu, suv, patient.undo.region).vector()
    np.testing.assert_allclose(row[list(MEASURES)].astype(float), expected)
    assert table.loc["MDA-900", list(MEASURES)].isna().all()


def test_age_predicts_the_recurrence_in_held_out_centres(tmp_path: Path) -> None:
    rows = measure_few(Survival(), tmp_path)
    age = row_of(rows, "age", "C-index")
    assert age.held_out == Interval(value=1, low=1, high=1, standard_error=0)
    assert age.by_fold == dict.fromkeys(CENTRES, 1.0)
    assert row_of(rows, "lesions", "C-index").held_out.value < 0.9
    assert not list(tmp_path.iterdir())


def test_uptake_predicts_the_hpv_status_in_held_out_centres(tmp_path: Path) -> None:
    rows = measure_few(Hpv(), tmp_path)
    metrics = ["balanced accuracy", "AUC"]
    assert [(r.metric, r.model) for r in rows] == [(m, name) for m in metrics for name in INPUTS]
    assert row_of(rows, "lesions", "balanced accuracy").held_out.value > 0.95
    assert row_of(rows, "lesions", "AUC").held_out.value == 1
    assert 0.3 < row_of(rows, "age", "balanced accuracy").held_out.value < 0.8


def test_model_is_fitted_only_to_the_patients_trained_on_in_its_fold() -> None:
    calls = []

    def predict(
        training: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]
    ) -> dict[str, object]:
        calls.append((tuple(training.index), tuple(others.index), tuple(columns)))
        return {"risk": np.arange(len(others))}

    table = table_of(PATIENTS, true_mask)
    names = tuple(table.index)
    folds = [
        Fold(name="0", training=names[:20], held_out=names[20:]),
        Fold(name="1", training=names[20:], held_out=names[:20]),
    ]
    baselines = dataclasses.replace(
        BASELINES["survival"], inputs={"one": ("age",)}, predict=predict
    )
    other = table_of(PATIENTS[:9], true_mask)
    (row,) = compare(baselines, table, folds, {"elsewhere": other})
    expected = [(fold.training, fold.held_out, ("age",)) for fold in folds]
    assert calls == [*expected, (names, tuple(other.index), ("age",))]
    assert list(row.unseen) == ["elsewhere"]


def test_folds_and_scores_of_a_training_run_are_used_by_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the folds of a training run in .* train first"):
        measure_few(Survival(), tmp_path, HoldOut())
    names = names_of(PATIENTS)
    folds = Folds(
        how="by hand",
        strata={},
        folds=(
            Fold(name="0", training=names[:30], held_out=names[30:]),
            Fold(name="1", training=names[10:], held_out=names[:10]),
        ),
    )
    folder = tmp_path / "survival"
    for fold, (best, late) in enumerate([(0.8, 0.6), (0.75, 0.7)]):
        result = FitResult(
            kept="best checkpoint",
            best={"c_index": best, "score": best},
            late={"c_index": late, "score": late},
            train_seconds=1.0,
        )
        (folder / f"fold{fold}").mkdir(parents=True)
        (folder / f"fold{fold}" / RESULT).write_text(result.model_dump_json())
    (folder / FOLDS).write_text(folds.model_dump_json())
    rows = measure_few(Survival(), tmp_path, HoldOut())
    assert row_of(rows, CHOSEN, "C-index").by_fold == {"0": 0.8, "1": 0.75}
    optimism = row_of(rows, OPTIMISM, "C-index")
    assert optimism.held_out.value == pytest.approx((18 * 0.2 + 10 * 0.05) / 28)
    network = row_of(rows, NETWORK, "C-index")
    assert network.by_fold == {"0": 0.6, "1": 0.7}
    assert network.held_out.value == pytest.approx((18 * 0.6 + 10 * 0.7) / 28)
    assert NETWORK not in {row.model for row in measure_few(Survival(), tmp_path)}


def test_predicted_masks_are_those_out_of_fold(tmp_path: Path) -> None:
    masks = out_of_fold.masks(tmp_path)
    with pytest.raises(InputError, match="expected an out-of-fold prediction in"):
        measure_few(Survival(), tmp_path, masks=masks)
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    folder.mkdir(parents=True)
    for patient in PATIENTS:
        # Task 1 finds the lesions of HPV-positive patients only.
        labels = patient.labels * np.uint8(bool(patient.patient.hpv))
        probabilities = np.zeros((2, *labels.shape), np.uint8)
        path = folder / f"{patient.patient_id}.npz"
        np.savez(path, labels=labels, probabilities=probabilities, fold=np.array("0"))
    table = table_of(PATIENTS, masks)
    assert (table["mtv_ml"] > 0).tolist() == table["hpv_status"].tolist()
    assert (table_of(PATIENTS, true_mask)["mtv_ml"] > 0).all()
    assert row_of(measure_few(Hpv(), tmp_path, masks=masks), "lesions", "AUC").held_out.value == 1


def test_unseen_cohorts_are_segmented_by_a_model_for_their_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = configuration().preparation
    model = SimpleNamespace(
        card=SimpleNamespace(preparation=preparation),
        segment=lambda prepared: SimpleNamespace(labels=(prepared.pet_suv > 4).astype(np.uint8)),
    )
    monkeypatch.setattr(SegmentationModel, "load", lambda _: model)
    masks = masks_of_model(tmp_path, preparation)
    mask = masks(PATIENTS[1])
    assert mask is not None
    assert mask.any()
    rows = measure_few(
        Survival(), tmp_path, unseen={"elsewhere": PATIENTS[:20]}, unseen_masks=masks
    )
    assert row_of(rows, "age", "C-index").unseen["elsewhere"].value == 1
    other = preparation.model_copy(update={"spacing_mm": 1.5})
    with pytest.raises(InputError, match=r"expected a Task 1 model in .* for the region"):
        masks_of_model(tmp_path, other)


def test_task_or_cohort_without_baselines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a task, one of survival, hpv"):
        measure_few(Segmentation(), tmp_path)
    with pytest.raises(InputError, match="expected patients that hpv can learn from, found none"):
        measure(Hpv(), [make_patient(1)], runs=tmp_path, hold_out=BY_CENTRE)


def interval(
    value: float,
    low: float | None = None,
    high: float | None = None,
    standard_error: float | None = None,
) -> Interval:
    return Interval(value=value, low=low, high=high, standard_error=standard_error)


def test_markdown_by_hand() -> None:
    rows = [
        Row("C-index", "a", interval(0.6124, 0.5, 0.75, 0.1), {"MDA": 0.6, "USZ": None},
            {"b": interval(float("nan"))}),
        Row("C-index", "net", interval(0.7), {"MDA": 0.7}, {}),
    ]  # fmt: skip
    assert markdown(rows).splitlines() == [
        "|  | model | held out [95 %] | fold MDA | fold USZ | b [95 %] |",
        "| --- | --- | --- | --- | --- | --- |",
        "| C-index | a | 0.612 [0.500, 0.750] | 0.600 | – | – |",
        "| C-index | net | 0.700 | 0.700 | – | – |",
    ]


def test_command_prints_and_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "prepare_cohort", lambda *_, **__: PATIENTS)
    words = ["baselines", "survival", "cohort", str(tmp_path), "--by-centre", "--output"]
    result = CliRunner().invoke(program.app, [*words, str(tmp_path / "table.md")])
    assert result.exit_code == 0, result.output
    assert "| C-index | lesions | " in result.output
    assert (tmp_path / "table.md").read_text() in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stage"], "expected a task, one of segmentation, hpv, survival, found 'stage'"),
        (["hpv", "--unseen", "a/b", "--unseen", "c/b"], "distinct names, found b, b; rename"),
    ],
)
def test_command_refuses_unknown_tasks_and_equal_names(
    tmp_path: Path, words: list[str], message: str
) -> None:
    command = ["baselines", words[0], "cohort", str(tmp_path), *words[1:]]
    with pytest.raises(HecktorError, match=message):
        CliRunner().invoke(program.app, command, catch_exceptions=False)


def test_columns_are_values_of_the_record_or_measures() -> None:
    columns = {*vars(ClinicalRecord()), *MEASURES}
    for baselines in BASELINES.values():
        assert all(set(inputs) <= columns for inputs in baselines.inputs.values())
