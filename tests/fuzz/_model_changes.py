"""Changes of a model folder. Each function returns what it did and what must happen.

"either" means that the folder may still load: a changed number of the card can be within its
limits, and a changed graph whose new SHA-256 is in the card is another valid model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.containers.bad_models import BAD_MODELS
from tests.fuzz.core import Expectation

Change = Callable[[np.random.Generator, Path], tuple[str, Expectation]]

NUMBERS: Final = (
    *(0, -1, 1, 2, 511, 512, 513, 100_000, 2**31, 2**63, 2**64, 10**400),
    *(1e-300, -1e-9, 0.5, 1e6, 1e38, 1e308, float("nan"), float("inf"), -float("inf")),
)
TEXTS: Final = (
    *("", " ", "x" * 20_000, "\x1b[2J\x1b[31m", "one\ntwo", "\u202e", "\x00", "..", "NaN"),
    *("\x9b1m", "a\u2028b", "ä", "仅供研究", "null", "true", "1e999"),
)
OTHER_TYPES: Final[tuple[Any, ...]] = (None, True, [], {}, [[]], {"a": 1}, "text", 3.5, [1, 2, 3])
NAMES: Final = (
    *("../hpv.onnx", "/etc/passwd", "sub/hpv.onnx", "..", ".", "", ".hpv.onnx", "model.json"),
    *("model.json.sig", "hpv.onnx\n", "a\x1b[31m", "hpv.onnx/", "./hpv.onnx", "a" * 300, "hpv\x00"),
    *("%2e%2e/hpv.onnx", "C:\\hpv.onnx", "~/hpv.onnx", "ｈpv.onnx", "hpv.onnx "),
)
EXTRAS: Final = (
    *("weights.bin", "segmentation.onnx.data", "._model.json", ".DS_Store", "MODEL.JSON", "lib.so"),
    *("a\x1b[2J", os.fsdecode(b"\xff\xfe"), "a\nb", "model.json~", "hpv.json", "survival.txt"),
)


def _untouched(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    return "untouched", "answered"


def _known(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    bad = BAD_MODELS[rng.integers(len(BAD_MODELS))]
    bad.alter(folder)
    return bad.name, "refused"


def _bit_of_a_graph(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = _pick_graph(rng, folder)
    place = _flip(rng, path)
    return f"bit flipped at {place} in {path.name}", "refused"


def _length_of_a_graph(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = _pick_graph(rng, folder)
    content = path.read_bytes()
    length = int(rng.integers(len(content)))
    path.write_bytes(content[:length] if rng.integers(2) else content + content[:length] + b"\0")
    return f"{path.name} has {path.stat().st_size} bytes", "refused"


def _bit_and_hash(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = _pick_graph(rng, folder)
    place = _flip(rng, path)
    _hash_again(folder, path)
    return f"bit flipped at {place} in {path.name}, hash fits", "either"


def _random_bytes_and_hash(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = _pick_graph(rng, folder)
    head = b"\x08\x0a" if rng.integers(2) else b""
    path.write_bytes(head + rng.bytes(int(rng.integers(1, 5000))))
    _hash_again(folder, path)
    return f"random bytes as {path.name}, hash fits", "refused"


def _bytes_of_the_card(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = folder / "model.json"
    for _ in range(int(rng.integers(1, 4))):
        _flip(rng, path)
    return "bits flipped in the card", "either"


def _no_card_any_more(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    text = (folder / "model.json").read_bytes()
    contents = (
        *(b"", b"null", b"[]", b"{}", b"[" * 100_000, b'{"task":' * 50_000, b"\xff\xfe", b"1e999"),
        *(text[: rng.integers(1, len(text) - 2)], text.replace(b"{", b"[", 1), text + text),
        *(b" " * 2**21 + text, b"\xef\xbb\xbf\xef\xbb\xbf" + text, text.replace(b'"', b"'")),
        text.decode().encode("utf-16"),
    )
    number = int(rng.integers(len(contents)))
    (folder / "model.json").write_bytes(contents[number])
    return f"text {number} in place of the card", "refused"


def _value_of_the_card(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    card = _card(folder)
    holder, key = _pick_leaf(rng, card)
    values = (NUMBERS, TEXTS, OTHER_TYPES)[rng.integers(3)]
    holder[key] = values[rng.integers(len(values))]
    _write(folder, card)
    return f"{key} is {ascii(holder[key])[:40]}", "either"


def _key_of_the_card(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    card = _card(folder)
    if rng.integers(2):
        key = ("format_", "\x1b[2J", "x" * 5000, "notice\n", "")[rng.integers(5)]
        card[key] = 1
        _write(folder, card)
        return f"additional key {ascii(key)[:40]}", "refused"
    required = ("task", "notice", "preparation", "intensity", "window_zyx", "channels", "members")
    key = required[rng.integers(len(required))]
    del card[key]
    _write(folder, card)
    return f"no {key}", "refused"


def _name_of_a_member(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    card = _card(folder)
    member = card["members"][rng.integers(len(card["members"]))]
    member["file"] = NAMES[rng.integers(len(NAMES))]
    _write(folder, card)
    return f"member {ascii(member['file'])[:40]}", "refused"


def _members(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    card = _card(folder)
    first, second, *others = card["members"]
    changes: tuple[tuple[str, list[Any]], ...] = (
        ("one member twice", [first, first, *others]),
        ("hashes exchanged", [first | {"sha256": second["sha256"]}, second, *others]),
        (
            "files exchanged",
            [first | {"file": second["file"]}, second | {"file": first["file"]}, *others],
        ),
        ("a member left out", [first, *others]),
        ("no member", []),
        ("a thousand members", [first | {"file": f"{i}.onnx"} for i in range(1000)]),
        ("no hash", [first | {"sha256": ""}, second, *others]),
        ("hash in capitals", [first | {"sha256": first["sha256"].upper()}, second, *others]),
    )
    what, card["members"] = changes[rng.integers(len(changes))]
    _write(folder, card)
    return what, "refused"


def _additional_file(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    name = EXTRAS[rng.integers(len(EXTRAS))]
    (folder / name).write_bytes(rng.bytes(int(rng.integers(100))))
    return f"additional file {name!a}", "refused"


def _irregular_file(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    path = (folder / "model.json", _pick_graph(rng, folder))[rng.integers(2)]
    original = path.rename(folder.parent / path.name)
    makers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a link to the original", lambda: path.symlink_to(original)),
        ("a link to itself", lambda: path.symlink_to(path.name)),
        ("a dangling link", lambda: path.symlink_to("nowhere")),
        ("a link to /dev/zero", lambda: path.symlink_to("/dev/zero")),
        ("a link to a process", lambda: path.symlink_to("/proc/self/mem")),
        ("a pipe", lambda: os.mkfifo(path)),
        ("a folder", path.mkdir),
        ("empty", path.touch),
        ("missing", lambda: None),
    )
    what, make = makers[rng.integers(len(makers))]
    make()
    return f"{path.name} is {what}", "refused"


def _irregular_addition(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    makers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("folder", (folder / "old").mkdir),
        ("link called segmentation", lambda: (folder / "segmentation").symlink_to("/etc")),
        ("pipe called model.json.sig", lambda: os.mkfifo(folder / "model.json.sig")),
        (
            "link called model.json.sig",
            lambda: (folder / "model.json.sig").symlink_to("/etc/hosts"),
        ),
        ("socket or device", lambda: os.mkfifo(folder / "hpv")),
    )
    what, make = makers[rng.integers(len(makers))]
    make()
    return f"additional {what}", "refused"


def _harmless(rng: np.random.Generator, folder: Path) -> tuple[str, Expectation]:
    if rng.integers(2):
        (folder / "model.json.sig").write_bytes(rng.bytes(200))
        return "a signature, which is not checked here", "answered"
    (folder / "segmentation").mkdir()
    return "the folder of a bundled model", "answered"


CHANGES: Final[tuple[Change, ...]] = (
    *(_untouched, _harmless, _known, _bit_of_a_graph, _length_of_a_graph, _bit_and_hash),
    *(_random_bytes_and_hash, _bytes_of_the_card, _no_card_any_more, _value_of_the_card),
    *(_value_of_the_card, _key_of_the_card, _name_of_a_member, _members, _additional_file),
    *(_irregular_file, _irregular_addition),
)


def _pick_graph(rng: np.random.Generator, folder: Path) -> Path:
    paths = sorted(folder.glob("*.onnx"))
    return paths[rng.integers(len(paths))]


def _flip(rng: np.random.Generator, path: Path) -> int:
    """Flip a bit of a file, half of the time near its start or end; return the byte's position."""
    content = bytearray(path.read_bytes())
    near = (min(len(content), 4000), len(content))[rng.integers(2)]
    place = (
        int(rng.integers(near)) if rng.integers(2) else len(content) - 1 - int(rng.integers(near))
    )
    content[place] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    return place


def _hash_again(folder: Path, path: Path) -> None:
    card = _card(folder)
    for member in card["members"]:
        if member["file"] == path.name:
            member["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _write(folder, card)


def _pick_leaf(rng: np.random.Generator, card: dict[str, Any]) -> tuple[Any, Any]:
    """Pick a random value of the card; return the object or list that contains it, and its key."""
    places: list[tuple[Any, Any]] = []
    pending: list[Any] = [card]
    while pending:
        holder = pending.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            places.append((holder, key))
            if isinstance(value, dict | list):
                pending.append(value)
    return places[rng.integers(len(places))]


def _card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
    return card


def _write(folder: Path, card: dict[str, Any]) -> None:
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
