"""The card: one `model.json` beside the `.onnx` files, with all that is needed to run them.

A model folder explains itself. Its card states geometry, channels and clinical features in the
order in which the network takes them, how its outputs become predictions, what it was trained on
and how well it scored. Each task has its own card. `load_card` rejects a folder whose files are not
the ones that the card was written for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from shared.clinical import ClinicalFeature
from shared.errors import ModelError
from shared.postprocessing.rules import Rules
from shared.preprocessing.intensity import Channel, Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict
from shared.tasks import TaskName

CARD_NAME: Final = "model.json"

Kind: TypeAlias = Literal["network", "linear"]
"""A network sees the image and the clinical values; a linear model the clinical values and the
lesion measures."""

MirrorAxis: TypeAlias = Literal["x", "y", "z"]

_FIELDS_OF_ONE_TASK: Final = frozenset(
    {
        "overlap",
        "clinical",
        "measures",
        "labels",
        "min_component_mm3",
        "rules",
        "mirror_axes",
        "threshold",
    }
)
"""The card of version 0.1 was one for all tasks; fields of other tasks are empty in it."""


class Member(Strict):
    """One model of the ensemble; its risks are standardised by their mean and std."""

    file: str
    sha256: str
    kind: Kind = "network"
    risk_mean: float = 0.0
    risk_std: PositiveFloat = 1.0


class Score(Strict):
    """One measured result: on which patients, how many, and how certain."""

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


class BaseCard(Strict):
    """What the cards of all tasks state."""

    format: Literal[1] = 1
    task: TaskName
    configuration: Annotated[str, Field(min_length=1)]
    """Name of the file in training/configs, or of the file given in its place."""
    notice: str
    """What a user must know before trusting the output; printed at every start."""
    licence: str
    preparation: Preparation
    intensity: Intensity
    window_zyx: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Segmentation: the sliding window. Otherwise: the part of the region that the network sees."""
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)]
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    training: Training
    scores: tuple[Score, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields_of_other_tasks(cls, card: Any) -> Any:
        if not isinstance(card, Mapping):
            return card
        return {
            name: value
            for name, value in card.items()
            if name in cls.model_fields or name not in _FIELDS_OF_ONE_TASK or not _is_empty(value)
        }

    def input_shapes(self, kind: Kind) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input of a member's graph, by name, in the graph's order."""
        del kind
        return {"image": (1, len(self.channels), *self.window_zyx)}


class SegmentationCard(BaseCard):
    """The card of a Task 1 model."""

    task: Literal["segmentation"] = "segmentation"
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of a window's side that it shares with the next."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """The meaning of the output channels, in order."""
    min_component_mm3: dict[str, float] = Field(default_factory=dict)
    """Smaller components of a label are removed."""
    rules: Rules = Rules()
    """Further limits that lesions must meet; by default all are off."""
    mirror_axes: tuple[MirrorAxis, ...] = ()
    """Predictions are averaged over mirrorings along each subset of these axes."""

    @model_validator(mode="after")
    def _check_members(self) -> SegmentationCard:
        if any(member.kind != "network" for member in self.members):
            raise ValueError("expected only networks as members of a segmentation card")
        return self


class PrognosisCard(BaseCard):
    """What the cards of Tasks 2 and 3 share."""

    clinical: tuple[ClinicalFeature, ...] = ()
    measures: tuple[str, ...] = ()
    """The lesion measures that the linear members take, in order; empty without such members."""

    @model_validator(mode="after")
    def _check_measures(self) -> PrognosisCard:
        has_linear = any(member.kind == "linear" for member in self.members)
        if has_linear != bool(self.measures):
            raise ValueError("a card has linear members and the measures they take, or neither")
        return self

    def input_shapes(self, kind: Kind) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input of a member's graph, by name, in the graph's order."""
        clinical = {"clinical": (1, len(self.clinical))} if self.clinical else {}
        if kind == "linear":
            return {**clinical, "measures": (1, len(self.measures))}
        return {**super().input_shapes(kind), **clinical}


class SurvivalCard(PrognosisCard):
    """The card of a Task 2 model."""

    task: Literal["survival"] = "survival"


class HpvCard(PrognosisCard):
    """The card of a Task 3 model."""

    task: Literal["hpv"] = "hpv"
    threshold: float
    """The probability from which the decision is positive."""


Card: TypeAlias = Annotated[SegmentationCard | SurvivalCard | HpvCard, Field(discriminator="task")]

CARDS: Final[dict[str, type[BaseCard]]] = {
    "segmentation": SegmentationCard,
    "survival": SurvivalCard,
    "hpv": HpvCard,
}

CardT = TypeVar("CardT", bound=BaseCard)

_ANY_CARD: Final[TypeAdapter[Card]] = TypeAdapter(Card)


def _is_empty(value: object) -> bool:
    """Whether a value is null, 0, empty or an object of such values."""
    return not value or (isinstance(value, Mapping) and not any(value.values()))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(folder: Path, card: BaseCard) -> None:
    """Write a card into its model folder."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")


def load_card(folder: Path, card_type: type[CardT]) -> CardT:
    """Read the card of a model folder and check the folder against it.

    Parameters
    ----------
    card_type : the class of the task's card, such as `HpvCard`.

    Raises
    ------
    ModelError
        If there is no card, it does not follow the schema, it is for another task, or a file it
        names is missing or differs from the one it was written for.
    """
    path = folder / CARD_NAME
    try:
        card = _ANY_CARD.validate_json(path.read_bytes())
    except OSError:
        raise ModelError(
            f"expected a model card at {path}, found none; export a model to {folder}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        # The union puts the task first.
        place = (
            first["loc"][1:] if first["loc"][:1] in [(task,) for task in CARDS] else first["loc"]
        )
        where = ".".join(map(str, place)) or "the card"
        raise ModelError(
            f"{path} is not a valid model card: {where}: {first['msg']}; export the model again"
        ) from None
    if not isinstance(card, card_type):
        task = card_type.model_fields["task"].default
        raise ModelError(f"expected a model for {task} in {folder}, found one for {card.task}")
    for member in card.members:
        file = folder / member.file
        if not file.is_file():
            raise ModelError(f"expected the model file {file} that the card names, found none")
        sha256 = sha256_of(file)
        if sha256 != member.sha256:
            raise ModelError(
                f"{file} is not the file its card was written for: expected SHA-256 "
                f"{member.sha256[:12]}…, found {sha256[:12]}…; copy or export the model again"
            )
    return card


def require_same_preparation(*cards: BaseCard) -> None:
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
