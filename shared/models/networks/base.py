"""What every network of this folder offers, whatever its architecture.

A configuration says the shape of a network; it is a table of the TOML, frozen and checked. It
builds the network and hands out the parts that training, Task 3 and export need, so that none of
these has to know an architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self, cast

from torch import Tensor, nn

from shared.schema import Strict


class NetworkConfig(Strict):
    """The shape of a network."""

    def reference(self, network: nn.Module) -> nn.Module:
        """Return what serving needs of a trained network; the exported graph must equal it."""
        return network

    def serving(self, network: nn.Module) -> nn.Module:
        """Return the module to export: `reference`, or the same function in fewer operations."""
        return self.reference(network)


class SegmentationNetworkConfig(NetworkConfig, ABC):
    """The shape of a Task 1 network: an encoder and a decoder, found by the name `architecture`.

    Task 3 puts its head on the same encoder.
    """

    architecture: str

    @abstractmethod
    def build(self, in_channels: int) -> nn.Module:
        """Return the network with fresh weights.

        It maps images, shape (n, in_channels, z, y, x), to logits of background, GTVp and GTVn,
        shape (n, 3, z, y, x). In training mode it may return (n, levels, 3, z, y, x) instead: the
        logits first, then those of coarser and coarser levels, enlarged to the same size.
        """

    @property
    @abstractmethod
    def divisor(self) -> int:
        """The number of voxels that each side of an image must be a multiple of."""

    @property
    @abstractmethod
    def bottleneck_channels(self) -> int:
        """How many channels the coarsest features have."""

    @abstractmethod
    def encoder(self, network: nn.Module) -> nn.Module:
        """Return the part from an image to a list of features, finest first, bottleneck last.

        It shares the network's weights, as do the other parts.
        """

    @abstractmethod
    def decoder(self, network: nn.Module) -> nn.Module:
        """Return the part from the encoder's features to logits, shape (n, 3, z, y, x)."""

    @abstractmethod
    def levels(self, network: nn.Module) -> list[list[nn.Module]]:
        """Return the blocks of each resolution, finest first; a pass calls each block once."""

    def reference(self, network: nn.Module) -> nn.Module:
        """Return encoder and decoder, without what only the loss needs."""
        return EncoderDecoder(self.encoder(network), self.decoder(network))

    def as_backbone(self) -> Self:
        """Return the configuration without layers that only the loss of Task 1 uses.

        Task 3 trains such a network: distributed training refuses weights without a gradient.
        """
        return self

    def backbone_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return those weights of a Task 1 network that the network of `as_backbone` has."""
        return dict(weights)


class EncoderDecoder(nn.Module):
    """From image to logits by way of the features."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, shape (n, 3, z, y, x), of images, shape (n, in_channels, z, y, x)."""
        return cast(Tensor, self.decoder(self.encoder(image)))
