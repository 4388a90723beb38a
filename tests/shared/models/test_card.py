"""The card of a model folder: required fields, defaults, limits, and invalid cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ModelError
from shared.lesions import MEASURES
from shared.models.card import (
    BaseCard,
    Member,
    Score,
    load_card,
    require_same_preparation,
    sha256_of,
    write_card,
)
from shared.models.hpv import HpvCard
from shared.models.segmentation import SegmentationCard
from shared.models.survival import SurvivalCard
from tests.shared.models.small_networks import FIELDS, HPV, SEGMENTATION, SURVIVAL

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""From FIPS 180-2, appendix B.1."""
GRAPH = b"\x08\x0a\x3a\x00"
"""The smallest ONNX file: `ir_version` and an empty graph."""
MEMBER = {"file": "model.onnx", "sha256": hashlib.sha256(GRAPH).hexdigest()}


CARDS: dict[str, type[BaseCard]] = {
    "segmentation": SegmentationCard,
    "survival": SurvivalCard,
    "hpv": HpvCard,
}
FIELDS_BY_TASK = {"segmentation": SEGMENTATION, "hpv": HPV, "survival": SURVIVAL}
REPOSITORY = Path(__file__).parents[3]


def card_of(task: str, /, **changes: object) -> BaseCard:
    fields = {"members": [MEMBER], **FIELDS_BY_TASK[task], **changes}
    return CARDS[task].model_validate(fields)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model folder whose network is four bytes."""
    (tmp_path / "model.onnx").write_bytes(GRAPH)
    write_card(tmp_path, card_of("hpv"))
    return tmp_path


def change(folder: Path, **fields: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_sha256_equals_the_example_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == SHA256_OF_ABC


def test_written_card_is_read_back_unchanged(folder: Path) -> None:
    score = Score(metric="balanced_accuracy", value=0.75, patients=20, cohort="phantoms")
    card = card_of("hpv", notice="Größe, „so“", scores=[score])
    write_card(folder, card)
    assert load_card(folder, HpvCard) == card
    assert "Größe" in (folder / "model.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", FIELDS_BY_TASK)
def test_each_task_has_its_card(folder: Path, task: str) -> None:
    write_card(folder, card_of(task))
    card = load_card(folder, CARDS[task])
    assert card.task == task
    assert type(card) is CARDS[task]


@pytest.mark.parametrize(
    ("folder", "task"),
    [
        ("task1_segmentation/model", "segmentation"),
        ("task2_survival/model", "survival"),
        ("task3_hpv/model", "hpv"),
    ],
)
def test_cards_of_version_0_1_are_read(folder: str, task: str) -> None:
    """Such cards have the fields of all tasks; the fields of other tasks are empty."""
    path = REPOSITORY / folder
    stored = json.loads((path / "model.json").read_text(encoding="utf-8"))
    card = load_card(path, CARDS[task]).model_dump(mode="json", exclude_unset=True)
    assert {name: stored[name] for name in card} == card


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("segmentation", "threshold", 0.5),
        ("segmentation", "clinical", [{"key": "age"}]),
        ("segmentation", "measures", ["suv_max"]),
        ("survival", "threshold", 0.5),
        ("survival", "labels", ["background"]),
        ("survival", "overlap", 0.5),
        ("hpv", "rules", {"min_node_suv_max": 3.0}),
        ("hpv", "min_component_mm3", {"GTVp": 1.0}),
        ("hpv", "mirror_axes", ["x"]),
        ("hpv", "colour", None),
    ],
)
def test_field_of_another_task_is_refused_unless_empty(task: str, name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=rf"{name}\n +Extra inputs are not permitted"):
        card_of(task, **{name: value})


def test_defaults_of_a_card() -> None:
    segmentation = card_of("segmentation", overlap=0)
    assert isinstance(segmentation, SegmentationCard)
    short = SegmentationCard.model_validate(
        {k: v for k, v in segmentation.model_dump().items() if k != "overlap"}
    )
    assert (short.overlap, short.mirror_axes, short.min_component_mm3) == (0.0, (), {})
    assert not any(short.rules.model_dump().values())
    assert (short.format, short.task, short.scores) == (1, "segmentation", ())
    survival = card_of("survival", clinical=[])
    assert isinstance(survival, SurvivalCard)
    assert survival.measures == ()
    member = Member.model_validate(MEMBER)
    assert (member.kind, member.risk_mean, member.risk_std) == ("network", 0.0, 1.0)
    score = Score(metric="c_index", value=0.7, patients=9, cohort="phantoms")
    assert score.standard_error is None


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("segmentation", {"overlap": -0.1}),
        ("segmentation", {"overlap": 0.91}),
        ("segmentation", {"preparation": {**FIELDS["preparation"], "size_xyz": [100000] * 3}}),
        ("segmentation", {"preparation": {**FIELDS["preparation"], "size_xyz": [28, 24, 513]}}),
        ("segmentation", {"preparation": {**FIELDS["preparation"], "spacing_mm": 1e-9}}),
        ("segmentation", {"window_zyx": [16, 16, 513]}),
        ("segmentation", {"intensity": {**FIELDS["intensity"], "ct_window_hu": [0, 0.5]}}),
        ("segmentation", {"intensity": {**FIELDS["intensity"], "pet_unit_suv": 1e-300}}),
        ("segmentation", {"rules": {"node_gap_mm": 1e4}}),
        ("segmentation", {"min_component_mm3": {"GTVp": -1}}),
        ("hpv", {"threshold": 1.5}),
        ("hpv", {"clinical": [{"key": "age", "std": 1e-300}]}),
        ("hpv", {"members": [MEMBER, MEMBER]}),
        ("hpv", {"members": [{**MEMBER, "sha256": "ba78"}]}),
        ("hpv", {"members": [{**MEMBER, "file": f"{i}.onnx"} for i in range(101)]}),
        ("hpv", {"notice": "x" * 10_001}),
        ("survival", {"members": [{**MEMBER, "risk_mean": 1e300}]}),
        ("segmentation", {"mirror_axes": ["w"]}),
        ("hpv", {"configuration": ""}),
        ("hpv", {"channels": []}),
        ("hpv", {"task": "survival"}),
        ("survival", {"members": [{**MEMBER, "risk_std": 0}]}),
        ("survival", {"members": [{**MEMBER, "risk_std": -1}]}),
        ("survival", {"members": [{**MEMBER, "kind": "forest"}]}),
        ("hpv", {"training": {**HPV["training"], "patients": 0}}),
        ("hpv", {"scores": [{"metric": "m", "value": 1, "patients": 0, "cohort": "c"}]}),
    ],
)
def test_impossible_values_are_refused(task: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        card_of(task, **changes)


def test_overlap_may_be_zero_or_nearly_one() -> None:
    for overlap in (0.0, 0.9):
        assert card_of("segmentation", overlap=overlap).model_dump()["overlap"] == overlap


def test_input_shapes_follow_from_the_card() -> None:
    image, clinical = (1, 2, 16, 16, 16), (1, 1)
    assert card_of("segmentation").input_shapes("network") == {"image": image}
    both = [{**MEMBER, "kind": "network"}, {**MEMBER, "file": "b.onnx", "kind": "linear"}]
    card = card_of("hpv", members=both, measures=MEASURES)
    # The shapes are in the order of the graph's inputs.
    assert list(card.input_shapes("network").items()) == [("image", image), ("clinical", clinical)]
    assert list(card.input_shapes("linear").items()) == [
        ("clinical", clinical),
        ("measures", (1, len(MEASURES))),
    ]
    assert card_of("hpv", clinical=[]).input_shapes("network") == {"image": image}
    assert card_of("survival").input_shapes("network") == {
        "image": (1, 4, 16, 16, 16),
        "clinical": (1, 2),
    }


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "one\ntwo", "\x9b31m", "\u202eabc", "a\u2028b", "\x00", "\x7f"]
)
def test_control_codes_do_not_reach_the_terminal(folder: Path, text: str) -> None:
    for fields in ({"notice": text}, {"licence": text}, {text: 1}, {"task": text}):
        change(folder, **fields)
        with pytest.raises(ModelError) as error:
            load_card(folder, HpvCard)
        assert str(error.value).isprintable()
        write_card(folder, card_of("hpv"))


def test_text_of_other_languages_is_accepted() -> None:
    for notice in ("Größe, „so“ – naïve", "仅供研究使用", "только\u00a0для исследований"):
        assert card_of("hpv", notice=notice).notice == notice


def test_new_card_removes_the_signature_of_the_old_one(folder: Path) -> None:
    (folder / "model.json.sig").write_text("a signature")
    load_card(folder, HpvCard)
    write_card(folder, card_of("hpv", notice="new"))
    assert not (folder / "model.json.sig").exists()


def test_segmentation_has_no_linear_members() -> None:
    with pytest.raises(ValidationError, match="expected only networks as members"):
        card_of("segmentation", members=[{**MEMBER, "kind": "linear"}])


def test_bfloat16_needs_the_scores_of_its_check() -> None:
    with pytest.raises(ValidationError, match="expected a precision_check"):
        card_of("segmentation", precision="bfloat16")
    check = {
        "float32": {"gtvp_dice": 0.8},
        "bfloat16": {"gtvp_dice": 0.799},
        "patients": 9,
        "cohort": "phantoms",
    }
    card = card_of("segmentation", precision="bfloat16", precision_check=check)
    assert card.compute_precision == "bfloat16"
    assert card_of("hpv").compute_precision == "float32"
    with pytest.raises(ValidationError, match="precision"):
        card_of("hpv", precision="bfloat16")


@pytest.mark.parametrize(
    "changes", [{"measures": ("mtv_ml",)}, {"members": [MEMBER | {"kind": "linear"}]}]
)
def test_linear_members_and_measures_go_together(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="measures exactly if there are linear members"):
        card_of("hpv", **changes)


def no_card(folder: Path) -> None:
    (folder / "model.json").unlink()


def no_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def changed_byte(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(GRAPH + b"\x08\x0a")


def no_file(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def no_task(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    del card["task"]
    (folder / "model.json").write_text(json.dumps(card))


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.json").write_text(content) and None


def field(**fields: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, **fields)


REFUSALS = {
    "no card": (no_card, "expected a model card at .*model.json, found none; export"),
    "no folder": (no_folder, "expected a model card at .*model.json, found none"),
    "no JSON": (text("{"), "not a valid model card: .*JSON"),
    "a list": (text("[]"), "not a valid model card: the card: "),
    "changed byte": (
        changed_byte,
        f"model.onnx is not the file .* SHA-256 {MEMBER['sha256'][:12]}…, found ",
    ),
    "no file": (no_file, "expected the model file .*model.onnx that the card names, found none"),
    "unknown key": (field(colour="red"), "not a valid model card: colour: "),
    "another format": (field(format=2), "not a valid model card: format: "),
    "unknown channel": (field(channels=["CT", "MR"]), r"not a valid model card: channels\.1: "),
    "NaN": (field(threshold=float("nan")), "not a valid model card: threshold: "),
    "no threshold": (field(threshold=None), r"not a valid model card: threshold: "),
    "no member": (field(members=[]), "not a valid model card: members: "),
    "unknown feature": (
        field(clinical=[{"key": "weight"}]),
        r"card: clinical\.0\.key: .*expected a clinical variable, .* found 'weight'",
    ),
    "very long text": (
        field(clinical=[{"key": "x" * 20_000}]),
        r"card: clinical\.0\.key: .{,500}; export the model again$",
    ),
    "unknown task": (
        field(task="biopsy"),
        "expected a model for hpv in .*, found one for 'biopsy'",
    ),
    "no task": (no_task, "not a valid model card: task: Field required"),
    "empty window": (field(window_zyx=[16, 0, 16]), r"not a valid model card: window_zyx\.1: "),
    "another task": (
        field(task="survival", threshold=None),
        "expected a model for hpv in .*, found one for 'survival'",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), list(REFUSALS.values()), ids=list(REFUSALS))
def test_bad_folder_is_refused_in_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=message) as error:
        load_card(folder, HpvCard)
    assert "\n" not in str(error.value)


def test_segmentation_card_without_labels_is_refused() -> None:
    with pytest.raises(ValidationError, match="labels"):
        card_of("segmentation", labels=())


def test_card_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        card_of("hpv").threshold = 0.7  # type: ignore[attr-defined]


def test_models_of_one_preparation_can_be_chained() -> None:
    cards = [card_of("survival"), card_of("segmentation")]
    require_same_preparation(*cards, card_of("hpv"))


def test_models_of_different_regions_cannot_be_chained() -> None:
    other = {**HPV["preparation"], "spacing_mm": 1}
    with pytest.raises(ModelError, match="expected the hpv model to take the region of the surv"):
        require_same_preparation(card_of("survival"), card_of("hpv", preparation=other))
