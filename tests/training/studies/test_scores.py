"""The scores of the repository's models, by hand on three patients, with fixed answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.special import expit

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import Label, LabelVolume
from shared.editions import CURRENT
from shared.errors import InputError
from shared.models.card import Member, MemberKind
from shared.models.chain import Chain
from shared.postprocessing.restore import SegmentedRegion
from shared.preprocessing.pipeline import Prepared
from shared.tasks import TaskName
from tests.shared.postprocessing.segmented import certain
from tests.training.synthetic import GRID, make_patient, with_facts
from training.cohort.cache import PreparedPatient
from training.studies.scores import gains_of, observe, repository_models, scores_of
from training.tasks.prognosis import by_kind

CARD = SimpleNamespace(preparation=None, threshold=0.5)


def member(kind: MemberKind) -> Member:
    return Member(file=f"{kind}.onnx", sha256="0" * 64, kind=kind)


def test_ensemble_of_one_kind_has_one_score() -> None:
    outputs = [(member("network"), 0.5), (member("network"), 2.0)]
    assert by_kind(outputs) == {"": outputs}


def test_each_of_several_kinds_is_also_scored_alone() -> None:
    networks = [(member("network"), 0.5), (member("network"), 2.0)]
    linear = [(member("linear"), -1.0)]
    assert by_kind(networks + linear) == {
        "": networks + linear,
        "_network_alone": networks,
        "_linear_alone": linear,
    }


@dataclass
class FixedSegmentation:
    """Returns a fixed label map for each patient, whom it recognises by the PET."""

    patients: list[PreparedPatient]
    answers: list[LabelVolume]
    card: ClassVar[object] = CARD

    def number(self, prepared: Prepared) -> int:
        (number,) = (
            n for n, p in enumerate(self.patients) if np.array_equal(p.image[1], prepared.pet_suv)
        )
        return number

    def segment(self, prepared: Prepared) -> SegmentedRegion:
        return certain(self.answers[self.number(prepared)])


@dataclass
class FixedHpv:
    """Returns fixed logits of a network and a linear model for each patient."""

    number: Any
    logits: dict[MemberKind, tuple[float, ...]]
    card: ClassVar[object] = CARD

    def outputs(self, prepared: Prepared, *_: object) -> list[tuple[Member, float]]:
        number = self.number(prepared)
        return [(member(kind), logits[number]) for kind, logits in self.logits.items()]

    def combine(self, outputs: list[tuple[Member, float]]) -> SimpleNamespace:
        logit = sum(value for _, value in outputs) / len(outputs)
        return SimpleNamespace(decision=logit > 0, probability=float(expit(logit)), logit=logit)


@dataclass
class HpvAsRisk:
    """Returns the HPV value of the record as the risk."""

    card: ClassVar[object] = CARD
    records: list[ClinicalRecord] = field(default_factory=list)

    def outputs(
        self, _: Prepared, clinical: ClinicalRecord, labels: LabelVolume
    ) -> list[tuple[Member, float]]:
        assert labels is not None
        assert clinical.hpv is not None
        self.records.append(clinical)
        return [(member("network"), clinical.hpv)]

    def combine(self, outputs: list[tuple[Member, float]]) -> float:
        return outputs[0][1]


class FixedChain(Chain):
    """A chain that prepares cases of patients in memory, whom it recognises by their age."""

    def prepare(self, case: Case) -> Prepared:
        assert case.clinical.age is not None
        segmentation: Any = self.segmentation
        prepared: Prepared = segmentation.patients[int(case.clinical.age) - 50].prepared()
        return prepared


def chain_for(patients: list[PreparedPatient], answers: list[LabelVolume]) -> Chain:
    segmentation: Any = FixedSegmentation(patients, answers)
    hpv: Any = FixedHpv(
        segmentation.number, {"network": (2.0, 1.0, 3.0), "linear": (-1.0, -3.0, -5.0)}
    )
    survival: Any = HpvAsRisk()
    return FixedChain(segmentation=segmentation, hpv=hpv, survival=survival)


def models_of(chain: Chain) -> dict[TaskName, Any]:
    return {"segmentation": chain.segmentation, "hpv": chain.hpv, "survival": chain.survival}


def test_scores_by_hand(tmp_path: Path) -> None:
    """One mask is perfect, one is empty, and one patient has neither a true nor a false primary."""
    cohort = [
        make_patient(n, folder=tmp_path, hpv=n != 1, relapse=n != 2, days=n + 1.0) for n in range(3)
    ]
    nodes = np.where(cohort[2].labels == Label.GTVN, cohort[2].labels, 0)
    sitk.WriteImage(GRID.image(nodes), str(cohort[2].patient.labels))
    answers = [cohort[0].labels, np.zeros_like(nodes), nodes]

    chain = chain_for(cohort, answers)
    observations = observe(chain, models_of(chain), [p.patient for p in cohort])
    scores = scores_of(observations, "three")
    values = {s.metric: (s.value, s.patients) for task in scores.values() for s in task}
    assert values == {
        "gtvp_dice": (pytest.approx(2 / 3), 3),
        # Two of three nodes of equal size are found.
        "gtvn_aggregated_dice": (pytest.approx(4 / 5), 3),
        "gtvn_aggregated_f1": (pytest.approx(4 / 5), 3),
        "no_primary_found": (1.0, 1),
        # Truth + - +; the mean logits decide + - -, networks + + +, linear models - - -.
        "balanced_accuracy": (pytest.approx(0.75), 3),
        "balanced_accuracy_network_alone": (pytest.approx(0.5), 3),
        "balanced_accuracy_linear_alone": (pytest.approx(0.5), 3),
        # The mean logits are 0.5, -1, -1: a positive patient is tied with the negative one.
        "auc": (pytest.approx(0.75), 3),
        "auc_network_alone": (pytest.approx(1), 3),
        "auc_linear_alone": (pytest.approx(0.5), 3),
        # Recurrences after 1 and 2 days, none within 3. The risks have the order of the mean
        # logits, 0.5, -1, -1. Two of three pairs are ranked correctly, and one is tied.
        "c_index": (pytest.approx(2.5 / 3), 3),
    }
    assert {task: {s.cohort for s in each} for task, each in scores.items()} == {
        "segmentation": {"three"},
        "hpv": {"three"},
        "survival": {"three"},
    }
    gains = {(metric, alone): gain.value for _, metric, alone, gain in gains_of(observations)}
    assert gains == {
        ("balanced_accuracy", "balanced_accuracy_network_alone"): pytest.approx(0.25),
        ("balanced_accuracy", "balanced_accuracy_linear_alone"): pytest.approx(0.25),
        ("auc", "auc_network_alone"): pytest.approx(-0.25),
        ("auc", "auc_linear_alone"): pytest.approx(0.25),
    }


def test_survival_is_served_the_predicted_hpv_status(tmp_path: Path) -> None:
    patient = with_facts(
        make_patient(0, folder=tmp_path, hpv=True), clinical=ClinicalRecord(age=50.0, hpv=1.0)
    )
    chain = chain_for([patient], [patient.labels])
    observe(chain, models_of(chain), [patient.patient])
    survival: Any = chain.survival
    assert survival.records == [ClinicalRecord(age=50.0, hpv=pytest.approx(expit(0.5)))]


def test_patient_without_labels_is_refused(tmp_path: Path) -> None:
    patient = make_patient(0, folder=tmp_path)
    unlabelled = with_facts(patient, labels=None).patient
    chain = chain_for([patient], [patient.labels])
    with pytest.raises(InputError, match="expected a label map of patient MDA-000, found none"):
        observe(chain, models_of(chain), [unlabelled])


def test_models_of_the_repository_are_those_of_the_current_edition(tmp_path: Path) -> None:
    folders = repository_models(tmp_path)
    assert set(folders) == {"segmentation", "survival", "hpv"}
    for task, folder in folders.items():
        assert folder == tmp_path / CURRENT.algorithm(task).name / "model"
