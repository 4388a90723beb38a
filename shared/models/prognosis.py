"""The base classes of the models of Tasks 2 and 3.

A model is an ensemble of networks, of linear models, or of both. It gives one number per case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from shared.clinical import ClinicalFeature, ClinicalRecord, encode
from shared.conventions import IntTriple, LabelVolume
from shared.errors import ModelError
from shared.lesions import MEASURES, measure_lesions
from shared.models.card import BaseCard, Member, MemberKind
from shared.models.ensemble import Ensemble
from shared.models.onnx import Network
from shared.preprocessing.intensity import (
    has_lesion_channels,
    network_channels,
    scale_images,
)
from shared.preprocessing.pipeline import Prepared
from shared.preprocessing.window import lesion_centre, window_box
from shared.schema import Magnitude, Text


class PrognosisCard(BaseCard):
    """The fields that the cards of Tasks 2 and 3 share."""

    clinical: Annotated[tuple[ClinicalFeature, ...], Field(max_length=100)] = ()
    measures: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    """The lesion measures that the linear members take, in order; empty without such members."""

    weights: dict[MemberKind, Annotated[Magnitude, Field(ge=0)]] = Field(default_factory=dict)
    """Factor of the mean output of each kind of member; unused if there is only one kind. Empty if
    all members have the same weight."""
    offset: Magnitude = 0.0
    """A constant that is added to the weighted sum; unused without weights."""
    choice: Text = ""
    """Why the ensemble has these kinds of members; empty if no kinds were compared."""

    @model_validator(mode="after")
    def _check_weights(self) -> PrognosisCard:
        kinds = {member.kind for member in self.members}
        if self.weights and (set(self.weights) != kinds or not any(self.weights.values())):
            raise ValueError(
                f"expected weights of {' and '.join(sorted(kinds))}, not all of them 0, found "
                f"{self.weights}"
            )
        return self

    @model_validator(mode="after")
    def _check_measures(self) -> PrognosisCard:
        has_linear = any(member.kind == "linear" for member in self.members)
        if has_linear != bool(self.measures):
            with_members = "with" if has_linear else "without"
            raise ValueError(
                "expected lesion measures exactly if there are linear members, found "
                f"{len(self.measures)} measures {with_members} such members"
            )
        return self

    @property
    def needs_lesions(self) -> bool:
        """Whether a member takes lesion measures or lesion channels."""
        return bool(self.measures) or has_lesion_channels(self.channels)

    def input_shapes(self, kind: MemberKind) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input of a member's graph, by name, in the graph's order."""
        clinical = {"clinical": (1, len(self.clinical))} if self.clinical else {}
        if kind == "linear":
            return {**clinical, "measures": (1, len(self.measures))}
        return {**super().input_shapes(kind), **clinical}


PrognosisCardT = TypeVar("PrognosisCardT", bound=PrognosisCard)


class PrognosisModel(Ensemble[PrognosisCardT]):
    """Networks that take a window of the region, linear models that take lesion measures, or both.

    All members take the clinical record too. The card states which members the folder holds.
    """

    def __init__(self, folder: Path) -> None:
        """Load a model folder; `load` does the same."""
        super().__init__(folder)
        region_zyx = self.card.preparation.size_xyz[::-1]
        if any(w > r for w, r in zip(self.card.window_zyx, region_zyx, strict=True)):
            raise ModelError(
                f"expected the window of the {self.card.task} model in {folder} to lie in its "
                f"region of {region_zyx} (z, y, x), found {self.card.window_zyx}; correct the "
                "configuration and export the model again"
            )
        if self.card.measures not in ((), MEASURES):
            raise ModelError(
                f"expected the {self.card.task} model in {folder} to take the measures "
                f"{', '.join(MEASURES)}, found {', '.join(self.card.measures)}; train it again "
                "with this version"
            )

    def window_centre(self, labels: LabelVolume | None) -> IntTriple | None:
        """Return the voxel (z, y, x) to centre the window on; None means the centre of the region.

        If a network takes lesion channels, the window is centred on the box around all lesions.
        """
        sees_lesions = has_lesion_channels(self.card.channels)
        return lesion_centre(labels) if sees_lesions and labels is not None else None

    def outputs(
        self, prepared: Prepared, clinical: ClinicalRecord, labels: LabelVolume | None
    ) -> Iterator[tuple[Member, float]]:
        """Yield the output of each member for a case; the members have different scales.

        Parameters
        ----------
        prepared : the case on the region.
        clinical : the clinical record; missing values are None.
        labels : GTVp and GTVn on the region, [z, y, x]; may be None if the card has neither
            measures nor lesion channels.

        Raises
        ------
        ValueError
            If the card needs the lesions and there are no labels.
        """
        card = self.card
        inputs: dict[str, NDArray[np.float32]] = {}
        if card.clinical:
            inputs["clinical"] = encode(clinical, card.clinical)[None]
        if card.needs_lesions and labels is None:
            raise ValueError(f"expected labels, since this {card.task} model needs the lesions")
        if card.measures and labels is not None:
            measures = measure_lesions(
                labels, prepared.ct_hu, prepared.pet_suv, prepared.undo.region
            )
            inputs["measures"] = measures.vector().astype(np.float32)[None]
        if any(member.kind == "network" for member in card.members):
            shape_zyx = prepared.undo.region.shape_zyx
            box = window_box(shape_zyx, card.window_zyx, self.window_centre(labels))
            images = scale_images(prepared.ct_hu, prepared.pet_suv, card.intensity)
            inputs["image"] = network_channels(images, card.channels, labels)[:, *box][None]

        def predict(network: Network) -> float:
            return network(**{name: inputs[name] for name in network.inputs}).item()

        yield from self.for_each(predict)

    def weighted(self, outputs: Iterable[tuple[Member, float]]) -> float:
        """Return one number from the outputs of some members, as `outputs` yields them.

        Each output is standardised by its member's mean and standard deviation. With weights, the
        result is the weighted sum of the mean outputs of each kind, plus the offset. Without
        weights, or if there is only one kind, it is the mean over all members.
        """
        by_kind: dict[MemberKind, list[float]] = {}
        for member, output in outputs:
            values = by_kind.setdefault(member.kind, [])
            values.append((output - member.risk_mean) / member.risk_std)
        if self.card.weights and len(by_kind) > 1:
            means = {kind: sum(values) / len(values) for kind, values in by_kind.items()}
            total = sum(self.card.weights[kind] * mean for kind, mean in means.items())
            return total + self.card.offset
        everything = [value for values in by_kind.values() for value in values]
        return sum(everything) / len(everything)
