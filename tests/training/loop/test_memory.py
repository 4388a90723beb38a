"""The predicted memory of a step, compared with counting the step at its full size."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from typing import Final

import pytest
import torch
from torch import nn

from shared.conventions import IntTriple
from tests.training.synthetic import configuration
from training.loop import memory
from training.loop.checkpointing import compute_again
from training.loop.hardware import MOST_KEPT_VALUES
from training.loop.memory import _LiveBytes, _PooledAsOnGpu, activation_bytes, autocast, step_bytes
from training.samples.dataset import Sample
from training.tasks.segmentation import SegmentationModule


def batch(size_zyx: IntTriple, count: int = 1) -> Sample:
    return {
        "image": torch.zeros(count, 2, *size_zyx),
        "labels": torch.zeros(count, 1, *size_zyx, dtype=torch.uint8),
    }


def module(checkpoint_levels: int = 0) -> SegmentationModule:
    settings = configuration(batch_dice=False).segmentation
    network = settings.network.build(2)
    compute_again(chain.from_iterable(settings.network.levels(network)[:checkpoint_levels]))
    return SegmentationModule(network, settings, 0, 6.0)


def test_memory_of_a_layer_by_hand() -> None:
    """1000 inputs and 1000 outputs of 4 bytes exist at the same time, then only the outputs."""
    weight = torch.ones(1000)
    with _LiveBytes() as live:
        once = weight * 2
        twice = once * 2
        del once
        again = twice.view(10, 100)
    assert (live.peak, live.now) == (8000, 4000)
    assert again.shape == (10, 100)


@pytest.mark.parametrize(("size", "count"), [((64, 48, 48), 2), ((80, 64, 48), 1)])
def test_memory_of_two_small_steps_gives_that_of_a_larger_one(
    monkeypatch: pytest.MonkeyPatch, size: IntTriple, count: int
) -> None:
    """The prediction is within 3 %."""
    monkeypatch.setattr(memory, "SMALL_SIDES", (32, 48))
    predicted = step_bytes(module(), batch, size_zyx=size, batch_size=count, precision="32-true")
    counted = activation_bytes(module(), batch(size, count), "32-true")
    weights = sum(4 * p.numel() for p in module().network.parameters())
    assert predicted == pytest.approx(counted + 4 * weights, rel=0.03)


def test_less_precision_and_checkpoints_save_memory() -> None:
    size = (32, 32, 32)
    whole = activation_bytes(module(), batch(size), "32-true")
    assert activation_bytes(module(), batch(size), "bf16-mixed") < 0.8 * whole
    assert activation_bytes(module(2), batch(size), "32-true") < 0.8 * whole


def test_pooling_is_counted_in_the_type_of_a_gpu() -> None:
    """2 * 8³ voxels of 2 bytes are pooled to 2 * 4³ of 2 bytes, and as many indices of 8 bytes."""
    volume = torch.zeros(1, 2, 8, 8, 8, dtype=torch.bfloat16)
    with autocast("cpu", "bf16-mixed"), _PooledAsOnGpu(), _LiveBytes() as live:
        pooled = nn.MaxPool3d(2)(volume)
        product = nn.Linear(4, 4)(pooled)
    assert (pooled.dtype, product.dtype) == (torch.bfloat16, torch.bfloat16)
    assert live.peak < 2 * 8**3 * 4


def test_gradients_do_not_stay() -> None:
    trained = module()
    activation_bytes(trained, batch((16, 16, 16)), "32-true")
    assert all(p.grad is None for p in trained.network.parameters())
    assert isinstance(trained.network, nn.Module)


GROWTH: Final = """
import sys, torch
from shared.resources import peak_memory_gb, reset_peak_memory
from training.loop.hardware import keep_freed_memory

keep_freed_memory({"image": torch.empty(int(sys.argv[1]), device="meta")})
torch.ones(2**26)  # 0.27 GB, freed at once
reset_peak_memory()  # the peak is now what the process still has
print(peak_memory_gb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="keep_freed_memory sets options of glibc")
def test_freed_memory_is_kept_unless_the_windows_are_large() -> None:
    kept, returned = (
        float(subprocess.check_output([sys.executable, "-c", GROWTH, str(values)], text=True))
        for values in (MOST_KEPT_VALUES, MOST_KEPT_VALUES + 1)
    )

    assert kept - returned == pytest.approx(0.27, abs=0.05)
