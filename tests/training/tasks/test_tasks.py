"""The differences between the tasks: the patients to learn from, the inputs and the checks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from shared.clinical import ClinicalFeature, ClinicalRecord
from shared.errors import InputError
from tests.training.synthetic import (
    configuration,
    fold_training,
    make_patient,
    with_facts,
    without_labels,
)
from training.cohort.cache import PreparedPatient
from training.config import Configuration
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation, Totals
from training.tasks.survival import Survival

PATIENTS = [
    make_patient(n, hpv=n % 2 == 0, relapse=n % 4 < 2, days=9.0 + n) for n in range(6)
]  # fmt: skip

FEATURES = (ClinicalFeature(key="age", mean=50.0, std=10.0),)


def test_segmentation_learns_from_patients_with_a_label_map() -> None:
    assert Segmentation().training_view(PATIENTS[0]) is PATIENTS[0]
    assert Segmentation().training_view(without_labels(PATIENTS[0])) is None


@pytest.mark.parametrize("hpv", [True, False, None])
def test_hpv_learns_from_patients_with_a_known_status(hpv: bool | None) -> None:
    patient = make_patient(0, hpv=hpv)
    assert Hpv().training_view(patient) is (None if hpv is None else patient)


@pytest.mark.parametrize(("status", "expected"), [(True, 1.0), (False, 0.0), (None, None)])
def test_survival_learns_from_patients_with_follow_up_and_the_true_hpv_status(
    status: bool | None, expected: float | None
) -> None:
    view = Survival().training_view(make_patient(0, hpv=status, relapse=True, days=3.0))
    assert view is not None
    assert view.patient.clinical == ClinicalRecord(age=50.0, gender=1.0, hpv=expected)
    assert Survival().training_view(make_patient(0, hpv=status)) is None


def test_strata_are_outcomes() -> None:
    assert Segmentation().stratum(PATIENTS[0]) == "HPV 1, relapse 1, GTVp, GTVn"
    unlabelled = dataclasses.replace(make_patient(1, hpv=False), labels=PATIENTS[0].labels * 0)
    assert Segmentation().stratum(unlabelled) == "HPV 0, no lesion"
    assert Hpv().stratum(PATIENTS[1]) == "HPV 0"
    assert Survival().stratum(PATIENTS[2]) == "relapse 0"


@pytest.mark.parametrize("task", [Hpv(), Survival()], ids=["hpv", "survival"])
def test_true_masks_need_a_label_map_of_every_patient(task: Hpv | Survival) -> None:
    cohort = [*PATIENTS[:5], without_labels(PATIENTS[5])]
    with pytest.raises(InputError, match=r"found 1 without, such as MDA-005; set masks ="):
        task.with_inputs(cohort, Path("runs"), configuration())
    assert task.with_inputs(PATIENTS, Path("runs"), configuration()) == PATIENTS


# Checks of a fold


def test_fold_with_one_hpv_status_is_refused() -> None:
    positive = [p for p in PATIENTS if p.patient.hpv]
    training = fold_training(configuration(), PATIENTS, positive)
    with pytest.raises(InputError, match=r"fold 0: .* of both .* 3 held-out patients, found 3"):
        Hpv().check(training)
    with pytest.raises(InputError, match=r"both .* the 3 training patients, found 3 positive"):
        Hpv().check(fold_training(configuration(), positive, PATIENTS))


@pytest.mark.parametrize("relapses", [[False, False, True], [False, False, False]])
def test_fold_whose_risks_cannot_be_ranked_is_refused(relapses: list[bool]) -> None:
    held_out = [with_facts(p, relapse=r) for p, r in zip(PATIENTS[:3], relapses, strict=True)]
    training = fold_training(configuration(), PATIENTS, held_out)
    with pytest.raises(InputError, match="fold 0: expected a recurrence earlier than another"):
        Survival().check(training)
    Survival().check(dataclasses.replace(training, held_out=PATIENTS))


@pytest.mark.parametrize("part", ["training", "held-out"])
def test_fold_without_any_node_is_refused(part: str) -> None:
    without = [dataclasses.replace(p, labels=np.minimum(p.labels, 1)) for p in PATIENTS]
    patients = without[:4] if part == "training" else PATIENTS[:4]
    training = fold_training(configuration(), patients, without[4:])
    with pytest.raises(InputError, match=rf"fold 0: .* with GTVn .* {part} patients, "):
        Segmentation().check(training)


def test_one_kind_of_lesion_is_checked_and_scored_alone() -> None:
    without_nodes = [dataclasses.replace(p, labels=np.minimum(p.labels, 1)) for p in PATIENTS]
    settings = configuration(lesions=("GTVp",))
    training = fold_training(settings, without_nodes[:4], without_nodes[4:])
    Segmentation().check(training)
    totals = Totals()
    totals.add(without_nodes[0].labels, without_nodes[0].labels, 1.0)
    totals.add(without_nodes[0].labels * 0, without_nodes[0].labels, 1.0)
    module = Segmentation().module(training)
    assert module.scores([totals]) == {"gtvp_dice": 0.5, "score": 0.5}
    both = Segmentation().module(fold_training(configuration(), PATIENTS, PATIENTS))
    assert both.scores([totals])["score"] == 0.5 + 1 + 1, "absent nodes are perfect nodes"


def test_unknown_or_repeated_lesions_are_rejected() -> None:
    for wrong in ((), ("GTV",), ("GTVp", "GTVp")):
        with pytest.raises(ValidationError, match="lesions"):
            configuration(lesions=wrong)


# Inputs and losses


def test_measures_are_of_true_or_predicted_lesions(tmp_path: Path) -> None:
    def volume(**settings: str) -> float:
        content = configuration().model_dump()
        content["hpv"] |= {"models": "linear", **settings}
        training = fold_training(Configuration.model_validate(content), (), (), runs=tmp_path)
        return float(Hpv().linear_inputs(PATIENTS[:1], training)[0, 0])

    assert volume() == pytest.approx(np.log1p(np.count_nonzero(PATIENTS[0].labels) * 0.216))
    with pytest.raises(InputError, match="train all folds of Task 1"):
        volume(masks="predicted")


def test_patients_without_a_label_map_do_not_train_the_decoder() -> None:
    def gradient(patients: list[PreparedPatient]) -> torch.Tensor:
        training = fold_training(configuration(), patients, patients, features=FEATURES)
        torch.manual_seed(0)
        module = Hpv().module(training).eval()
        batch = next(iter(Hpv().loaders(training)[0]))
        module.loss(batch).backward()
        last = next(p for name, p in module.named_parameters() if "output_block" in name)
        assert last.grad is not None
        return last.grad

    assert gradient(PATIENTS[:2]).abs().max() > 0
    assert not gradient([without_labels(p) for p in PATIENTS[:2]]).any()


# The score that chooses an epoch


@pytest.mark.parametrize("selected_by", ["balanced accuracy", "AUC", "balanced log-loss"])
def test_epoch_of_hpv_is_chosen_by_the_configured_score(selected_by: str) -> None:
    """One of two negative patients is called positive, but ranked below all positive ones."""
    content = configuration().model_dump()
    content["hpv"]["selected_by"] = selected_by
    settings = Configuration.model_validate(content)
    module = Hpv().module(fold_training(settings, (), (), features=FEATURES))
    observations = [(2.0, True), (1.0, True), (-2.0, False), (0.5, False), (0.6, True)]
    scores = module.scores(observations)
    accuracy, auc = (1 + 1 / 2) / 2, 1.0
    losses = np.logaddexp(0, [-2, -1, -0.6]).mean(), np.logaddexp(0, [-2, 0.5]).mean()
    loss = float(np.mean(losses))
    assert scores["balanced_accuracy"] == pytest.approx(accuracy)
    assert scores["auc"] == pytest.approx(auc)
    assert scores["balanced_log_loss"] == pytest.approx(loss)
    expected = {"balanced accuracy": accuracy, "AUC": auc, "balanced log-loss": -loss}
    assert scores["score"] == pytest.approx(expected[selected_by], abs=2e-3)
