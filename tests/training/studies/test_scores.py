"""The scores of the demo weights: by hand on three patients, with models that are told answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import Label
from shared.errors import InputError
from shared.models.card import Kind, Member
from shared.preprocessing.pipeline import Undo
from tests.training.synthetic import GRID, patient
from training.studies import scores as module
from training.studies.scores import by_kind, evaluate


def member(kind: Kind) -> Member:
    return Member(file=f"{kind}.onnx", sha256="", kind=kind)


def test_an_ensemble_of_one_kind_is_scored_as_a_whole() -> None:
    outputs = [(member("network"), 0.5), (member("network"), 2.0)]
    assert by_kind(outputs) == {"": outputs}


def test_each_of_several_kinds_is_scored_alone_too() -> None:
    networks = [(member("network"), 0.5), (member("network"), 2.0)]
    linear = [(member("linear"), -1.0)]
    assert by_kind(networks + linear) == {
        "": networks + linear,
        "_network_alone": networks,
        "_linear_alone": linear,
    }


def told(case: Case, _: object) -> SimpleNamespace:
    """Stand in for the preparation: it says which patient it was, by the age."""
    assert case.clinical.age is not None
    return SimpleNamespace(number=int(case.clinical.age) - 50, undo=Undo(GRID, GRID))


def test_scores_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perfect answer, an empty one, and a patient without a primary in whom none is found."""
    cohort = [
        patient(n, folder=tmp_path, hpv=n != 1, relapse=n != 2, days=n + 1.0) for n in range(3)
    ]
    nodes = np.where(cohort[2].labels == Label.GTVN, cohort[2].labels, 0)
    assert cohort[2].files.labels is not None
    sitk.WriteImage(GRID.image(nodes), str(cohort[2].files.labels))
    answers = [cohort[0].labels, np.zeros_like(nodes), nodes]
    logits, linear_logits = (2.0, 1.0, 3.0), (-1.0, -3.0, -5.0)
    card = SimpleNamespace(preparation=None)

    class Segments:
        def segment(self, prepared: SimpleNamespace) -> object:
            return answers[prepared.number]

    class Decides:
        def outputs(self, prepared: SimpleNamespace, *_: object) -> list[tuple[Member, float]]:
            n = prepared.number
            return [(member("network"), logits[n]), (member("linear"), linear_logits[n])]

        def combine(self, outputs: list[tuple[Member, float]]) -> SimpleNamespace:
            logit = sum(value for _, value in outputs) / len(outputs)
            return SimpleNamespace(decision=logit > 0, probability=logit)

    class Ranks:
        def outputs(
            self, _: object, clinical: ClinicalRecord, labels: object
        ) -> list[tuple[Member, float]]:
            assert clinical.hpv is not None
            return [(member("network"), clinical.hpv)]

        def combine(self, outputs: list[tuple[Member, float]]) -> float:
            return outputs[0][1]

    monkeypatch.setattr(module, "prepare", told)
    monkeypatch.setattr(module, "require_same_preparation", lambda *_: None)
    for name, model in (
        ("SegmentationModel", Segments()),
        ("HpvModel", Decides()),
        ("SurvivalModel", Ranks()),
    ):
        model.card = card  # type: ignore[attr-defined]
        monkeypatch.setattr(module, name, SimpleNamespace(load=lambda _, model=model: model))

    scores = evaluate(Path(), [p.files for p in cohort], "three", write=False)
    found = {s.metric: (s.value, s.patients) for task in scores.values() for s in task}
    assert found == {
        "gtvp_dice": (pytest.approx(2 / 3), 3),
        # Of three nodes of one size two are found.
        "gtvn_aggregated_dice": (pytest.approx(4 / 5), 3),
        "gtvn_aggregated_f1": (pytest.approx(4 / 5), 3),
        "no_primary_found": (1.0, 1),
        # Truth + - +: the mean says + - -, networks + + +, linear models - - -.
        "balanced_accuracy": (pytest.approx(0.75), 3),
        "balanced_accuracy_network_alone": (pytest.approx(0.5), 3),
        "balanced_accuracy_linear_alone": (pytest.approx(0.5), 3),
        # Recurrences after 1 and 2 days, none within 3; risks are the mean logits 0.5, -1, -1:
        # of three pairs two are ranked as they should, one is tied.
        "c_index": (pytest.approx(2.5 / 3), 3),
    }
    unlabelled = dataclasses.replace(cohort[0].files, labels=None)
    with pytest.raises(InputError, match="expected labels for patient MDA-000, found none"):
        evaluate(Path(), [unlabelled], "one", write=False)
