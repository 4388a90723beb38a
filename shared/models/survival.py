"""Task 2: from a prepared case, its lesions and its clinical record to a risk of recurrence."""

from __future__ import annotations

from collections.abc import Iterable

from shared.clinical import ClinicalRecord
from shared.conventions import IntTriple, LabelVolume
from shared.models.card import Member
from shared.models.prognosis import PrognosisModel
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.window import lesion_centre


class SurvivalModel(PrognosisModel):
    """The survival models of a model folder."""

    task = "survival"

    def predict(self, prepared: Prepared, labels: LabelVolume, clinical: ClinicalRecord) -> float:
        """Return the risk; higher = earlier recurrence.

        Parameters
        ----------
        prepared : the case on the region.
        labels : GTVp and GTVn on the region, [z, y, x]; the window is centred on the box around
            them, or central where there are none.
        clinical : the record, with the HPV status where a model supplied it.

        Returns
        -------
        The mean over the members of their risks, each standardised by its mean and standard
        deviation on the training patients, as a Cox model's risks have no scale of their own.
        """
        return self.combined(self.outputs(prepared, clinical, labels))

    def window_centre(self, labels: LabelVolume | None) -> IntTriple | None:
        """Return the centre of the box around the lesions, where there are any."""
        return None if labels is None else lesion_centre(labels)

    def combined(self, outputs: Iterable[tuple[Member, float]]) -> float:
        """Return the risk from those of some members, as `outputs` yields them."""
        risks = [(risk - member.risk_mean) / member.risk_std for member, risk in outputs]
        return sum(risks) / len(risks)
