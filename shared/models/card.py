"""The card: one `model.json` beside the `.onnx` files, with all that is needed to run them.

A model folder explains itself. Its card states geometry, channels and clinical features in the
order in which the network takes them, how its outputs become predictions, what it was trained on
and how well it scored. Each task has its own card, in the file of its model. `load_card` rejects a
folder whose files are not the ones that the card was written for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from shared.errors import ModelError
from shared.preprocessing.intensity import Channel, Intensity
from shared.preprocessing.region import Preparation
from shared.schema import Strict
from shared.tasks import TaskName

CARD_NAME: Final = "model.json"

MemberKind: TypeAlias = Literal["network", "linear"]
"""A network sees the image and the clinical values; a linear model the clinical values and the
lesion measures."""

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
"""A card of version 0.1 had the fields of all tasks; those of other tasks are empty in it."""


class Member(Strict):
    """One model of the ensemble; its risks are standardised by their mean and std."""

    file: str
    sha256: str
    kind: MemberKind = "network"
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
    """What the cards of all tasks state.

    A task's card is a subclass with a default for `task` and a value for `graph_output`.
    """

    graph_output: ClassVar[str]
    """Name of the output of the members' graphs."""

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

    def input_shapes(self, kind: MemberKind) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input of a member's graph, by name, in the graph's order."""
        del kind
        return {"image": (1, len(self.channels), *self.window_zyx)}


CardT = TypeVar("CardT", bound=BaseCard)


class _TaskOfCard(BaseModel):
    """The one field that must be read to know which card a file holds."""

    task: str


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
    card_type : the class of the task's card, such as `HpvModel.card_type`.

    Raises
    ------
    ModelError
        If there is no card, it does not follow the schema, it is for another task, or a file it
        names is missing or differs from the one it was written for.
    """
    path, expected = folder / CARD_NAME, card_type.model_fields["task"].default
    try:
        text = path.read_bytes()
        task = _TaskOfCard.model_validate_json(text).task
        if task != expected:
            raise ModelError(f"expected a model for {expected} in {folder}, found one for {task}")
        card = card_type.model_validate_json(text)
    except OSError:
        raise ModelError(
            f"expected a model card at {path}, found none; export a model to {folder}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the card"
        raise ModelError(
            f"{path} is not a valid model card: {where}: {first['msg']}; export the model again"
        ) from None
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
