"""Check that an ONNX file contains its whole model, before ONNX Runtime opens it.

A graph may keep weights in other files, whose content the card's SHA-256 does not cover: as
external data of a tensor, or through an operator that is not ONNX's own, such as EPContext. This
module reads the file's protobuf messages as far as necessary to find both. It uses only the
standard library, because neither the images nor the machines that build them have the `onnx`
package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shared.errors import ModelError

_Message = dict[int, str]

MESSAGES: Final[dict[str, _Message]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""The messages that can contain a tensor or an operator, with the numbers of the fields to follow.

The numbers come from onnx.proto; a test compares them with the `onnx` package.
"""
EXTERNAL_DATA: Final = 13
DATA_LOCATION: Final = 14
"""Fields of TensorProto. `DATA_LOCATION` is 0 if the data is in the file itself."""
OPERATOR: Final = 4
DOMAIN: Final = 7
"""Fields of NodeProto."""
OWN_DOMAINS: Final = (b"", b"ai.onnx")
MAX_DEPTH: Final = 64
"""Largest number of nested messages. A graph without subgraphs has 4 levels."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_graph(content: bytes) -> None:
    """Check the content of an ONNX file.

    Raises
    ------
    ModelError
        If the content is not an ONNX model, refers to data in another file, or has an operator that
        is not ONNX's own. The message continues the sentence "<file> ...".
    """
    pending = [("ModelProto", memoryview(content), 0)]
    while pending:
        name, message, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ModelError(f"has more than {MAX_DEPTH} levels of subgraphs")
        operator, domain = "", b""
        for number, value in _fields(message):
            if name == "TensorProto" and (
                number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)
            ):
                raise ModelError("keeps weights in another file, which its SHA-256 does not cover")
            if isinstance(value, int):
                continue
            if number in MESSAGES[name]:
                pending.append((MESSAGES[name][number], value, depth + 1))
            elif name == "NodeProto" and number == OPERATOR:
                operator = bytes(value[:80]).decode("utf-8", "replace")
            elif name == "NodeProto" and number == DOMAIN:
                domain = bytes(value[:80])
        if domain not in OWN_DOMAINS:
            where = domain.decode("utf-8", "replace")
            raise ModelError(f"has the operator {operator!r} of {where!r}, which is not ONNX's own")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field; values of a fixed size are yielded as bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise ModelError("is not a valid ONNX file")
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ModelError("is not a valid ONNX file")
        if position + size > len(message):
            raise ModelError("is not a valid ONNX file; it may be truncated")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number at a position and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelError("is not a valid ONNX file; it may be truncated")
