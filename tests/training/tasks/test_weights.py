"""How kinds of models are weighted by their out-of-fold outputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from shared.metrics.classification import balanced_accuracy
from shared.metrics.survival import concordance_index
from shared.models.card import MemberKind
from tests.training.synthetic import configuration, make_patient, with_facts
from training.cohort.cache import PreparedPatient
from training.config import Configuration
from training.tasks import out_of_fold
from training.tasks.base import Served, Task
from training.tasks.hpv import Hpv
from training.tasks.survival import Survival
from training.tasks.weights import HPV_WEIGHING, MIN_EVENTS, RISK_WEIGHING, Weights

COUNT = 200
FIRST = make_patient(0)
TASKS_OF_BOTH_KINDS = [
    # CI runs it in a step of its own: the AUC of each resample takes time.
    pytest.param(Hpv(), id="hpv", marks=pytest.mark.slow),
    pytest.param(Survival(), id="survival"),
]


def patients_of(hpv: NDArray[np.bool_], days: NDArray[np.float64]) -> list[PreparedPatient]:
    """Return patients with these outcomes; two of three have a recurrence."""
    return [
        with_facts(
            FIRST,
            patient_id=f"MDA-{n:03d}",
            hpv=bool(hpv[n]),
            relapse=n % 3 > 0,
            rfs_days=float(days[n]),
        )
        for n in range(len(hpv))
    ]


def loud_network(
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], dict[MemberKind, NDArray[np.float64]]]:
    """Return truths, outputs of a good linear model, and large outputs of a network at chance."""
    truth = rng.random(COUNT) < 0.5
    linear = np.where(truth, 1.0, -1.0) + rng.normal(0, 0.7, COUNT)
    return truth, {"network": rng.normal(0, 20, COUNT), "linear": linear}


def in_folds(
    outputs: dict[MemberKind, NDArray[np.float64]], fold: int
) -> dict[MemberKind, NDArray[np.float64]]:
    return {kind: values[fold::4] for kind, values in outputs.items()}


def test_loud_network_at_chance_does_not_drown_the_linear_model_of_task_3(tmp_path: Path) -> None:
    truth, outputs = loud_network(np.random.default_rng(0))
    cohort = patients_of(truth, np.ones(COUNT))
    for fold in range(4):
        out_of_fold.write_logits(tmp_path, str(fold), cohort[fold::4], in_folds(outputs, fold))
    names = [patient.patient_id for patient in cohort]
    decisions = np.array(out_of_fold.read_hpv_probabilities(tmp_path, names)) >= 0.5
    alone = balanced_accuracy(outputs["linear"] >= 0, truth)
    averaged = balanced_accuracy(outputs["linear"] + outputs["network"] >= 0, truth)
    assert averaged < 0.6
    assert balanced_accuracy(decisions, truth) >= alone - 0.02
    weights = out_of_fold.fit_hpv_weights(tmp_path, ["network", "linear"]).weights
    assert weights["network"] < 0.02 * weights["linear"]


def test_loud_network_at_chance_does_not_drown_the_linear_model_of_task_2(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    risk = rng.normal(0, 1, COUNT)
    days = 1000 * np.exp(-risk + rng.normal(0, 0.5, COUNT))
    cohort = patients_of(risk > 0, days)
    outputs: dict[MemberKind, NDArray[np.float64]] = {
        "network": rng.normal(0, 9, COUNT),
        "linear": risk,
    }
    for fold in range(4):
        out_of_fold.write_risks(tmp_path, str(fold), cohort[fold::4], in_folds(outputs, fold))
    names = [patient.patient_id for patient in cohort]
    events = [bool(patient.patient.relapse) for patient in cohort]
    both = concordance_index(out_of_fold.read_risks(tmp_path, names), days, events)
    assert both >= concordance_index(risk, days, events) - 0.02
    assert concordance_index(outputs["network"] + risk, days, events) < 0.7


def frames(
    truth: NDArray[np.bool_], outputs: dict[MemberKind, NDArray[np.float64]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.DataFrame(outputs), pd.DataFrame({"HPV Status": truth})


def test_weights_do_not_depend_on_the_scale_of_a_kind() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(COUNT) < 0.3
    signal = np.where(truth, 1.0, -1.0)
    noise = rng.normal(0, 1, (2, COUNT))
    outputs = pd.DataFrame({"network": signal + 2 * noise[0], "linear": 0.5 * signal + noise[1]})
    truths = pd.DataFrame({"HPV Status": truth})
    plain = HPV_WEIGHING.weights(outputs, truths)
    scaled = HPV_WEIGHING.weights(outputs * [10, 1], truths)
    assert scaled.weights["network"] == pytest.approx(plain.weights["network"] / 10, rel=1e-3)
    assert scaled.weights["linear"] == pytest.approx(plain.weights["linear"], rel=1e-3)


def test_calibrated_logits_of_one_kind_keep_their_slope() -> None:
    """With equal classes, logits that are true log-odds have a Platt slope of 1."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 20_000)
    truth = rng.random(20_000) < expit(logits)
    outputs, truths = frames(truth, {"linear": logits, "network": rng.normal(0, 1, 20_000)})
    weights = HPV_WEIGHING.weights(outputs, truths)
    assert weights.weights["linear"] == pytest.approx(1, abs=0.05)
    assert weights.weights["network"] < 0.05
    assert weights.offset == pytest.approx(0, abs=0.05)


