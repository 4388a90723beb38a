"""Simple models in the folds of the networks, on patients made in memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from shared.clinical import ClinicalRecord
from shared.errors import InputError
from shared.lesions import measure_lesions
from shared.metrics.uncertainty import Interval, bootstrap
from tests.training.synthetic import configuration, patient
from training import __main__ as front
from training.cohort.cache import Cached
from training.cohort.folds import FILE, Fold
from training.studies import baselines as rivals
from training.studies.baselines import (
    MEASURES,
    NETWORK,
    RIVALS,
    Row,
    compare,
    markdown,
    masks_of_model,
    measure,
    table_of,
    true_mask,
)
from training.tasks import out_of_fold
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, Task

CENTRES = ("CHUM", "MDA", "USZ")


def made(number: int) -> Cached:
    """Return a patient who recurs the earlier the older, with more uptake where HPV-positive."""
    hpv = number % 4 != 0
    days = 3000.0 - 20 * number
    base = patient(number, CENTRES[number % 3], hpv=hpv, relapse=number % 2 == 0, days=days)
    image = base.image * np.array([1, 3 if hpv else 1], np.float16)[:, None, None, None]
    return dataclasses.replace(base, image=image)


PATIENTS = [made(number) for number in range(48)]
BY_CENTRE = Options(by_centre=True)
INPUTS = {"age": ("age",), "lesions": MEASURES}
HERE = Path("cohort")


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "prepared", lambda *_: PATIENTS)
    monkeypatch.setattr(rivals, "load_configuration", lambda _: configuration())
    monkeypatch.setattr(rivals, "bootstrap", partial(bootstrap, samples=20))
    few = {name: dataclasses.replace(each, inputs=INPUTS) for name, each in RIVALS.items()}
    monkeypatch.setattr(rivals, "RIVALS", few)


def measured(task: Task, runs: Path, options: Options = BY_CENTRE, **changes: object) -> list[Row]:
    given = {"masks": "true", "unseen": (), "segmentation": HERE, **changes}
    return measure(task, HERE, runs, options, **given)  # type: ignore[arg-type]


def row_of(rows: Sequence[Row], model: str, metric: str) -> Row:
    (found,) = (row for row in rows if (row.model, row.metric) == (model, metric))
    return found


def test_a_table_holds_record_measures_and_outcome() -> None:
    known = PATIENTS[5]
    files = dataclasses.replace(known.files, patient_id="MDA-900", labels=None)
    table = table_of([known, dataclasses.replace(known, files=files)], true_mask)
    row = table.loc[known.files.patient_id]
    assert (row["age"], row["gender"], row["rfs_days"]) == (55, 1, 2900)
    assert (row["relapse"], row["hpv_status"]) == (False, True)
    assert np.isnan(row["tobacco"])
    ct_hu, suv = known.image.astype(np.float32)
    expected = measure_lesions(known.labels, ct_hu, suv, known.undo.region).vector()
    np.testing.assert_allclose(row[list(MEASURES)].astype(float), expected)
    assert table.loc["MDA-900", list(MEASURES)].isna().all()


def test_age_tells_the_recurrence_in_unseen_centres(tmp_path: Path) -> None:
    rows = measured(Survival(), tmp_path)
    age = row_of(rows, "age", "C-index")
    assert age.held_out == Interval(value=1, low=1, high=1, standard_error=0)
    assert age.by_fold == dict.fromkeys(CENTRES, 1.0)
    assert row_of(rows, "lesions", "C-index").held_out.value < 0.9
    assert not list(tmp_path.iterdir())


def test_uptake_tells_the_status_in_unseen_centres(tmp_path: Path) -> None:
    rows = measured(Hpv(), tmp_path)
    metrics = ["balanced accuracy", "AUC"]
    assert [(r.metric, r.model) for r in rows] == [(m, name) for m in metrics for name in INPUTS]
    assert row_of(rows, "lesions", "balanced accuracy").held_out.value > 0.95
    assert row_of(rows, "lesions", "AUC").held_out.value == 1
    assert 0.3 < row_of(rows, "age", "balanced accuracy").held_out.value < 0.8


def test_a_model_sees_the_fitted_patients_of_its_fold_only() -> None:
    seen = []

    def spy(
        fitted: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]
    ) -> dict[str, object]:
        seen.append((tuple(fitted.index), tuple(others.index), tuple(columns)))
        return {"risk": np.arange(len(others))}

    table = table_of(PATIENTS, true_mask)
    names = list(table.index)
    folds = [
        Fold("0", tuple(names[:20]), tuple(names[20:])),
        Fold("1", tuple(names[20:]), tuple(names[:20])),
    ]
    watched = dataclasses.replace(RIVALS["survival"], inputs={"one": ("age",)}, predict=spy)
    other = table_of(PATIENTS[:9], true_mask)
    (row,) = compare(watched, table, folds, {"elsewhere": other})
    expected = [(fold.fitted, fold.held_out, ("age",)) for fold in folds]
    assert seen == [*expected, (tuple(names), tuple(other.index), ("age",))]
    assert list(row.unseen) == ["elsewhere"]


def test_the_folds_and_scores_of_a_run_are_taken_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the folds of a run in .* train first"):
        measured(Survival(), tmp_path, Options())
    names = [p.files.patient_id for p in PATIENTS]
    parts = (names[:30], names[30:]), (names[10:], names[:10])
    folds = [{"name": str(k), "fitted": a, "held_out": b} for k, (a, b) in enumerate(parts)]
    stated = {"how": "by hand", "strata": {}, "folds": folds}
    folder = tmp_path / "survival"
    for fold, result in enumerate(
        [
            {"kept": "best checkpoint", "best": {"c_index": 0.6}, "averaged": {"c_index": 0.5}},
            {"kept": "mean of weights", "best": {"c_index": 0.6}, "averaged": {"c_index": 0.7}},
        ]
    ):
        (folder / f"fold{fold}").mkdir(parents=True)
        (folder / f"fold{fold}" / "result.json").write_text(json.dumps(result))
    (folder / FILE).write_text(json.dumps(stated))
    network = row_of(measured(Survival(), tmp_path, Options()), NETWORK, "C-index")
    assert network.by_fold == {"0": 0.6, "1": 0.7}
    assert network.held_out.value == pytest.approx((18 * 0.6 + 10 * 0.7) / 28)
    assert NETWORK not in {row.model for row in measured(Survival(), tmp_path)}


def test_predicted_masks_are_those_out_of_fold(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an out-of-fold prediction in"):
        measured(Survival(), tmp_path, masks="predicted")
    folder = tmp_path / "segmentation" / out_of_fold.FOLDER
    folder.mkdir(parents=True)
    for each in PATIENTS:
        # Task 1 finds the lesions of HPV-positive patients only.
        labels = each.labels * np.uint8(bool(each.files.hpv))
        probabilities = np.zeros((2, *labels.shape), np.uint8)
        path = folder / f"{each.files.patient_id}.npz"
        np.savez(path, labels=labels, probabilities=probabilities, fold=np.array("0"))
    table = table_of(PATIENTS, out_of_fold.masks(tmp_path))
    found, truth = (table["mtv_ml"] > 0).tolist(), table["hpv_status"].tolist()
    assert found == truth
    assert (table_of(PATIENTS, true_mask)["mtv_ml"] > 0).all()


def test_unseen_cohorts_are_segmented_by_a_model_for_their_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = configuration().preparation
    model = SimpleNamespace(
        card=SimpleNamespace(preparation=preparation),
        segment=lambda prepared: (prepared.pet_suv > 4).astype(np.uint8),
    )
    monkeypatch.setattr(rivals.SegmentationModel, "load", lambda _: model)
    found = masks_of_model(tmp_path, preparation)(PATIENTS[1])
    assert found is not None
    assert found.any()
    monkeypatch.setattr(rivals.out_of_fold, "masks", lambda _: true_mask)
    rows = measured(Survival(), tmp_path, masks="predicted", unseen=[tmp_path / "elsewhere"])
    assert list(rows[0].unseen) == ["elsewhere"]
    other = preparation.model_copy(update={"spacing_mm": 1.5})
    with pytest.raises(InputError, match=r"expected a Task 1 model in .* for the region"):
        masks_of_model(tmp_path, other)


def test_what_cannot_be_compared_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="expected a task, one of survival, hpv"):
        measured(Segmentation(), tmp_path)
    with pytest.raises(InputError, match="with names of their own, found two b"):
        measured(Hpv(), tmp_path, unseen=[Path("a/b"), Path("c/b")])
    monkeypatch.setattr(rivals, "prepared", lambda *_: [patient(1)])
    with pytest.raises(InputError, match="expected patients with what hpv learns from in cohort"):
        measured(Hpv(), tmp_path)


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


def test_the_command_prints_and_writes_the_table(tmp_path: Path) -> None:
    words = ["rivals", "survival", "cohort", str(tmp_path), "--by-centre", "--output"]
    done = CliRunner().invoke(front.app, [*words, str(tmp_path / "table.md")])
    assert done.exit_code == 0, done.output
    assert "| C-index | lesions | " in done.output
    assert (tmp_path / "table.md").read_text() in done.output
    done = CliRunner().invoke(front.app, ["rivals", "stage", "cohort", str(tmp_path)])
    assert "expected a task, one of segmentation, hpv, survival" in str(done.exception)


def test_columns_are_values_of_the_record_or_measures() -> None:
    known = {*vars(ClinicalRecord()), *MEASURES}
    assert all(set(c) <= known for r in RIVALS.values() for c in r.inputs.values())
