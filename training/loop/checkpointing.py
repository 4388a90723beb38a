"""Gradient checkpointing: some blocks are computed again in the backward pass, to save memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def compute_again(blocks: Iterable[nn.Module]) -> None:
    """Let the backward pass compute blocks again, so that their inner activations are not kept.

    The gradient is the same. The names of the weights do not change, and without gradients the
    blocks run as before.

    References
    ----------
    Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
    """
    for block in blocks:
        block.forward = _ComputedAgain(block.forward)


class _ComputedAgain:
    """A block's `forward` with checkpointing; a class, so that copies of the network copy it."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *inputs: Any) -> Any:
        """Run the block."""
        if not torch.is_grad_enabled():
            return self.forward(*inputs)
        return checkpoint(self.forward, *inputs, use_reentrant=False)
