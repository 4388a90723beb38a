"""Task 1: from a prepared case to a label map of GTVp and GTVn on the region."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.conventions import LESIONS, Label, LabelVolume, Volume
from shared.errors import ModelError
from shared.models.ensemble import Ensemble
from shared.models.onnx import Network
from shared.models.sliding_window import sliding_window
from shared.postprocessing.components import remove_small
from shared.preprocessing.intensity import network_channels
from shared.preprocessing.pipeline import Prepared

LABELS: Final = {"background": Label.BACKGROUND, **LESIONS}
"""Names in cards; a network's outputs are in this order."""


class SegmentationModel(Ensemble):
    """The segmentation networks of a model folder."""

    task = "segmentation"

    def __init__(self, folder: Path) -> None:
        """Load a model folder; `load` does the same."""
        super().__init__(folder)
        labels, removed = self.card.labels, set(self.card.min_component_mm3)
        if labels != tuple(LABELS) or not removed <= set(LABELS):
            raise ModelError(
                f"expected the labels {tuple(LABELS)} in the card in {folder}, found {labels} "
                f"and components of {sorted(removed)}; export the model again"
            )

    def predict_probabilities(self, prepared: Prepared) -> Volume:
        """Return probabilities of background, GTVp and GTVn, shape (3, z, y, x).

        They are the mean over the networks of the softmax of the sliding window's logits. Windows
        without body are background.
        """
        image = network_channels(prepared, self.card.intensity, self.card.channels)
        total = np.zeros((len(LABELS), *image.shape[1:]), np.float32)
        for _, network in self.networks():
            total += softmax(self._logits(network, image, prepared.body))
        total /= len(self.card.members)
        return total

    def segment(self, prepared: Prepared) -> LabelVolume:
        """Return the label map on the region, [z, y, x], without components that are too small."""
        labels = self.predict_probabilities(prepared).argmax(axis=0).astype(np.uint8)
        minimum = {LABELS[name]: size for name, size in self.card.min_component_mm3.items()}
        return remove_small(labels, prepared.undo.region.voxel_volume_mm3, minimum)

    def _logits(self, network: Network, image: Volume, body: NDArray[np.bool_]) -> Volume:
        def predict(window: Volume) -> Volume:
            return network(image=window)

        window_zyx, overlap = self.card.window_zyx, self.card.overlap
        return sliding_window(predict, image, window_zyx, overlap, len(LABELS), needed=body)


def softmax(logits: Volume) -> Volume:
    """Return the softmax over the first axis; works in place and returns its argument."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
