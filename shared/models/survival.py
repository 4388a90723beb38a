"""Task 2: predicts the risk of recurrence from a prepared case, its lesions and its record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shared.clinical import ClinicalRecord
from shared.conventions import IntTriple, LabelVolume
from shared.models.card import Member
from shared.models.prognosis import PrognosisCard, PrognosisModel
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.window import lesion_centre


class SurvivalCard(PrognosisCard):
    """The card of a Task 2 model."""

    graph_output = "risk"
    task: Literal["survival"] = "survival"


class SurvivalModel(PrognosisModel[SurvivalCard]):
    """The survival models of a model folder."""

    card_type = SurvivalCard

    def predict(self, prepared: Prepared, labels: LabelVolume, clinical: ClinicalRecord) -> float:
        """Return the risk; higher = earlier recurrence.

        Parameters
        ----------
        prepared : the case on the region.
        labels : GTVp and GTVn on the region, [z, y, x]; the window is centred on the box around the
            lesions, or on the region if there are none.
        clinical : the clinical record; its `hpv` is the probability that Task 3 predicts.

        Returns
        -------
        The members' risks, combined as `weighted` says. Each risk is standardised by its member's
        mean and standard deviation on the training patients, because Cox risks have no unit.
        """
        return self.combine(self.outputs(prepared, clinical, labels))

    def window_centre(self, labels: LabelVolume | None) -> IntTriple | None:
        """Return the centre of the box around the lesions; None if there are none."""
        return None if labels is None else lesion_centre(labels)

    def combine(self, outputs: Iterable[tuple[Member, float]]) -> float:
        """Return the risk from the members' risks, which the method `outputs` yields."""
        return self.weighted(outputs)
