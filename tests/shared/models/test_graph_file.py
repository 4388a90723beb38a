"""What an ONNX file may refer to: by hand, and with files that the `onnx` package writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from shared.errors import ModelError
from shared.models import graph_file
from shared.models.graph_file import MESSAGES, check_graph
from shared.models.onnx import Network

REPOSITORY = Path(__file__).parents[3]
WEIGHTS = np.arange(1024, dtype=np.float32)


def graph_that_adds(*more: onnx.NodeProto, **initializers: TensorProto) -> onnx.ModelProto:
    """Return a model that adds 1024 weights to its input, in an operator of ONNX's own."""
    tensors = initializers or {"w": numpy_helper.from_array(WEIGHTS, "w")}
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1024])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1024])
    nodes = [helper.make_node("Add", ["image", "w"], ["result"]), *more]
    graph = helper.make_graph(nodes, "adds", [value], [result], list(tensors.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def external(tensor: TensorProto, location: str = "weights.bin") -> TensorProto:
    """Return a tensor that keeps its data in another file."""
    external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def test_numbers_by_hand() -> None:
    # Field 1 (ir_version) = 10; field 7 (graph) without content.
    check_graph(b"\x08\x0a\x3a\x00")
    check_graph(b"")
    # Field 7 (graph) contains field 5 (initializer), which has field 14 (data_location) = EXTERNAL.
    with pytest.raises(ModelError, match="keeps weights in another file"):
        check_graph(b"\x3a\x04\x2a\x02\x70\x01")
    check_graph(b"\x3a\x04\x2a\x02\x70\x00")
    # A parser in C++ keeps 32 bits of an enumeration: 2**32 + 1 is EXTERNAL too.
    with pytest.raises(ModelError, match="keeps weights in another file"):
        check_graph(b"\x3a\x08\x2a\x06\x70\x81\x80\x80\x80\x10")


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a",  # no length
        b"\x3a\x05\x2a\x02",  # shorter than its length
        b"\x08" + b"\xff" * 11,  # a number without an end
        b"\x00\x00",  # field 0
        b"\x0b\x0c",  # a group
        b"\x18\x00\x00\x00ORTM",  # ONNX Runtime's own format
        b"version https://example.org",
    ],
)
def test_file_that_is_not_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="is not a valid ONNX file"):
        check_graph(content)


def test_messages_are_those_of_onnx() -> None:
    """The table reaches every message that can contain a tensor or an operator."""
    targets = ("TensorProto", "NodeProto")

    def leads_to_a_target(message: Descriptor, above: tuple[str, ...] = ()) -> bool:
        if message.name in targets:
            return True
        return message.name not in above and any(
            leads_to_a_target(field.message_type, (*above, message.name))
            for field in message.fields
            if field.message_type is not None
        )

    table, pending = {}, [onnx.ModelProto.DESCRIPTOR]
    while pending:
        message = pending.pop()
        fields = [f for f in message.fields if f.message_type and leads_to_a_target(f.message_type)]
        table[message.name] = {field.number: field.message_type.name for field in fields}
        pending += [f.message_type for f in fields if f.message_type.name not in table]
    assert table == MESSAGES
    numbers = {field.name: field.number for field in TensorProto.DESCRIPTOR.fields}
    assert (numbers["external_data"], numbers["data_location"]) == (13, 14)
    numbers = {field.name: field.number for field in onnx.NodeProto.DESCRIPTOR.fields}
    assert (numbers["op_type"], numbers["domain"]) == (graph_file.OPERATOR, graph_file.DOMAIN)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/tmp/weights.bin"])
def test_external_data_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "model.onnx"
    model = graph_that_adds(w=external(numpy_helper.from_array(WEIGHTS, "w"), location))
    path.write_bytes(model.SerializeToString())
    (path.parent / location).write_bytes(WEIGHTS.tobytes())
    with pytest.raises(ModelError, match=r"model\.onnx keeps weights in another file, .*; export"):
        Network(path)


def test_file_as_onnx_saves_it_with_external_data_is_refused(tmp_path: Path) -> None:
    onnx.save_model(
        graph_that_adds(),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
    )
    assert (tmp_path / "weights.bin").is_file()
    with pytest.raises(ModelError, match="keeps weights in another file"):
        Network(tmp_path / "model.onnx")
    onnx.save_model(graph_that_adds(), tmp_path / "whole.onnx")
    total = Network(tmp_path / "whole.onnx", ("CPU",))(image=WEIGHTS)
    np.testing.assert_array_equal(total, 2 * WEIGHTS)


def hidden_in_a_constant(tensor: TensorProto) -> onnx.ModelProto:
    return graph_that_adds(helper.make_node("Constant", [], ["c"], value=tensor))


def hidden_in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "branch",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [1024])],
        [tensor],
    )
    return graph_that_adds(
        helper.make_node("If", ["yes"], ["e"], then_branch=branch, else_branch=branch)
    )


def hidden_in_a_sparse_tensor(tensor: TensorProto) -> onnx.ModelProto:
    model = graph_that_adds()
    indices = numpy_helper.from_array(np.arange(1024), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4096]))
    return model


def hidden_in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    model = graph_that_adds()
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    opset = helper.make_opsetid("", 18)
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], [opset]))
    return model


@pytest.mark.parametrize(
    "hide",
    [hidden_in_a_constant, hidden_in_a_branch, hidden_in_a_sparse_tensor, hidden_in_a_function],
)
def test_external_data_are_found_wherever_they_are(hide) -> None:  # type: ignore[no-untyped-def]
    check_graph(hide(numpy_helper.from_array(WEIGHTS, "c")).SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in another file"):
        check_graph(hide(external(numpy_helper.from_array(WEIGHTS, "c"))).SerializeToString())


def test_operator_that_reads_a_file_is_refused() -> None:
    node = helper.make_node(
        "EPContext", ["image"], ["c"], domain="com.microsoft", ep_cache_context="blob.bin"
    )
    with pytest.raises(ModelError, match=r"operator 'EPContext' of 'com\.microsoft', which"):
        check_graph(graph_that_adds(node).SerializeToString())


def test_deep_nesting_is_refused_without_recursion() -> None:
    content = b""
    for _ in range(5000):  # graph > node > attribute > graph > ...
        for field in (b"\x32", b"\x2a", b"\x0a"):
            content = field + bytes_of_varint(len(content)) + content
    with pytest.raises(ModelError, match="more than 64 levels of subgraphs"):
        check_graph(b"\x3a" + bytes_of_varint(len(content)) + content)


def bytes_of_varint(value: int) -> bytes:
    content = b""
    while value >= 0x80:
        content += bytes([value & 0x7F | 0x80])
        value >>= 7
    return content + bytes([value])


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("task*/model/*.onnx")), ids=lambda p: p.name
)
def test_models_of_the_repository_are_whole(path: Path) -> None:
    check_graph(path.read_bytes())
