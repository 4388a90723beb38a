"""Model folders that every algorithm must reject: each differs from a good one in one way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LINK_TARGET: Final = "/opt/app/inference.py"
"""A file that is in the image but outside the model folder."""


@dataclass(frozen=True)
class BadModel:
    """An altered model folder.

    Attributes
    ----------
    name : what has been altered.
    alter : changes a copy of a good model folder.
    words : words that the line on stderr must contain.
    """

    name: str
    alter: Callable[[Path], None]
    words: str


def change_a_byte(model: Path) -> None:
    """Flip the bits of the middle byte of the first network in a model folder."""
    path = model / _card(model)["members"][0]["file"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def refer_to_other_weights(model: Path) -> None:
    """Add to the first graph a tensor with data in another file; update the hash in the card."""
    card = _card(model)
    member = card["members"][0]
    path = model / member["file"]
    # StringStringEntryProto: key, value. TensorProto: dims, data_type, name, external_data,
    # data_location. Bytes that follow a protobuf message are merged into it.
    location = _field(1, b"location") + _field(2, b"/opt/app/inference.py")
    tensor = b"\x08\x01\x10\x01" + _field(8, b"w") + _field(13, location) + b"\x70\x01"
    path.write_bytes(path.read_bytes() + _field(7, _field(5, tensor)))
    member["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _write(model, card)


def _name_a_file(name: Callable[[str], str]) -> Callable[[Path], None]:
    def alter(model: Path) -> None:
        card = _card(model)
        card["members"][0]["file"] = name(card["members"][0]["file"])
        _write(model, card)

    return alter


def _link(model: Path) -> None:
    path = model / _card(model)["members"][0]["file"]
    path.unlink()
    path.symlink_to(LINK_TARGET)


def _add_a_file(model: Path) -> None:
    (model / "weights.bin").write_bytes(b"\0" * 1024)


def _card(model: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((model / "model.json").read_bytes())
    return card


def _write(model: Path, card: dict[str, Any]) -> None:
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")


def _field(number: int, content: bytes) -> bytes:
    """Return a protobuf field of fewer than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


BAD_MODELS: Final = (
    BadModel("a changed byte", change_a_byte, "SHA-256"),
    BadModel("weights outside the graph", refer_to_other_weights, "keeps weights in another file"),
    BadModel("a member above the folder", _name_a_file("../{}".format), "plain file names"),
    BadModel("an absolute member", _name_a_file("/opt/ml/model/{}".format), "plain file names"),
    BadModel("a link out of the folder", _link, "symbolic link"),
    BadModel("a file without a name in the card", _add_a_file, "remove it"),
)
