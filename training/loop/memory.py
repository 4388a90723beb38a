"""The memory of a training step, from two steps on small crops.

What a convolutional network keeps for its backward pass grows in proportion to the voxels, so two
small sizes give the rest. The steps run on the CPU, so they need no GPU. Tensors are counted, not
the process: what CUDA itself, cuDNN's workspaces and fragmentation take comes on top.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shared.conventions import IntTriple
from training.config import Precision
from training.loop.hardware import Device
from training.loop.module import TrainedModule
from training.samples.dataset import Sample

SMALL_SIDES: Final = (48, 64)
"""Of the crops, in voxels: multiples of 16, and large enough that activations outweigh weights."""
_TYPES: Final[dict[Precision, torch.dtype]] = {
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


def autocast(device: Device, precision: Precision) -> torch.autocast:
    """Return the context in which a step of this precision runs."""
    low = _TYPES.get(precision)
    return torch.autocast(device, dtype=low or torch.bfloat16, enabled=low is not None)


def step_bytes(
    module: TrainedModule[Any],
    make_batch: Callable[[IntTriple], Sample],
    *,
    size_zyx: IntTriple,
    batch_size: int,
    precision: Precision,
    processes: int = 1,
) -> int:
    """Return the largest number of bytes that the tensors of a step take in one process.

    These are the weights, a gradient of each, both moments of Adam, and at the same time what the
    backward pass needs. Several processes also keep a copy of the gradients for their exchange.

    Parameters
    ----------
    make_batch : from the size of a crop to a batch of one crop.
    size_zyx, batch_size : of the step.
    """
    # bfloat16 is as large as float16, and CPUs are faster with it.
    low: Precision = "32-true" if precision == "32-true" else "bf16-mixed"
    few, many = (activation_bytes(module, make_batch((s, s, s)), low) for s in SMALL_SIDES)
    few_voxels, many_voxels = (side**3 for side in SMALL_SIDES)
    per_voxel = (many - few) / (many_voxels - few_voxels)
    constant = max(0.0, few - per_voxel * few_voxels)
    weights = sum(p.numel() * p.itemsize for p in module.network.parameters())
    copies = 4 if processes == 1 else 5
    return int(copies * weights + constant + per_voxel * math.prod(size_zyx) * batch_size)


def activation_bytes(module: TrainedModule[Any], batch: Sample, precision: Precision) -> int:
    """Return the largest number of bytes that a step takes in addition to weights and gradients."""

    def drop(weight: Tensor) -> None:
        weight.grad = None

    hooks = [p.register_post_accumulate_grad_hook(drop) for p in module.network.parameters()]
    with _LiveBytes() as live:
        with autocast("cpu", precision):
            loss = module.loss(batch)
        loss.backward()
    for hook in hooks:
        hook.remove()
    return live.peak + sum(value.numel() * value.itemsize for value in batch.values())


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations create, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._storages = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count the tensors that it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._storages:
            self._storages.add(storage)
            size = storage.nbytes()
            self.now += size
            weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.now -= size
