"""Runs several models on one prepared case: mask, then HPV status, then risk.

No other module chains models. Task 1 outlines the lesions, Task 3 may measure them, and Task 2 uses
the lesions and the HPV probability. The containers of Tasks 2 and 3 call `Chain.predict`, as do the
study that scores the models on a cohort and `python -m prediction`. Task 1's container needs only
its own model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.editions import CURRENT
from shared.models.card import Member, require_same_preparation
from shared.models.hpv import HpvModel, HpvPrediction
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from shared.postprocessing.remarks import describe_lesions
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.preprocessing.pipeline import Prepared, Undo, prepare
from shared.preprocessing.region import Preparation

CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""The checkout that this file is in."""

Outputs = tuple[tuple[Member, float], ...]
"""The output of each member of an ensemble for a case."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The predictions of the models for one case; None if the chain does not include the model.

    Attributes
    ----------
    undo : the grids of the region and of the CT.
    segmented : labels and probabilities of GTVp and GTVn on the region.
    hpv : prediction of the HPV status.
    hpv_outputs, risk_outputs : outputs of the members, from which `hpv` and `risk` are computed.
    risk : higher = earlier recurrence. Each member's risk is standardised on its training patients,
        so 0 is an average risk among them.
    """

    undo: Undo
    segmented: SegmentedRegion | None = None
    hpv: HpvPrediction | None = None
    hpv_outputs: Outputs = ()
    risk: float | None = None
    risk_outputs: Outputs = ()

    @property
    def labels(self) -> LabelVolume | None:
        """The label map on the region, [z, y, x], which Tasks 2 and 3 use."""
        return None if self.segmented is None else self.segmented.labels

    @cached_property
    def mask(self) -> sitk.Image | None:
        """The label map on the CT's own grid, uint8: 0 background, 1 GTVp, 2 GTVn."""
        return None if self.segmented is None else restore(self.segmented, self.undo)


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
        """Load the models once. `predict` may then be called many times.

        Parameters
        ----------
        segmentation, hpv, survival : model folders of Tasks 1, 3 and 2; None leaves a model out.
            Survival needs both others. With `hpv` but without `survival`, the segmentation model is
            loaded only if the HPV model needs lesions.

        Raises
        ------
        ModelError
            If a folder does not contain the expected model, or the models use different regions.
        ValueError
            If no folder is given, or `survival` without both `segmentation` and `hpv`.
        """
        survival_model = None if survival is None else SurvivalModel.load(survival)
        hpv_model = None if hpv is None else HpvModel.load(hpv)
        is_idle = (
            survival_model is None and hpv_model is not None and not hpv_model.card.needs_lesions
        )
        segmentation_model = (
            None if segmentation is None or is_idle else SegmentationModel.load(segmentation)
        )
        return cls(segmentation=segmentation_model, hpv=hpv_model, survival=survival_model)

    @classmethod
    def load_checkout(cls, checkout: Path = CHECKOUT) -> Chain:
        """Load the models of all three tasks from a checkout of this repository.

        Parameters
        ----------
        checkout : by default, the checkout that this code is in.

        Raises
        ------
        ModelError
            If a model folder is incomplete or modified, or the models use different regions.
        """
        return cls.load(
            segmentation=checkout / CURRENT.algorithm("segmentation").name / "model",
            hpv=checkout / CURRENT.algorithm("hpv").name / "model",
            survival=checkout / CURRENT.algorithm("survival").name / "model",
        )

    @property
    def preparation(self) -> Preparation:
        """The region and spacing that all models of the chain use."""
        return self._models()[0].card.preparation

    def describe(self) -> list[str]:
        """Return lines for the log about the models, starting with the last one in the chain."""
        return [line for model in self._models() for line in model.describe()]

    def prepare(self, case: Case) -> Prepared:
        """Prepare a case for all models of the chain.

        Parameters
        ----------
        case : CT in HU and PET in SUV or Bq/mL, each on its own grid of any direction.

        Returns
        -------
        CT and PET of the head-and-neck region, on the grid that the models take. The `remarks`
        describe anything unusual in the case.

        Raises
        ------
        InputError
            If CT and PET do not overlap.
        """
        return prepare(case, self.preparation)

    def predict(
        self,
        prepared: Prepared,
        clinical: ClinicalRecord,
        report: Callable[[str], object] = lambda line: None,
    ) -> Predictions:
        """Run the models in order on one prepared case.

        Parameters
        ----------
        prepared : the prepared case that `prepare` returned.
        clinical : the clinical record of the case; any value may be missing.
        report : is called with each line for the log; by default nothing is logged.

        Returns
        -------
        The predictions of the models in the chain; `mask` is on the grid of the case's CT.

        Raises
        ------
        ModelError
            If a network of an ensemble cannot be loaded.
        ValueError
            If the HPV model needs lesions, and the chain has no segmentation model.
        """
        predictions = Predictions(undo=prepared.undo)
        if self.segmentation is not None:
            segmented = self.segmentation.segment(prepared)
            predictions = replace(predictions, segmented=segmented)
            for line in describe_lesions(segmented.labels, prepared):
                report(line)
        if self.hpv is not None:
            outputs = tuple(self.hpv.outputs(prepared, clinical, predictions.labels))
            hpv = self.hpv.combine(outputs)
            predictions = replace(predictions, hpv=hpv, hpv_outputs=outputs)
            report(
                f"HPV: logit {hpv.logit:.3f}, probability {hpv.probability:.3f}, "
                f"threshold {self.hpv.card.threshold:.3f}"
            )
        if self.survival is not None and predictions.hpv is not None:
            record = replace(clinical, hpv=predictions.hpv.probability)
            outputs = tuple(self.survival.outputs(prepared, record, predictions.labels))
            risk = self.survival.combine(outputs)
            predictions = replace(predictions, risk=risk, risk_outputs=outputs)
            report(f"risk: {risk:.4f} (higher = earlier recurrence)")
        return predictions

    def _models(self) -> list[SegmentationModel | HpvModel | SurvivalModel]:
        models = (self.survival, self.hpv, self.segmentation)
        return [model for model in models if model is not None]
