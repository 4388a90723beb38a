"""Run several models on one prepared case: mask, then HPV status, then risk.

No other module chains models. Task 1 outlines the lesions, Task 3 may measure them, and Task 2 uses
the lesions and the HPV probability. The containers of Tasks 2 and 3 call `Chain.answer`, as does
the study that scores the models on a cohort. Task 1's container needs only its own model.
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
"""The output of each member of an ensemble for a case."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The predictions of the models for one case; None if the chain does not include the model.

    Attributes
    ----------
    labels : label map of the region with GTVp and GTVn, [z, y, x].
    hpv : prediction of the HPV status.
    hpv_outputs, risk_outputs : outputs of the members, which give `hpv` and `risk`.
    risk : higher = earlier recurrence.
    """

    labels: LabelVolume | None = None
    hpv: HpvPrediction | None = None
    hpv_outputs: Outputs = ()
    risk: float | None = None
    risk_outputs: Outputs = ()


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Models that use the same prepared case.

    Attributes
    ----------
    segmentation : may be None only if no other model needs lesions.
    hpv : required by `survival`, because the health record has no HPV status.
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
        """Load the models once. `answer` may then be called many times.

        Parameters
        ----------
        segmentation : without `survival`, it is loaded only if the HPV model measures lesions.

        Raises
        ------
        ModelError
            If a folder does not contain the expected model, or the models use different regions.
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
        """The region and spacing that all models of the chain use."""
        return self._models()[0].card.preparation

    def describe(self) -> list[str]:
        """Return lines for the log about the models, starting with the last one in the chain."""
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
        """Run the models in order on one prepared case.

        Parameters
        ----------
        report : is called with a line for the log after each model.
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
