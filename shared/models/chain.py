"""The models of an image, chained on one prepared case: mask, then HPV status, then risk.

The only place where models are chained. Task 1 outlines the lesions; Task 3 measures them; Task 2
takes the lesions and the HPV probability. The containers call `Chain.answer`, and so do the studies
that score the models on a cohort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.models.card import Member, require_same_preparation
from shared.models.hpv import HpvModel, HpvPrediction
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from shared.postprocessing.remarks import describe_lesions
from shared.preprocessing.pipeline import Prepared, prepare
from shared.preprocessing.region import Preparation

Outputs = tuple[tuple[Member, float], ...]
"""What each member of an ensemble returned for a case."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the models say about one case; None where the chain lacks the model.

    Attributes
    ----------
    labels : GTVp and GTVn on the region, [z, y, x].
    hpv : prediction of the HPV status.
    hpv_outputs, risk_outputs : what it was combined from, member by member.
    risk : higher = earlier recurrence.
    """

    labels: LabelVolume | None = None
    hpv: HpvPrediction | None = None
    hpv_outputs: Outputs = ()
    risk: float | None = None
    risk_outputs: Outputs = ()


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Models that take the same prepared case.

    Attributes
    ----------
    segmentation : None only if no other model needs lesions.
    hpv : needed by `survival`, for the HPV status that the record lacks.
    """

    segmentation: SegmentationModel | None = None
    hpv: HpvModel | None = None
    survival: SurvivalModel | None = None

    def __post_init__(self) -> None:
        if not self._models():
            raise ValueError("expected at least one model, found none")
        if self.survival is not None and (self.segmentation is None or self.hpv is None):
            raise ValueError("the survival model needs the segmentation and the HPV model")
        require_same_preparation(*(model.card for model in self._models()))

    @classmethod
    def load(
        cls,
        *,
        segmentation: Path | None = None,
        hpv: Path | None = None,
        survival: Path | None = None,
    ) -> Chain:
        """Load model folders once; `answer` may be called many times.

        Parameters
        ----------
        segmentation : with `hpv` alone it is loaded only if the HPV model measures lesions.

        Raises
        ------
        ModelError
            If a folder does not hold the model expected, or the models take different regions.
        """
        survival_model = None if survival is None else SurvivalModel.load(survival)
        hpv_model = None if hpv is None else HpvModel.load(hpv)
        is_idle = survival_model is None and hpv_model is not None and not hpv_model.card.measures
        segmentation_model = (
            None if segmentation is None or is_idle else SegmentationModel.load(segmentation)
        )
        return cls(segmentation=segmentation_model, hpv=hpv_model, survival=survival_model)

    @property
    def preparation(self) -> Preparation:
        """The region and spacing that all models of the chain take."""
        return self._models()[0].card.preparation

    def describe(self) -> list[str]:
        """Return what the log should say about the models, the last in the chain first."""
        return [line for model in self._models() for line in model.describe()]

    def prepare(self, case: Case) -> Prepared:
        """Prepare a case for all models of the chain."""
        return prepare(case, self.preparation)

    def answer(
        self,
        prepared: Prepared,
        clinical: ClinicalRecord,
        report: Callable[[str], object] = lambda line: None,
    ) -> Answers:
        """Run the models one after another on one prepared case.

        Parameters
        ----------
        report : receives a line for the log as soon as a model has answered.
        """
        answers = Answers()
        if self.segmentation is not None:
            labels = self.segmentation.segment(prepared)
            answers = replace(answers, labels=labels)
            for line in describe_lesions(labels, prepared):
                report(line)
        if self.hpv is not None:
            outputs = tuple(self.hpv.outputs(prepared, clinical, answers.labels))
            hpv = self.hpv.combine(outputs)
            answers = replace(answers, hpv=hpv, hpv_outputs=outputs)
            report(
                f"HPV: logit {hpv.logit:.3f}, probability {hpv.probability:.3f}, "
                f"threshold {self.hpv.card.threshold:.3f}"
            )
        if self.survival is not None and answers.hpv is not None:
            record = replace(clinical, hpv=answers.hpv.probability)
            outputs = tuple(self.survival.outputs(prepared, record, answers.labels))
            risk = self.survival.combine(outputs)
            answers = replace(answers, risk=risk, risk_outputs=outputs)
            report(f"risk: {risk:.4f} (higher = earlier recurrence)")
        return answers

    def _models(self) -> list[SegmentationModel | HpvModel | SurvivalModel]:
        models = (self.survival, self.hpv, self.segmentation)
        return [model for model in models if model is not None]
