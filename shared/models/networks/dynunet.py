"""The segmentation network: MONAI's DynUNet, kept compact.

Five levels by default, 3x3x3 kernels, instance norm, leaky ReLU. The network is MONAI's own, so
that its checkpoints are too; here are only its configuration and, for the HPV network, a pass that
stops at the bottleneck.

References
----------
Isensee et al. 2021, nnU-Net, Nature Methods 18:203-211 (the topology).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from monai.networks.blocks.dynunet_block import UnetUpBlock
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class DynUNetConfig:
    """What decides the shape of a DynUNet."""

    in_channels: int = 2
    """CT and PET."""
    out_channels: int = 3
    """Background, GTVp, GTVn."""
    filters: tuple[int, ...] = (32, 64, 128, 256, 320)
    """Channels at each level, finest first; the default is nnU-Net's rule, 16.5 M parameters."""
    strides: tuple[int, ...] = (1, 2, 2, 2, 2)
    """Downsampling at the entry of each level."""
    deep_supervision_heads: int = 0
    """Coarser decoder levels that give logits of their own in training; 0 is none."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.strides):
            raise ValueError(
                f"expected one stride for each of {len(self.filters)} levels, "
                f"found {len(self.strides)}"
            )

    @property
    def divisor(self) -> int:
        """Voxels that every side of an input must be a multiple of."""
        return int(torch.tensor(self.strides).prod())


def build(config: DynUNetConfig) -> DynUNet:
    """Return a DynUNet with fresh weights.

    It maps an image, shape (n, in_channels, z, y, x), to logits, shape (n, out_channels, z, y, x).
    In training mode with deep supervision it returns (n, 1 + heads, out_channels, z, y, x): the
    final logits first, then those of ever coarser levels, enlarged to the same size.
    """
    levels = len(config.filters)
    return DynUNet(
        spatial_dims=3,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        kernel_size=[3] * levels,
        strides=config.strides,
        upsample_kernel_size=config.strides[1:],
        filters=config.filters,
        dropout=config.dropout or None,
        deep_supervision=config.deep_supervision_heads > 0,
        deep_supr_num=max(config.deep_supervision_heads, 1),
    )


def encoder_blocks(network: DynUNet) -> list[nn.Module]:
    """Return the blocks from the input to the bottleneck, finest level first."""
    return [network.input_block, *network.downsamples, network.bottleneck]


def encode(blocks: Sequence[nn.Module], image: Tensor) -> list[Tensor]:
    """Return the features of every level, finest first; the last are the bottleneck's."""
    features = [image]
    for block in blocks:
        features.append(block(features[-1]))
    return features[1:]


def decode(blocks: Iterable[nn.Module], output: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Return the logits, shape (n, out_channels, z, y, x), from the features of every level.

    Parameters
    ----------
    blocks : from the bottleneck to the finest level.
    output : the last convolution.
    """
    *skips, decoded = features
    for block, skip in zip(blocks, reversed(skips), strict=True):
        decoded = block(decoded, skip)
    return cast(Tensor, output(decoded))


class WithoutHeads(nn.Module):
    """A DynUNet's way from image to logits, with the same weights, past its deep supervision.

    MONAI keeps the heads' outputs in an attribute, even in evaluation mode; `torch.export` refuses
    that, and `copy.deepcopy` fails on it after a training step.
    """

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, shape (n, out_channels, z, y, x), of images (n, in_channels, z, y, x)."""
        features = encode(encoder_blocks(self.network), image)
        return decode(self.network.upsamples, self.network.output_block, features)


class FusedUpBlock(nn.Module):
    """An up block in fewer operations: what it does to the coarser features is linear up to a norm.

    A transposed convolution of stride 2 and the part of a 3x3x3 convolution that reads its output
    are together one transposed convolution with a 4x4x4 kernel. Each output voxel takes 8 products
    for a coarse channel instead of 27 for a fine one, and nothing has to be concatenated.
    """

    def __init__(self, block: UnetUpBlock) -> None:
        super().__init__()
        enlarge, first = block.transp_conv.conv, block.conv_block.conv1.conv
        fine = enlarge.out_channels
        kernel = functional.conv3d(
            enlarge.weight.double(), first.weight[:, :fine].double(), padding=2
        )
        self.enlarge = nn.ConvTranspose3d(
            enlarge.in_channels, first.out_channels, 4, stride=2, padding=1, bias=False
        )
        self.enlarge.weight = nn.Parameter(kernel.to(enlarge.weight.dtype))
        self.skip = nn.Conv3d(
            first.in_channels - fine, first.out_channels, 3, padding=1, bias=False
        )
        self.skip.weight = nn.Parameter(first.weight[:, fine:])
        self.block = block.conv_block

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return the features of the finer level."""
        features = self.block.norm1(self.enlarge(coarse) + self.skip(skip))
        features = self.block.conv2(self.block.lrelu(features))
        return cast(Tensor, self.block.lrelu(self.block.norm2(features)))


class Serving(nn.Module):
    """A DynUNet's way from image to logits, past its deep supervision, in fewer operations.

    Equal to `WithoutHeads` to float32 precision. A level of another stride than 2 stays as it is.
    """

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder_blocks(network))
        self.decoder = nn.ModuleList(
            FusedUpBlock(block) if block.transp_conv.conv.stride == (2, 2, 2) else block
            for block in cast(Iterable[UnetUpBlock], network.upsamples)
        )
        self.output = network.output_block

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, shape (n, out_channels, z, y, x), of images (n, in_channels, z, y, x)."""
        return decode(self.decoder, self.output, encode(list(self.encoder), image))
