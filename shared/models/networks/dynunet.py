"""A Task 1 network: MONAI's DynUNet, which the paper uses.

It has 3x3x3 kernels, instance norm, leaky ReLU and, by default, five levels. The network is MONAI's
own class, so it can load MONAI's checkpoints. This file adds the split into encoder and decoder,
and a faster decoder for serving.

References
----------
Isensee et al. 2021, nnU-Net, Nature Methods 18:203-211 (the topology).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, cast

from monai.networks.blocks.dynunet_block import UnetUpBlock
from monai.networks.nets.dynunet import DynUNet
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from shared.conventions import Label
from shared.models.networks.base import EncoderDecoder, SegmentationNetworkConfig


def _halve_each_level(fields: Mapping[str, Any]) -> tuple[int, ...]:
    return (1,) + (2,) * (len(fields.get("filters", ())) - 1)


class DynUNetConfig(SegmentationNetworkConfig):
    """The configuration of a DynUNet."""

    architecture: Literal["dynunet"] = "dynunet"
    filters: tuple[PositiveInt, ...] = (32, 64, 128, 256, 320)
    """Channels at each level, finest first. The default is nnU-Net's, with 16.5 M parameters."""
    strides: tuple[PositiveInt, ...] = Field(default_factory=_halve_each_level)
    """Downsampling at the start of each level; by default 1 at the first level, then 2."""
    deep_supervision_heads: NonNegativeInt = 0
    """Number of coarser decoder levels that also return logits in training."""
    dropout: float = 0.0

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(self.filters) < 2 or len(self.filters) != len(self.strides):
            raise ValueError(
                f"expected at least two levels with one stride each, found {len(self.filters)} "
                f"levels and {len(self.strides)} strides"
            )
        return self

    @property
    def divisor(self) -> int:
        """The product of the strides."""
        return math.prod(self.strides)

    @property
    def bottleneck_channels(self) -> int:
        """The filters of the last level."""
        return self.filters[-1]

    def build(self, in_channels: int) -> DynUNet:
        """Return MONAI's network with fresh weights."""
        levels = len(self.filters)
        return DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=len(Label),
            kernel_size=[3] * levels,
            strides=self.strides,
            upsample_kernel_size=self.strides[1:],
            filters=self.filters,
            dropout=self.dropout or None,
            deep_supervision=self.deep_supervision_heads > 0,
            deep_supr_num=max(self.deep_supervision_heads, 1),
        )

    def encoder(self, network: nn.Module) -> Encoder:
        """Return the blocks from the input to the bottleneck."""
        unet = cast(DynUNet, network)
        return Encoder([unet.input_block, *unet.downsamples, unet.bottleneck])

    def decoder(self, network: nn.Module) -> Decoder:
        """Return the blocks from the bottleneck to the logits, without deep supervision.

        MONAI keeps the outputs of its heads in an attribute, even in evaluation mode. This
        attribute makes `torch.export` fail and, after a training step, `copy.deepcopy`.
        """
        unet = cast(DynUNet, network)
        return Decoder(cast(Iterable[nn.Module], unet.upsamples), unet.output_block)

    def levels(self, network: nn.Module) -> list[list[nn.Module]]:
        """Return each level's encoder block and, except at the bottleneck, its decoder block."""
        down = list(self.encoder(network))
        up = list(self.decoder(network).blocks)[::-1]
        return [[*pair] for pair in zip(down, up, strict=False)] + [[down[-1]]]

    def serving(self, network: nn.Module) -> nn.Module:
        """Return the network with a fused decoder; only levels of stride 2 are fused."""
        decoder = self.decoder(network)
        fused = [
            FusedUpBlock(block) if block.transp_conv.conv.stride == (2, 2, 2) else block
            for block in cast(Iterable[UnetUpBlock], decoder.blocks)
        ]
        return EncoderDecoder(self.encoder(network), Decoder(fused, decoder.output))

    def as_backbone(self) -> Self:
        """Return the configuration without deep supervision."""
        return self.model_copy(update={"deep_supervision_heads": 0})

    def backbone_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights without those of the heads, which appear under two names."""
        return {
            name: weight
            for name, weight in weights.items()
            if "deep_supervision_heads" not in name and "super_head" not in name
        }


class Encoder(nn.ModuleList):
    """The blocks from the input to the bottleneck, finest level first."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first."""
        features = [image]
        for block in self:
            features.append(block(features[-1]))
        return features[1:]


class Decoder(nn.Module):
    """The blocks from the bottleneck to the finest level, and the last convolution."""

    def __init__(self, blocks: Iterable[nn.Module], output: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.output = output

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits, shape (n, 3, z, y, x), from the features of every level."""
        *skips, decoded = features
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            decoded = block(decoded, skip)
        return cast(Tensor, self.output(decoded))


def joined(enlarging: Tensor, convolving: Tensor) -> nn.ConvTranspose3d:
    """Join a transposed convolution and the convolution after it into one transposed convolution.

    Parameters
    ----------
    enlarging : weights of the transposed convolution, of stride 2, shape (coarse, fine, 2, 2, 2).
    convolving : weights of the convolution that follows, shape (outputs, fine, 3, 3, 3).
    """
    kernel = functional.conv3d(enlarging.double(), convolving.double(), padding=2)
    layer = nn.ConvTranspose3d(len(enlarging), len(convolving), 4, stride=2, padding=1, bias=False)
    layer.weight = nn.Parameter(kernel.to(convolving.dtype))
    return layer


class FusedUpBlock(nn.Module):
    """An up block with fewer operations; its first two layers are linear, so they can be joined.

    A transposed convolution of stride 2, followed by the part of a 3x3x3 convolution that reads its
    output, equals one transposed convolution with a 4x4x4 kernel. Each output voxel then takes 8
    products for each coarse channel instead of 27 for each fine channel. Nothing is concatenated.
    """

    def __init__(self, block: UnetUpBlock) -> None:
        super().__init__()
        enlarge, first = block.transp_conv.conv, block.conv_block.conv1.conv
        fine = enlarge.out_channels
        self.enlarge = joined(enlarge.weight, first.weight[:, :fine])
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
