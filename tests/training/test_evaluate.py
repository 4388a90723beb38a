"""Which members of an ensemble are scored together."""

from __future__ import annotations

from shared.models.card import Kind, Member
from training.evaluate import by_kind


def member(kind: Kind) -> Member:
    return Member(file=f"{kind}.onnx", sha256="", kind=kind)


def test_an_ensemble_of_one_kind_is_scored_as_a_whole() -> None:
    outputs = [(member("network"), 0.5), (member("network"), 2.0)]
    assert by_kind(outputs) == {"": outputs}


def test_each_of_several_kinds_is_scored_alone_too() -> None:
    networks = [(member("network"), 0.5), (member("network"), 2.0)]
    linear = [(member("linear"), -1.0)]
    assert by_kind(networks + linear) == {
        "": networks + linear,
        "_network_alone": networks,
        "_linear_alone": linear,
    }
