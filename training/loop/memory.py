"""Estimates the memory of a training step from two steps on small crops.

A convolutional network keeps activations for its backward pass. They grow linearly with the number
of voxels, so two small sizes are enough to extrapolate. The steps run on the CPU and need no GPU.
Only tensors are counted; CUDA, cuDNN's workspaces and fragmentation take additional memory.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shared.conventions import IntTriple
from training.config import Precision
from training.loop.hardware import Device
from training.loop.module import TrainedModule
from training.samples.dataset import Sample

SMALL_SIDES: Final = (48, 64)
"""Sides of the small crops in voxels; both are multiples of 16. With these sizes, the activations
need more memory than the weights."""
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

    The tensors are the weights, their gradients, both moments of Adam, and the activations for the
    backward pass. With several processes, each also has a copy of the gradients for their exchange.

    Parameters
    ----------
    make_batch : returns a batch of one crop of a given size.
    size_zyx, batch_size : size and number of the crops of the step.
    """
    # bfloat16 is as large as float16, and CPUs are faster with it.
    low: Precision = "32-true" if precision == "32-true" else "bf16-mixed"
    batches = (_in_bfloat16(make_batch((side, side, side))) for side in SMALL_SIDES)
    few, many = (activation_bytes(module, batch, low) for batch in batches)
    few_voxels, many_voxels = (side**3 for side in SMALL_SIDES)
    per_voxel = (many - few) / (many_voxels - few_voxels)
    constant = max(0.0, few - per_voxel * few_voxels)
    weights = sum(p.numel() * p.itemsize for p in module.network.parameters())
    copies = 4 if processes == 1 else 5
    return int(copies * weights + constant + per_voxel * math.prod(size_zyx) * batch_size)


def activation_bytes(module: TrainedModule[Any], batch: Sample, precision: Precision) -> int:
    """Return the most bytes that a step takes without weights, gradients and Adam's moments."""

    def drop(weight: Tensor) -> None:
        weight.grad = None

    hooks = [p.register_post_accumulate_grad_hook(drop) for p in module.network.parameters()]
    with _LiveBytes() as live:
        with autocast("cpu", precision), _PooledAsOnGpu():
            loss = module.loss(batch)
        loss.backward()
    for hook in hooks:
        hook.remove()
    return live.peak + sum(value.numel() * value.itemsize for value in batch.values())


def _in_bfloat16(batch: Sample) -> Sample:
    """Return a batch with float16 volumes changed to bfloat16, which the CPU's autocast uses."""
    return {
        name: value.to(torch.bfloat16) if value.dtype == torch.float16 else value
        for name, value in batch.items()
    }


class _PooledAsOnGpu(TorchFunctionMode):
    """Pools in the type of the input, as on a GPU. Autocast on the CPU would pool in float32.

    The input of Task 2's max-pooling is its largest activation. A copy of it in float32 would set
    the peak of the memory.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, without autocast if it is a max-pooling."""
        is_pooling = getattr(func, "__name__", "").startswith("max_pool")
        with torch.autocast("cpu", enabled=False) if is_pooling else nullcontext():
            return func(*args, **(kwargs or {}))


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations create, until the tensors are freed."""

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
