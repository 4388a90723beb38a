"""nnU-Net's U-Nets, from the package dynamic-network-architectures, and a faster decoder for them.

There is a plain U-Net and one with a residual encoder; both have the same decoder. The package is
imported only where a network is built, so the other networks do not need it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from shared.models.networks.dynunet import Decoder, joined


def build_unet(*, residual: bool, in_channels: int, classes: int, **arguments: Any) -> nn.Module:
    """Return a U-Net with fresh weights, 3-D convolutions, instance norm and leaky ReLU.

    Its `encoder` returns the features of every level, finest first. Its `decoder` has a layer of
    logits for each level; the network's own forward pass uses only the finest one.

    Parameters
    ----------
    residual : whether the encoder has residual blocks.
    arguments : further arguments of the package's class.
    """
    from dynamic_network_architectures.architectures import unet

    network = unet.ResidualEncoderUNet if residual else unet.PlainConvUNet
    fixed = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    built = network(in_channels, num_classes=classes, deep_supervision=False, **arguments, **fixed)
    built.apply(network.initialize)
    return cast(nn.Module, built)


class UpBlock(nn.Module):
    """Enlarges coarse features, appends those of the encoder, and convolves both."""

    def __init__(self, enlarge: nn.ConvTranspose3d, convolutions: nn.Module) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.convolutions = convolutions

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return the features of the finer level."""
        return cast(Tensor, self.convolutions(torch.cat([self.enlarge(coarse), skip], dim=1)))


class FusedUpBlock(nn.Module):
    """An `UpBlock` with fewer operations, like `dynunet.FusedUpBlock`.

    Here the transposed convolution has a bias. Outside the window, the convolution after it reads
    zeros, not the bias, so the bias cannot simply be added to the result. Instead, an additional
    coarse channel of ones carries the bias through the joined convolution, which is then also exact
    at the border.
    """

    def __init__(self, block: UpBlock) -> None:
        super().__init__()
        enlarge, layers = block.enlarge, list(cast(Any, block.convolutions).convs)
        first: nn.Conv3d = layers[0].conv
        fine, kernel = enlarge.out_channels, enlarge.weight.double()
        bias = enlarge.bias
        self.has_ones = bias is not None and bool(bias.any())
        if bias is not None and self.has_ones:
            ones = bias.double()[None, :, None, None, None].expand(1, *kernel.shape[1:])
            kernel = torch.cat([kernel, ones])
        self.enlarge = joined(kernel, first.weight[:, :fine])
        self.skip = nn.Conv3d(first.in_channels - fine, first.out_channels, 3, padding=1)
        self.skip.weight = nn.Parameter(first.weight[:, fine:])
        self.skip.bias = first.bias
        self.others = nn.Sequential(*list(layers[0].all_modules)[1:], *layers[1:])

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return the features of the finer level."""
        if self.has_ones:
            coarse = torch.cat([coarse, torch.ones_like(coarse[:, :1])], dim=1)
        return cast(Tensor, self.others(self.enlarge(coarse) + self.skip(skip)))


def up_blocks(unet: nn.Module) -> list[UpBlock]:
    """Return the blocks of a U-Net's decoder, coarsest first; they share its weights."""
    decoder = cast(Any, unet).decoder
    pairs = zip(decoder.transpconvs, decoder.stages, strict=True)
    return [UpBlock(enlarge, convolutions) for enlarge, convolutions in pairs]


def fused(block: UpBlock) -> nn.Module:
    """Return an equivalent block with fewer operations, or the block itself.

    A block can be fused only if its stride is 2 and its kernel has 3 voxels along each axis.
    """
    kernel = cast(Any, block.convolutions).convs[0].conv.kernel_size
    can_fuse = block.enlarge.stride == (2, 2, 2) and kernel == (3, 3, 3)
    return FusedUpBlock(block) if can_fuse else block


def logits_layer(unet: nn.Module) -> nn.Module:
    """Return the convolution from the finest features to the logits."""
    return cast(nn.Module, cast(Any, unet).decoder.seg_layers[-1])


def serving_unet(unet: nn.Module) -> tuple[nn.Module, Decoder]:
    """Return encoder and decoder of a U-Net for serving."""
    encoder = cast(nn.Module, cast(Any, unet).encoder)
    return encoder, Decoder(map(fused, up_blocks(unet)), logits_layer(unet))
