"""Task 1: predicts a label map of GTVp and GTVn on the region's grid from a prepared case."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from shared.conventions import LESIONS, Axis, Label, Volume, array_axes
from shared.errors import ModelError
from shared.models.card import BaseCard, Precision
from shared.models.ensemble import Ensemble
from shared.models.onnx import Network
from shared.models.sliding_window import Tiling, sliding_window
from shared.postprocessing.restore import SegmentedRegion
from shared.postprocessing.rules import Rules, label_map
from shared.preprocessing.intensity import (
    NnunetIntensity,
    network_channels,
    nonzero_box,
    scale_images,
)
from shared.preprocessing.pipeline import Prepared
from shared.schema import Limit, Magnitude, Strict, Text

LABELS: Final = {"background": Label.BACKGROUND, **LESIONS}
"""The labels by their names in cards, in the order of a network's outputs."""


class PrecisionCheck(Strict):
    """The scores of held-out patients in both precisions, by the name of the score."""

    float32: dict[Text, Magnitude]
    bfloat16: dict[Text, Magnitude]
    patients: PositiveInt
    cohort: Text


class SegmentationCard(BaseCard):
    """The card of a Task 1 model."""

    graph_output = "logits"
    task: Literal["segmentation"] = "segmentation"
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Fraction of a window's side that overlaps the next window."""
    labels: Annotated[tuple[Text, ...], Field(min_length=1, max_length=16)]
    """The meaning of the output channels, in order."""
    min_component_mm3: Annotated[dict[Text, Limit], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """For each label, the volume below which components are removed."""
    rules: Rules = Rules()
    """Further limits that lesions must meet; by default all are off."""
    mirror_axes: Annotated[tuple[Axis, ...], Field(max_length=3)] = ()
    """Predictions are averaged over mirrorings along each subset of these axes."""
    tiling: Tiling = "monai"
    """The software whose sliding window is imitated. nnU-Net mirrors each window, not the image. It
    averages logits, not probabilities, over mirrorings and networks."""
    precision: Precision = "float32"
    precision_check: PrecisionCheck | None = None
    """Required for bfloat16; also kept if the check decided against it."""

    @property
    def compute_precision(self) -> Precision:
        """The precision that the card states; cards of the other tasks state none."""
        return self.precision

    @model_validator(mode="after")
    def _check_members(self) -> SegmentationCard:
        if any(member.kind != "network" for member in self.members):
            raise ValueError("expected only networks as members of a segmentation card")
        if self.precision == "bfloat16" and self.precision_check is None:
            raise ValueError("expected a precision_check, which bfloat16 needs, found none")
        return self


class SegmentationModel(Ensemble[SegmentationCard]):
    """The segmentation networks of a model folder."""

    card_type = SegmentationCard

    def __init__(self, folder: Path) -> None:
        """Load a model folder; `load` does the same."""
        super().__init__(folder)
        labels, removed = self.card.labels, set(self.card.min_component_mm3)
        if labels != tuple(LABELS) or not removed <= set(LABELS):
            raise ModelError(
                f"expected the labels {tuple(LABELS)} in the card in {folder}, found {labels} "
                f"and min_component_mm3 for {sorted(removed)}; export the model again"
            )

    def predict_probabilities(
        self, prepared: Prepared, mirror_axes: Sequence[str] | None = None
    ) -> Volume:
        """Return probabilities of background, GTVp and GTVn, shape (3, z, y, x).

        They are the softmax of the sliding window's logits, averaged over networks and mirrorings;
        see `SegmentationCard.tiling` for the order. Voxels that are only in windows without body
        are background. With `NnunetIntensity`, voxels outside `nonzero_box` are background too.

        Parameters
        ----------
        mirror_axes : axes to mirror along; None stands for those of the card.
        """
        axes = self.card.mirror_axes if mirror_axes is None else mirror_axes
        box: tuple[slice, ...] = (slice(None),) * 3
        if isinstance(self.card.intensity, NnunetIntensity):
            box = nonzero_box(prepared.ct_hu, prepared.pet_suv)
        images = scale_images(prepared.ct_hu[box], prepared.pet_suv[box], self.card.intensity)
        image = network_channels(images, self.card.channels)
        averages_logits = self.card.tiling == "nnunet"

        def predict(network: Network) -> Volume:
            if averages_logits:
                call = mean_logits(partial(_call, network), axes)
                return self._logits(call, image, prepared.body[box])
            logits = partial(self._logits, partial(_call, network))
            return mean_probabilities(logits, image, body=prepared.body[box], mirror_axes=axes)

        inside = np.zeros((len(LABELS), *image.shape[1:]), np.float32)
        for _, outputs in self.for_each(predict):
            inside += outputs
        inside /= len(self.card.members)
        if averages_logits:
            inside = softmax(inside)
        if inside.shape[1:] == prepared.ct_hu.shape:
            return inside
        total = np.zeros((len(LABELS), *prepared.ct_hu.shape), np.float32)
        total[Label.BACKGROUND] = 1
        total[:, *box] = inside
        return total

    def segment(self, prepared: Prepared) -> SegmentedRegion:
        """Return the probabilities on the region and the label map after post-processing."""
        probabilities = self.predict_probabilities(prepared)
        labels = label_map(
            probabilities,
            prepared.pet_suv,
            spacing_mm=self.card.preparation.spacing_mm,
            min_component_mm3=self.card.min_component_mm3,
            rules=self.card.rules,
        )
        return SegmentedRegion(labels=labels, probabilities=probabilities)

    def _logits(
        self, predict: Callable[[Volume], Volume], image: Volume, body: NDArray[np.bool_]
    ) -> Volume:
        return sliding_window(
            predict,
            image,
            window_zyx=self.card.window_zyx,
            overlap=self.card.overlap,
            outputs=len(LABELS),
            needed=body,
            tiling=self.card.tiling,
        )


def _call(network: Network, window: Volume) -> Volume:
    return network(image=window)


def mean_logits(
    predict: Callable[[Volume], Volume], mirror_axes: Sequence[str]
) -> Callable[[Volume], Volume]:
    """Return a function that maps a window to the mean of its logits over all mirrorings.

    Parameters
    ----------
    predict : maps a window, shape (1, C, z, y, x), to logits, shape (1, K, z, y, x). It may return
        the same buffer each time.
    mirror_axes : names of axes, as for `mean_probabilities`.
    """
    subsets = _mirrorings(mirror_axes)

    def mean(window: Volume) -> Volume:
        total = np.array(predict(window))
        for axes in subsets[1:]:
            mirrored = np.ascontiguousarray(np.flip(window, axes))
            total += np.flip(predict(mirrored), axes)
        total /= len(subsets)
        return total

    return mean


def mean_probabilities(
    predict: Callable[[Volume, NDArray[np.bool_]], Volume],
    image: Volume,
    *,
    body: NDArray[np.bool_],
    mirror_axes: Sequence[str],
) -> Volume:
    """Return the mean softmax over all mirrorings of an image.

    Parameters
    ----------
    predict : maps an image, shape (C, z, y, x), and its body, shape (z, y, x), to logits, shape
        (K, z, y, x).
    mirror_axes : names of axes. The image is mirrored once along each subset of these axes,
        including the empty subset.
    """
    subsets = _mirrorings(mirror_axes)
    total = softmax(predict(image, body))
    for flipped in subsets[1:]:
        logits = predict(np.flip(image, flipped), np.flip(body, flipped))
        total += np.flip(softmax(logits), flipped)
    total /= len(subsets)
    return total


def _mirrorings(mirror_axes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return each subset of the axes as axis numbers from the end, the empty subset first."""
    axes = array_axes(mirror_axes)
    return [s for n in range(len(axes) + 1) for s in itertools.combinations(axes, n)]


def softmax(logits: Volume) -> Volume:
    """Return the softmax over the first axis; works in place and returns its argument."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
