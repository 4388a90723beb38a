"""The card of a model folder: what it must say, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ModelError
from shared.models.card import (
    Card,
    Score,
    load_card,
    require_same_preparation,
    sha256_of,
    write_card,
)
from tests.shared.models.small_networks import HPV, SEGMENTATION, SURVIVAL

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""FIPS 180-2, appendix B.1."""
MEMBER = {"file": "model.onnx", "sha256": SHA256_OF_ABC}


def card_of(task: str, fields: dict[str, Any], **changes: object) -> Card:
    return Card.model_validate({"task": task, "members": [MEMBER], **fields, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model folder whose network is three bytes."""
    (tmp_path / "model.onnx").write_bytes(b"abc")
    write_card(tmp_path, card_of("hpv", HPV))
    return tmp_path


def change(folder: Path, **fields: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_sha256_is_that_of_the_standard(folder: Path) -> None:
    assert sha256_of(folder / "model.onnx") == SHA256_OF_ABC


def test_a_written_card_is_read_back_as_it_was(folder: Path) -> None:
    score = Score(metric="balanced_accuracy", value=0.75, patients=20, cohort="phantoms")
    card = card_of("hpv", HPV, notice="Größe, „so“", scores=[score])
    write_card(folder, card)
    assert load_card(folder, "hpv") == card
    assert "Größe" in (folder / "model.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "fields"), [("segmentation", SEGMENTATION), ("hpv", HPV), ("survival", SURVIVAL)]
)
def test_each_task_has_its_card(folder: Path, task: str, fields: dict[str, Any]) -> None:
    write_card(folder, card_of(task, fields))
    assert load_card(folder, task).task == task


@pytest.mark.parametrize(
    "changes", [{"measures": ("mtv_ml",)}, {"members": [MEMBER | {"kind": "linear"}]}]
)
def test_linear_members_and_measures_go_together(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="linear members and the measures they see"):
        card_of("hpv", HPV, **changes)


def no_card(folder: Path) -> None:
    (folder / "model.json").unlink()


def no_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def changed_byte(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"abd")


def no_file(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.json").write_text(content) and None


def field(**fields: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, **fields)


REFUSALS = {
    "no card": (no_card, "expected a model card at .*model.json, found none; export"),
    "no folder": (no_folder, "expected a model card at .*model.json, found none"),
    "no JSON": (text("{"), "not a valid model card: .*JSON"),
    "a list": (text("[]"), "not a valid model card"),
    "changed byte": (
        changed_byte,
        "model.onnx is not the file .* SHA-256 ba7816bf8f01…, found a52",
    ),
    "no file": (no_file, "expected the model file .*model.onnx that the card names, found none"),
    "unknown key": (field(colour="red"), "not a valid model card: colour: "),
    "another format": (field(format=2), "not a valid model card: format: "),
    "unknown channel": (field(channels=["CT", "MR"]), r"not a valid model card: channels\.1: "),
    "NaN": (field(threshold=float("nan")), "not a valid model card: threshold: "),
    "no threshold": (field(threshold=None), "an HPV card states its threshold"),
    "no member": (field(members=[]), "not a valid model card: members: "),
    "unknown feature": (
        field(clinical=[{"key": "weight"}]),
        r"not a valid model card: clinical\.0\.key: .*'weight' is no clinical value",
    ),
    "wide overlap": (field(overlap=1.0), "not a valid model card: overlap: "),
    "empty window": (field(window_zyx=[16, 0, 16]), r"not a valid model card: window_zyx\.1: "),
    "another task": (field(task="survival"), "expected a model for hpv in .*, found one for surv"),
}


@pytest.mark.parametrize(("spoil", "message"), list(REFUSALS.values()), ids=list(REFUSALS))
def test_refused_in_one_line(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_card(folder, "hpv")
    assert "\n" not in str(caught.value)


def test_a_segmentation_card_names_its_labels() -> None:
    with pytest.raises(ValidationError, match="names its labels"):
        card_of("segmentation", SEGMENTATION, labels=())


def test_a_card_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        card_of("hpv", HPV).threshold = 0.7  # type: ignore[misc]


def test_models_of_one_preparation_can_be_chained() -> None:
    cards = [card_of("survival", SURVIVAL), card_of("segmentation", SEGMENTATION)]
    require_same_preparation(*cards, card_of("hpv", HPV))


def test_models_of_different_regions_cannot() -> None:
    other = {**HPV["preparation"], "spacing_mm": 1}
    with pytest.raises(ModelError, match="expected the hpv model to take the region of the surv"):
        require_same_preparation(
            card_of("survival", SURVIVAL), card_of("hpv", HPV, preparation=other)
        )
