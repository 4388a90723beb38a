"""Task 2: from a prepared case, its lesions and its clinical record to a risk of recurrence."""

from __future__ import annotations

from pathlib import Path

from shared.clinical import ClinicalRecord, encode
from shared.conventions import LabelVolume
from shared.models.ensemble import Ensemble
from shared.preprocessing.intensity import network_channels
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.window import lesion_center, window_box


class SurvivalModel(Ensemble):
    """The survival networks of a model folder."""

    task = "survival"

    def __init__(self, folder: Path) -> None:
        """Load a model folder; `load` does the same."""
        super().__init__(folder)
        self.check_window_fits_region()

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
        The mean over the networks of their risks, each standardised by its mean and standard
        deviation on the training patients, as a Cox model's risks have no scale of their own.
        """
        card = self.card
        box = window_box(prepared.undo.region.shape_zyx, card.window_zyx, lesion_center(labels))
        channels = network_channels(prepared, card.intensity, card.channels, labels)
        image = channels[:, *box][None]
        vector = encode(clinical, card.clinical)[None]
        inputs = {"image": image, "clinical": vector} if card.clinical else {"image": image}
        risks = [
            (network(**inputs).item() - member.risk_mean) / member.risk_std
            for member, network in self.networks()
        ]
        return sum(risks) / len(risks)
