"""Exported graphs and torch: how far they may differ, and how far trained networks do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shared.errors import ExportError
from shared.models.card import load_card
from shared.models.hpv import HpvCard
from shared.models.networks.base import NetworkConfig
from shared.models.segmentation import SegmentationCard
from tests.training.export.trained import (
    hpv_on_trained_encoder,
    on_every_provider,
    trained_segmentation,
)
from training.config import load_configuration
from training.export.model_folder import MemberModel, export_model
from training.export.parity import compare_masks, compare_numbers
from training.export.run import model_folder
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation


def logits_of(*voxels: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return logits of these voxels in a row, shape (3, 1, 1, voxels)."""
    return np.array(voxels, np.float32).T.reshape(3, 1, 1, -1)


# By hand


def test_large_logits_may_differ_if_the_probabilities_do_not() -> None:
    compare_masks(logits_of((20.1, 0, -8)), logits_of((20, 0.05, -8)), "model.onnx")


def test_probabilities_that_differ_are_refused() -> None:
    """At a probability of one half, 0.05 more of a logit is 0.0125 more of a probability."""
    output, expected = logits_of(*[(0.3, 0.25, -99)] * 2), logits_of(*[(0.3, 0.2, -99)] * 2)
    with pytest.raises(ExportError, match=r"0\.01 in at .* in 0\.000% and a .* up to 0\.012; not"):
        compare_masks(output, expected, "model.onnx")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_value_that_is_not_finite_is_refused(value: float) -> None:
    expected = logits_of(*[(1, 0, 0)] * 2)
    logits = expected.copy()
    logits[0, 0, 0, 0] = value
    with np.errstate(invalid="ignore"), pytest.raises(ExportError, match="difference of up to nan"):
        compare_masks(logits, expected, "model.onnx")
    number = np.array([[value]], np.float32)
    with pytest.raises(ExportError, match="relative difference"):
        compare_numbers(number, np.zeros_like(number), "model.onnx")


def many(voxels: int, changed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits of two almost equal outputs, which give some voxels different labels."""
    expected = logits_of(*[(0.01, 0.0, -9.0)] * voxels)
    output = expected.copy()
    output[:2, ..., :changed] = output[1::-1, ..., :changed]
    return output, expected


def test_one_voxel_in_ten_thousand_may_differ() -> None:
    compare_masks(*many(voxels=20_000, changed=2), "model.onnx")
    with pytest.raises(
        ExportError, match=r"99\.99% of the voxels, found agreement in 99\.985% and a d"
    ):
        compare_masks(*many(voxels=20_000, changed=3), "model.onnx")


def test_labels_that_are_tied_in_torch_do_not_count() -> None:
    expected = logits_of(*[(1e-4, 0.0, -9.0)] * 100)
    compare_masks(expected[[1, 0, 2]], expected, "model.onnx")


def test_comparing_leaves_the_logits_as_they_are() -> None:
    logits = logits_of((3, 2, 1))
    compare_masks(logits, logits, "model.onnx")
    np.testing.assert_array_equal(logits, logits_of((3, 2, 1)))


@pytest.mark.parametrize(
    ("output", "expected", "mean", "std", "agree"),
    [
        (0.009, 0.0, 0.0, 1.0, True),
        (0.011, 0.0, 0.0, 1.0, False),
        (100.9, 100.0, 0.0, 1.0, True),
        (101.1, 100.0, 0.0, 1.0, False),
        (0.0009, 0.0, 0.0, 0.1, True),
        (0.0011, 0.0, 0.0, 0.1, False),
        (100.11, 100.1, 100.0, 0.1, False),
    ],
)
def test_numbers_differ_relative_to_their_standardised_size(
    output: float, expected: float, mean: float, std: float, agree: bool
) -> None:
    arrays = np.array([[output]], np.float32), np.array([[expected]], np.float32)
    if agree:
        compare_numbers(*arrays, "model.onnx", mean=mean, std=std)
    else:
        with pytest.raises(ExportError, match="relative difference of at most"):
            compare_numbers(*arrays, "model.onnx", mean=mean, std=std)


# Trained weights


def test_trained_segmentation_agrees_at_its_own_size() -> None:
    image = torch.randn(1, 2, 80, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = trained_segmentation()(image).numpy()
    for graph in on_every_provider(model_folder(Segmentation()) / "segmentation.onnx"):
        compare_masks(graph(image=image.numpy())[0], expected[0], graph.provider)


@pytest.mark.slow
@pytest.mark.parametrize("size", [128, 192])
def test_trained_segmentation_is_exported_at_larger_sizes(size: int, tmp_path: Path) -> None:
    card = load_card(model_folder(Segmentation()), SegmentationCard)
    card = card.model_copy(update={"window_zyx": (size, size, size)})
    member = MemberModel(name="network", model=trained_segmentation(), config=NetworkConfig())
    export_model(member, tmp_path / "network.onnx", card)


def test_a_head_on_the_trained_encoder_is_exported(tmp_path: Path) -> None:
    card = load_card(model_folder(Hpv()), HpvCard)
    member = MemberModel(
        name="network",
        model=hpv_on_trained_encoder(),
        config=load_configuration("demo").hpv.network,
    )
    export_model(member, tmp_path / "network.onnx", card)
