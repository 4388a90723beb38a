"""Faster weight gradients of 3x3x3 convolutions on CPUs with AVX2 only.

oneDNN, which computes torch's convolutions on CPUs, has no vectorised kernel for the gradient of a
3-D convolution's weights on these CPUs: it unrolls the image (im2col) and takes most of the time
of a training step. Here that gradient is a sum of matrix products over views of the padded image,
without unrolling. Values agree within rounding; forward pass and other gradients are torch's.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

MIN_VOXELS: Final = 32**3
"""Of one image's channel; below that oneDNN is as fast (`python -m tests.benchmarks.training`)."""

_BLOCK: Final = 4096  # voxels of a matrix product: both factors stay in the cache


def use_fast_weight_gradients(network: nn.Module) -> None:
    """Let a network's 3x3x3 convolutions compute their weight gradients here, where it pays.

    Nothing changes on GPUs and on CPUs with AVX-512. Weights, names and results stay the same.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return
    for module in network.modules():
        if type(module) is nn.Conv3d and _is_plain(module):
            module.__class__ = _Conv3d


def _is_plain(convolution: nn.Conv3d) -> bool:
    """Whether a convolution is 3x3x3 with unit stride, one voxel of zeros around it, one group."""
    return (
        convolution.kernel_size == (3, 3, 3)
        and convolution.stride == (1, 1, 1)
        and convolution.padding == (1, 1, 1)
        and convolution.dilation == (1, 1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )


class _Conv3d(nn.Conv3d):
    """A convolution that takes the faster way in training on the CPU in full precision."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Return the convolved image, shape (n, out_channels, z, y, x)."""
        is_served = (
            torch.is_grad_enabled()
            and self.weight.requires_grad
            and input.device.type == "cpu"
            and input.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and input[0, 0].numel() >= MIN_VOXELS
        )
        if not is_served:
            return super().forward(input)
        result: Tensor = _Convolution.apply(input, self.weight, self.bias)
        return result


class _Convolution(torch.autograd.Function):
    """Torch's convolution, with `weight_gradient` for its weights."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return torch's convolution."""
        ctx.save_for_backward(image, weight)
        return functional.conv3d(image, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of image, weight and bias."""
        image, weight = ctx.saved_tensors
        needs_image, needs_weight, needs_bias = ctx.needs_input_grad
        of_image = of_weight = of_bias = None
        if needs_image:
            of_image = nn.grad.conv3d_input(image.shape, weight, gradient, padding=1)
        if needs_weight:
            of_weight = weight_gradient(image, gradient)
        if needs_bias:
            of_bias = gradient.sum(dim=(0, 2, 3, 4))
        return of_image, of_weight, of_bias


def weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weights of a 3x3x3 convolution with one voxel of zeros around it.

    Entry (o, i, a, b, c) is the sum over voxels of gradient[o, z, y, x] times
    padded[i, z + a, y + b, x + c]. Where both lie in rows of the padded image, one after another,
    a shift by (a, b, c) is one by a number of places, and the sum a product of two matrices that
    are views of the same memory.

    Parameters
    ----------
    image : what was convolved, shape (n, in_channels, z, y, x), float32.
    gradient : of the result, shape (n, out_channels, z, y, x), float32.

    Returns
    -------
    Shape (out_channels, in_channels, 3, 3, 3).
    """
    cases, inputs, _, height, width = image.shape
    outputs = gradient.shape[1]
    row, slab = width + 2, (height + 2) * (width + 2)
    padded = functional.pad(image, (1, 1, 1, 1, 1, 1)).flatten(2)
    rows = functional.pad(gradient, (0, 2, 0, 2, 0, 2)).flatten(2)
    shifted = rows.new_zeros(cases, 3, outputs, rows.shape[-1])  # by c along x
    for c in range(3):
        shifted[:, c, :, c:] = rows[..., : rows.shape[-1] - c]
    shifted = shifted.flatten(1, 2)
    places = rows.shape[-1] - 2 * slab - 2 * row
    result = gradient.new_zeros(3, 3, 3 * outputs, inputs)
    for a in range(3):
        for b in range(3):
            start = a * slab + b * row
            for case in range(cases):
                result[a, b] += _product(
                    shifted[case, :, :places], padded[case, :, start : start + places]
                )
    return result.unflatten(2, (3, outputs)).permute(3, 4, 0, 1, 2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right.T of shapes (m, places) and (n, places), block by block on all cores."""
    blocks = left.shape[1] // _BLOCK
    whole = blocks * _BLOCK
    lefts = left[:, :whole].unflatten(1, (blocks, _BLOCK)).transpose(0, 1)
    rights = right[:, :whole].unflatten(1, (blocks, _BLOCK)).permute(1, 2, 0)
    return torch.bmm(lefts, rights).sum(0) + left[:, whole:] @ right[:, whole:].T
