"""Task 3: from a prepared case and its clinical record to the HPV status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from shared.clinical import ClinicalRecord, encode
from shared.models.ensemble import Ensemble
from shared.preprocessing.intensity import network_channels
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.window import window_box


@dataclass(frozen=True)
class HpvPrediction:
    """What the networks say about the HPV status.

    Attributes
    ----------
    logit : mean over the networks; positive speaks for HPV+.
    probability : its logistic function.
    decision : True for HPV+, where the probability reaches the card's threshold.
    """

    logit: float
    probability: float
    decision: bool


class HpvModel(Ensemble):
    """The HPV networks of a model folder."""

    task = "hpv"

    def __init__(self, folder: Path) -> None:
        """Load a model folder; `load` does the same."""
        super().__init__(folder)
        self.check_window_fits_region()

    def predict(self, prepared: Prepared, clinical: ClinicalRecord) -> HpvPrediction:
        """Return the prediction from the central window of the region and the clinical record."""
        card = self.card
        assert card.threshold is not None, "the card's schema asks for it"
        box = window_box(prepared.undo.region.shape_zyx, card.window_zyx)
        image = network_channels(prepared, card.intensity, card.channels)[:, *box][None]
        vector = encode(clinical, card.clinical)[None]
        inputs = {"image": image, "clinical": vector} if card.clinical else {"image": image}
        logits = [network(**inputs).item() for _, network in self.networks()]
        logit = sum(logits) / len(logits)
        probability = 0.5 * (1 + math.tanh(logit / 2))  # The logistic function, without overflow.
        return HpvPrediction(logit, probability, probability >= card.threshold)
