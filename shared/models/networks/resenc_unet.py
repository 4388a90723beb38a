"""A Task 1 network: nnU-Net's U-Net with a residual encoder ("ResEnc"), with deep supervision.

References
----------
Isensee et al. 2024, nnU-Net Revisited, MICCAI (the presets M, L and XL).
He et al. 2016, Deep residual learning for image recognition, CVPR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, cast

import torch
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from shared.conventions import Label
from shared.models.networks.base import EncoderDecoder, SegmentationNetworkConfig
from shared.models.networks.dynunet import Decoder
from shared.models.networks.nnunet import build_unet, fused, logits_layer, up_blocks


class ResEncUNetConfig(SegmentationNetworkConfig):
    """The configuration of a residual encoder U-Net; the default is that of the preset M."""

    architecture: Literal["resenc_unet"] = "resenc_unet"
    filters: tuple[PositiveInt, ...] = (32, 64, 128, 256, 320, 320)
    """Channels at each level, finest first. Each level but the first halves the resolution."""
    blocks_down: tuple[PositiveInt, ...] = (1, 3, 4, 6, 6, 6)
    """Residual blocks at each level of the encoder, finest first."""
    convolutions_up: PositiveInt = 1
    """Convolutions at each level of the decoder."""
    deep_supervision_heads: NonNegativeInt = 0
    """Number of coarser decoder levels that also return logits in training."""

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if len(self.filters) < 2 or len(self.filters) != len(self.blocks_down):
            raise ValueError(
                "expected at least two levels with filters and blocks for each, found "
                f"{len(self.filters)} filters and {len(self.blocks_down)} numbers of blocks"
            )
        if self.deep_supervision_heads > len(self.filters) - 2:
            raise ValueError(
                f"expected at most {len(self.filters) - 2} deep_supervision_heads, one for each "
                f"coarser level of the decoder, found {self.deep_supervision_heads}"
            )
        return self

    @property
    def divisor(self) -> int:
        """The product of the strides, which are 2 at all levels but the first."""
        return int(2 ** (len(self.filters) - 1))

    @property
    def bottleneck_channels(self) -> int:
        """The filters of the last level."""
        return self.filters[-1]

    def build(self, in_channels: int) -> ResEncUNet:
        """Return the network with fresh weights."""
        levels = len(self.filters)
        unet = build_unet(
            residual=True,
            in_channels=in_channels,
            classes=len(Label),
            n_stages=levels,
            features_per_stage=self.filters,
            kernel_sizes=3,
            strides=[1] + [2] * (levels - 1),
            n_blocks_per_stage=self.blocks_down,
            n_conv_per_stage_decoder=self.convolutions_up,
            conv_bias=True,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin_kwargs={"inplace": True},
        )
        return ResEncUNet(unet, self.deep_supervision_heads)

    def encoder(self, network: nn.Module) -> nn.Module:
        """Return the layers from the input to the bottleneck."""
        return cast(ResEncUNet, network).encoder

    def decoder(self, network: nn.Module) -> nn.Module:
        """Return the blocks from the bottleneck to the logits, without deep supervision."""
        return cast(ResEncUNet, network).decoder

    def serving(self, network: nn.Module) -> nn.Module:
        """Return the network with a fused decoder."""
        unet = cast(ResEncUNet, network)
        blocks = [fused(cast(Any, block)) for block in unet.decoder.blocks]
        return EncoderDecoder(unet.encoder, Decoder(blocks, unet.decoder.output))

    def levels(self, network: nn.Module) -> list[list[nn.Module]]:
        """Return each level's encoder stage and, except at the bottleneck, its decoder block."""
        unet = cast(ResEncUNet, network)
        encoder = cast(Any, unet.encoder)
        down, up = list(encoder.stages), list(unet.decoder.blocks)[::-1]
        levels = [[*pair] for pair in zip(down, up, strict=False)] + [[down[-1]]]
        levels[0].insert(0, encoder.stem)
        return levels

    def as_backbone(self) -> Self:
        """Return the configuration without deep supervision."""
        return self.model_copy(update={"deep_supervision_heads": 0})

    def backbone_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights without those of the heads."""
        return {name: value for name, value in weights.items() if not name.startswith("heads.")}


class ResEncUNet(nn.Module):
    """The package's network with our deep supervision.

    The package returns logits of several sizes. Here, all logits are enlarged to the size of the
    image, and the network has only the heads that the loss uses.
    """

    def __init__(self, unet: nn.Module, heads: int) -> None:
        super().__init__()
        self.encoder = cast(nn.Module, unet.encoder)
        self.decoder = Decoder(up_blocks(unet), logits_layer(unet))
        layers = list(cast(Any, unet).decoder.seg_layers)[::-1]
        self.heads = nn.ModuleList(layers[1 : heads + 1])

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, shape (n, 3, z, y, x); in training, with heads, (n, levels, 3, z, y, x).

        Parameters
        ----------
        image : shape (n, in_channels, z, y, x).
        """
        features = self.encoder(image)
        if not self.training or not self.heads:
            return cast(Tensor, self.decoder(features))
        *skips, decoded = features
        levels: list[Tensor] = []
        for block, skip in zip(self.decoder.blocks, reversed(skips), strict=True):
            decoded = block(decoded, skip)
            levels.insert(0, decoded)
        outputs = [self.decoder.output(levels[0])]
        for head, level in zip(self.heads, levels[1:], strict=False):
            outputs.append(functional.interpolate(head(level), size=image.shape[2:]))
        return torch.stack(outputs, dim=1)
