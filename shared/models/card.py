"""The card, a `model.json` next to the `.onnx` files that states everything needed to run them.

A model folder explains itself. Its card states geometry, channels and clinical features in the
order in which the network takes them, how its outputs become predictions, what it was trained on
and how well it scored. Each task has its own class of card, in the module of its model. `load_card`
rejects a folder that does not match its card, see `sealed`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator

from shared.errors import ModelError, escaped
from shared.models.sealed import CARD_NAME, SIGNATURE_NAME, check_sealed, read_card_text
from shared.preprocessing.intensity import AnyIntensity, Channel
from shared.preprocessing.region import Preparation
from shared.schema import Divisor, Magnitude, Side, Strict, Text
from shared.tasks import TaskName

MemberKind: TypeAlias = Literal["network", "linear"]
"""A network takes the image and the clinical values. A linear model takes the clinical values and
the lesion measures."""

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""The precision in which a CPU with bfloat16 instructions computes. Other devices use float32."""

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
"""Fields that belong to some tasks only. A card of version 0.1 has the fields of all tasks; the
fields of other tasks are then empty, and they are ignored."""


class Member(Strict):
    """One model of the ensemble; `risk_mean` and `risk_std` standardise the risks of Task 2."""

    file: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: MemberKind = "network"
    risk_mean: Magnitude = 0.0
    risk_std: Divisor = 1.0


class Score(Strict):
    """One measured score, its uncertainty and the patients that it was measured on.

    `standard_error` and the 95 % interval, `low` to `high`, come from a bootstrap over patients.
    """

    metric: Text
    value: Magnitude
    low: Magnitude | None = None
    high: Magnitude | None = None
    standard_error: Magnitude | None = None
    patients: PositiveInt
    cohort: Text


class Training(Strict):
    """The origin of the weights."""

    data: Text
    patients: PositiveInt
    command: Text
    revision: Text
    seed: int | None
    """None if another program trained the weights and did not record the seed."""


class BaseCard(Strict):
    """The fields that the cards of all tasks have.

    The card of a task is a subclass with a default for `task` and a value for `graph_output`.
    """

    graph_output: ClassVar[str]
    """Name of the output of the members' graphs."""

    format: Literal[1] = 1
    task: TaskName
    configuration: Annotated[Text, Field(min_length=1)]
    """Name of the file in training/configs, or of the file given in its place."""
    notice: Text
    """What a user must know before trusting the output; printed at every start."""
    licence: Text
    preparation: Preparation
    intensity: AnyIntensity
    window_zyx: tuple[Side, Side, Side]
    """Task 1: size of the sliding window. Tasks 2 and 3: size of the part that the network sees."""
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=16)]
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=100)]
    training: Training
    scores: Annotated[tuple[Score, ...], Field(max_length=1000)] = ()

    @property
    def compute_precision(self) -> Precision:
        """The precision of the members' graphs; the card of a task may allow another one."""
        return "float32"

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [member.file for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError("expected a file of its own for each member, found one twice")
        return self

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
    """The field that tells for which task a card is."""

    task: str


def _is_empty(value: object) -> bool:
    """Return whether a value is null, 0, empty or an object of such values."""
    return not value or (isinstance(value, Mapping) and not any(value.values()))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(folder: Path, card: BaseCard) -> None:
    """Write a card into its model folder; a signature of an earlier card is removed."""
    (folder / SIGNATURE_NAME).unlink(missing_ok=True)
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
        If there is no card, it does not follow the schema, it is for another task, or the folder
        is not sealed, see `check_sealed`.
    """
    path, expected = folder / CARD_NAME, card_type.model_fields["task"].default
    text = read_card_text(folder)
    try:
        task = _TaskOfCard.model_validate_json(text).task
        if task != expected:
            raise ModelError(
                f"expected a model for {expected} in {folder}, found one for {task[:100]!a}"
            )
        card = card_type.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:200] or "the card"
        raise ModelError(
            f"{path} is not a valid model card: {escaped(where)}: {escaped(first['msg'][:500])}; "
            "export the model again"
        ) from None
    check_sealed(folder, {member.file: member.sha256 for member in card.members})
    return card


def require_same_preparation(*cards: BaseCard) -> None:
    """Check that models can be chained on one prepared case.

    Raises
    ------
    ModelError
        If the cards have different preparations.
    """
    first, *others = cards
    for other in others:
        if other.preparation != first.preparation:
            raise ModelError(
                f"expected the {other.task} model to take the region of the {first.task} model, "
                f"{first.preparation}, found {other.preparation}; export both from one "
                "configuration"
            )
