"""The card: one `model.json` beside the `.onnx` files, which says all that is needed to run them.

A model folder explains itself. The card states geometry, channels and clinical features in the
order in which the network takes them, how predictions are made from its outputs, what it was
trained on and how well it scored. `load_card` refuses a folder whose files are not those that the
card was written for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from shared.clinical import ClinicalFeature
from shared.errors import ModelError
from shared.postprocessing.rules import Rules
from shared.preprocessing.intensity import Channel, Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict

CARD_NAME: Final = "model.json"

Kind: TypeAlias = Literal["network", "linear"]
"""A network sees the image and the clinical values; a linear model these and the measures."""


class Member(Strict):
    """One model of the ensemble; a risk is standardised by the mean and std of its member."""

    file: str
    sha256: str
    kind: Kind = "network"
    risk_mean: float = 0.0
    risk_std: PositiveFloat = 1.0


class Score(Strict):
    """One measured result: on which patients, how many, and how sure."""

    metric: str
    value: float
    standard_error: float | None = None
    patients: PositiveInt
    cohort: str


class Training(Strict):
    """Where the weights come from."""

    data: str
    patients: PositiveInt
    command: str
    revision: str
    seed: int


class Card(Strict):
    """Everything that is needed to run a model folder, and to judge it."""

    format: Literal[1] = 1
    task: Literal["segmentation", "survival", "hpv"]
    configuration: Annotated[str, Field(min_length=1)]
    """Name of the file in training/configs, or of another that was given in its place."""
    notice: str
    """What a user must know before trusting the output; printed at every start."""
    licence: str
    preparation: Preparation
    intensity: Intensity
    window_zyx: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Segmentation: the sliding window. Otherwise: the part of the region that the network sees."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    channels: tuple[Channel, ...]
    clinical: tuple[ClinicalFeature, ...] = ()
    measures: tuple[str, ...] = ()
    """Survival, HPV: what of the lesions the linear members see, in order; none without them."""
    labels: tuple[str, ...] = ()
    """Segmentation: the meaning of the output channels, in order."""
    min_component_mm3: dict[str, float] = Field(default_factory=dict)
    """Segmentation: smaller components of a label are removed."""
    rules: Rules = Rules()
    """Segmentation: what else lesions must hold; all off in cards that do not say."""
    mirror_axes: tuple[Literal["x", "y", "z"], ...] = ()
    """Segmentation: predictions are averaged over mirrorings along each subset of these axes."""
    threshold: float | None = None
    """HPV: the probability from which the decision is positive."""
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    training: Training
    scores: tuple[Score, ...] = ()

    @model_validator(mode="after")
    def _check_task(self) -> Card:
        if self.task == "segmentation" and not self.labels:
            raise ValueError("a segmentation card names its labels")
        if self.task == "hpv" and self.threshold is None:
            raise ValueError("an HPV card states its threshold")
        has_linear = any(member.kind == "linear" for member in self.members)
        if has_linear != bool(self.measures):
            raise ValueError("a card has linear members and the measures they see, or neither")
        return self


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(folder: Path, card: Card) -> None:
    """Write a card into its model folder."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")


def load_card(folder: Path, task: str) -> Card:
    """Read the card of a model folder and check the folder against it.

    Raises
    ------
    ModelError
        If there is no card, it does not follow the schema, it is for another task, or a file it
        names is missing or differs from the one it was written for.
    """
    path = folder / CARD_NAME
    try:
        card = Card.model_validate_json(path.read_bytes())
    except OSError:
        raise ModelError(
            f"expected a model card at {path}, found none; export a model to {folder}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelError(
            f"{path} is not a valid model card: {where}: {first['msg']}; export the model again"
        ) from None
    if card.task != task:
        raise ModelError(f"expected a model for {task} in {folder}, found one for {card.task}")
    for member in card.members:
        file = folder / member.file
        if not file.is_file():
            raise ModelError(f"expected the model file {file} that the card names, found none")
        found = sha256_of(file)
        if found != member.sha256:
            raise ModelError(
                f"{file} is not the file its card was written for: expected SHA-256 "
                f"{member.sha256[:12]}…, found {found[:12]}…; copy or export the model again"
            )
    return card


def require_same_preparation(*cards: Card) -> None:
    """Check that models can be chained on one prepared case.

    Raises
    ------
    ModelError
        If the cards ask for different regions.
    """
    first, *others = cards
    for other in others:
        if other.preparation != first.preparation:
            raise ModelError(
                f"expected the {other.task} model to take the region of the {first.task} model, "
                f"{first.preparation}, found {other.preparation}; export both from one "
                "configuration"
            )