def test_kind_that_speaks_against_the_outcome_is_left_out() -> None:
    truth, outputs = loud_network(np.random.default_rng(4))
    against: dict[MemberKind, NDArray[np.float64]] = {
        **outputs,
        "network": -(outputs["linear"] ** 3),
    }
    weights = HPV_WEIGHING.weights(*frames(truth, {**against, "linear": outputs["linear"]}))
    assert all(weight >= 0 for weight in weights.weights.values())
    assert weights.weights["linear"] > 0
    alike = {"linear": outputs["linear"], "network": outputs["linear"]}
    both_against = HPV_WEIGHING.weights(*frames(~truth, alike))
    assert both_against == Weights()


def test_patients_are_weighted_by_what_other_folds_say() -> None:
    truth, outputs = loud_network(np.random.default_rng(5))
    table, truths = frames(truth, outputs)
    folds = pd.Series(np.arange(COUNT) % 4)
    before = HPV_WEIGHING.combine_unseen(table, truths, folds)
    own = folds == 2
    changed = truths.mask(own, ~truths)
    after = HPV_WEIGHING.combine_unseen(table, changed, folds)
    np.testing.assert_array_equal(after[own], before[own])
    assert not np.allclose(after[~own], before[~own])
    single = HPV_WEIGHING.combine_unseen(table, truths, folds * 0)
    served = HPV_WEIGHING.weights(table, truths).combine(table)
    assert not np.allclose(single, served)


def test_few_patients_count_all_kinds_alike() -> None:
    truth = np.arange(60) < MIN_EVENTS - 1
    outputs, truths = frames(truth, {"linear": np.where(truth, 1.0, -1.0), "network": np.ones(60)})
    assert HPV_WEIGHING.weights(outputs, truths) == Weights()
    combined = HPV_WEIGHING.combine_unseen(outputs, truths, pd.Series(np.arange(60) % 2))
    np.testing.assert_array_equal(combined, outputs.mean(axis=1))
    outcomes = pd.DataFrame({"Relapse": truth, "RFS": np.arange(60.0)})
    assert RISK_WEIGHING.weights(outputs, outcomes) == Weights()


def with_best(task: Task, models: str = "best") -> Configuration:
    content = configuration().model_dump()
    content[task.name]["models"] = models
    return Configuration.model_validate(content)


def write_outputs(
    task: Task, runs: Path, outputs: dict[MemberKind, NDArray[np.float64]], truth: NDArray[np.bool_]
) -> Path:
    """Write out-of-fold outputs in four folds; the outcome follows `truth`. Return the run."""
    days = np.where(truth, 100.0, 900.0) + np.arange(COUNT)
    cohort = patients_of(truth, days)
    folder = runs / task.name / out_of_fold.FOLDER
    writer = out_of_fold.write_logits if task.name == "hpv" else out_of_fold.write_risks
    for fold in range(4):
        writer(folder, str(fold), cohort[fold::4], in_folds(outputs, fold))
    return runs / task.name


@pytest.mark.parametrize("task", TASKS_OF_BOTH_KINDS)
def test_a_network_that_adds_nothing_out_of_fold_is_left_out(task: Task, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(COUNT) < 0.5
    linear = np.where(truth, 1.0, -1.0) + rng.normal(0, 0.7, COUNT)
    run = write_outputs(task, tmp_path, {"network": -linear, "linear": linear}, truth)
    served = task.served(with_best(task), run)
    assert served.kinds == ("linear",)
    score = {"hpv": "AUC", "survival": "C-index"}[task.name]
    assert re.fullmatch(
        rf"Networks left out: out of fold, {score} 0\.\d+ with networks and 0\.\d+ without, a gain "
        r"of [+-]0\.\d+ \[[+-]0\.\d+, [+-]0\.\d+\] on \d+ patients\.",
        served.reason,
    )


@pytest.mark.parametrize("task", TASKS_OF_BOTH_KINDS)
def test_a_network_that_adds_something_is_kept(task: Task, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(COUNT) < 0.5
    linear, network = (np.where(truth, 1.0, -1.0) + rng.normal(0, 1.5, COUNT) for _ in range(2))
    run = write_outputs(task, tmp_path, {"network": network, "linear": linear}, truth)
    served = task.served(with_best(task), run)
    assert served.kinds == ("network", "linear")
    assert served.reason.startswith("Networks kept: ")
    outputs = task.ranking.read(run / out_of_fold.FOLDER)  # type: ignore[attr-defined]
    assert len(outputs) == COUNT
    expected = f"{task.ranking.name} "  # type: ignore[attr-defined]
    assert expected in served.reason


@pytest.mark.parametrize("models", ["both", "linear", "networks"])
def test_without_a_comparison_all_kinds_are_served(tmp_path: Path, models: str) -> None:
    settings = with_best(Hpv(), models)
    assert Hpv().served(settings, tmp_path) == Served(kinds=Hpv().kinds(settings))
