"""Task 3: predicts the HPV status from a prepared case and its clinical record."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.models.card import Member
from shared.models.prognosis import PrognosisCard, PrognosisModel
from shared.preprocessing.pipeline import Prepared


class HpvCard(PrognosisCard):
    """The card of a Task 3 model."""

    graph_output = "logit"
    task: Literal["hpv"] = "hpv"
    threshold: Annotated[float, Field(ge=0, le=1)]
    """The decision is positive if the probability is at least this value."""


@dataclass(frozen=True, kw_only=True)
class HpvPrediction:
    """The ensemble's prediction of the HPV status.

    Attributes
    ----------
    logit : the combined logit of all members; a positive logit means HPV+.
    probability : the logistic function of the logit.
    decision : whether the probability reaches the card's threshold; true means HPV+.
    """

    logit: float
    probability: float
    decision: bool


class HpvModel(PrognosisModel[HpvCard]):
    """The HPV models of a model folder."""

    card_type = HpvCard

    def predict(
        self, prepared: Prepared, clinical: ClinicalRecord, labels: LabelVolume | None = None
    ) -> HpvPrediction:
        """Return the prediction from a window of the region, the lesions and the clinical record.

        Parameters
        ----------
        labels : GTVp and GTVn on the region, [z, y, x]; needed if the card has measures or lesion
            channels.

        Raises
        ------
        ValueError
            If labels are needed but missing.
        """
        return self.combine(self.outputs(prepared, clinical, labels))

    def combine(self, outputs: Iterable[tuple[Member, float]]) -> HpvPrediction:
        """Return the prediction from the members' logits, which the method `outputs` yields."""
        logit = self.weighted(outputs)
        probability = 0.5 * (1 + math.tanh(logit / 2))  # The logistic function, without overflow.
        return HpvPrediction(
            logit=logit, probability=probability, decision=probability >= self.card.threshold
        )
