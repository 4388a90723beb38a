"""A Task 1 network: MONAI's SegResNet, which has residual blocks with group norm.

References
----------
Myronenko 2018, 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes. (The
autoencoder is not used here.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self, cast

from monai.networks.nets.segresnet import SegResNet
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from shared.conventions import Label
from shared.models.networks.base import SegmentationNetworkConfig


class SegResNetConfig(SegmentationNetworkConfig):
    """The configuration of a SegResNet; channels double from level to level."""

    architecture: Literal["segresnet"] = "segresnet"
    filters: PositiveInt = 32
    """Channels at the finest level."""
    blocks_down: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    """Residual blocks at each level of the encoder, finest first."""
    blocks_up: tuple[PositiveInt, ...] = (1, 1, 1)
    """Residual blocks at each level of the decoder, coarsest first."""
    groups: PositiveInt = 8
    """Number of groups of channels; each group is normalised together."""
    dropout: float = 0.0
    """Dropout after the first convolution."""

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if not self.blocks_up or len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"expected one level fewer in blocks_up than the {len(self.blocks_down)} of "
                f"blocks_down, found {len(self.blocks_up)}"
            )
        if self.filters % self.groups:
            raise ValueError(
                f"expected filters that form {self.groups} groups, found {self.filters}"
            )
        return self

    @property
    def divisor(self) -> int:
        """The product of the downsampling factors, which are 2 at all levels but the first."""
        return int(2 ** (len(self.blocks_down) - 1))

    @property
    def bottleneck_channels(self) -> int:
        """The channels of the last level."""
        return self.filters * self.divisor

    def build(self, in_channels: int) -> SegResNet:
        """Return MONAI's network with fresh weights."""
        return SegResNet(
            spatial_dims=3,
            init_filters=self.filters,
            in_channels=in_channels,
            out_channels=len(Label),
            dropout_prob=self.dropout or None,
            norm=("GROUP", {"num_groups": self.groups}),
            blocks_down=self.blocks_down,
            blocks_up=self.blocks_up,
            # Interpolation, MONAI's default, has no deterministic gradient on a GPU.
            upsample_mode="deconv",
        )

    def encoder(self, network: nn.Module) -> nn.Module:
        """Return the layers from the input to the bottleneck."""
        return _Encoder(cast(SegResNet, network))

    def decoder(self, network: nn.Module) -> nn.Module:
        """Return the layers from the bottleneck to the logits."""
        return _Decoder(cast(SegResNet, network))

    def levels(self, network: nn.Module) -> list[list[nn.Module]]:
        """Return each level's encoder blocks and, except at the bottleneck, its decoder blocks."""
        net = cast(SegResNet, network)
        down, up = list(net.down_layers), list(net.up_layers)[::-1]
        return [[*pair] for pair in zip(down, up, strict=False)] + [[down[-1]]]


class _Encoder(nn.Module):
    def __init__(self, network: SegResNet) -> None:
        super().__init__()
        self.first = network.convInit
        self.dropout = network.dropout if network.dropout_prob else nn.Identity()
        self.levels = network.down_layers

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first."""
        features = [self.dropout(self.first(image))]
        for level in self.levels:
            features.append(level(features[-1]))
        return features[1:]


class _Decoder(nn.Module):
    def __init__(self, network: SegResNet) -> None:
        super().__init__()
        self.enlarge = network.up_samples
        self.levels = network.up_layers
        self.output = network.conv_final

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits, shape (n, 3, z, y, x), from the features of every level."""
        *skips, decoded = features
        for enlarge, level, skip in zip(self.enlarge, self.levels, reversed(skips), strict=True):
            decoded = level(enlarge(decoded) + skip)
        return cast(Tensor, self.output(decoded))
