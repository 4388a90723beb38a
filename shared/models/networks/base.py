"""Base classes of network configurations.

A configuration is one table of the TOML file, and describes one network. It builds the network and
gives access to its parts, so training, Task 3 and export do not depend on the architecture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self, cast

from pydantic import PositiveInt
from torch import Tensor, nn

from shared.preprocessing.intensity import Channel, ImageChannel
from shared.schema import Strict


class NetworkConfig(Strict):
    """The configuration of a network."""

    def reference(self, network: nn.Module) -> nn.Module:
        """Return the part that is needed to predict; the exported graph is compared with it."""
        return network

    def merged(self, networks: Sequence[nn.Module]) -> list[nn.Module]:
        """Return an ensemble as fewer networks with the same mean output, if they can be merged.

        Otherwise the networks are returned as they are. Merging may change the given networks.
        """
        return list(networks)

    def serving(self, network: nn.Module) -> nn.Module:
        """Return the module to export. It computes what `reference` does, maybe in fewer steps."""
        return self.reference(network)


class SegmentationNetworkConfig(NetworkConfig, ABC):
    """The configuration of a Task 1 network, which has an encoder and a decoder.

    `architecture` is the name by which `discovery` finds the class. Task 3 puts its head on the
    encoder.
    """

    architecture: str

    @abstractmethod
    def build(self, in_channels: int) -> nn.Module:
        """Return the network with fresh weights.

        The network maps images, shape (n, in_channels, z, y, x), to logits of background, GTVp and
        GTVn, shape (n, 3, z, y, x). In training mode it may return logits of several levels, shape
        (n, levels, 3, z, y, x), from the finest to the coarsest, all enlarged to the image's size.
        """

    @property
    @abstractmethod
    def divisor(self) -> int:
        """The size of an image along each axis must be a multiple of this number of voxels."""

    @property
    @abstractmethod
    def bottleneck_channels(self) -> int:
        """The number of channels of the coarsest features."""

    @abstractmethod
    def encoder(self, network: nn.Module) -> nn.Module:
        """Return the part that maps an image to its features at each resolution, as a list.

        The features have the shape (n, channels, z, y, x). The finest come first, the bottleneck
        last. This part, like those that the other methods return, shares its weights with the
        network.
        """

    @abstractmethod
    def decoder(self, network: nn.Module) -> nn.Module:
        """Return the part that maps the encoder's list of features to logits of the image's size.

        The logits have the shape (n, 3, z, y, x).
        """

    @abstractmethod
    def levels(self, network: nn.Module) -> list[list[nn.Module]]:
        """Return the blocks that activation checkpointing may wrap, by resolution, finest first.

        A forward pass calls each block once.
        """

    def reference(self, network: nn.Module) -> nn.Module:
        """Return encoder and decoder, without layers that only the loss of Task 1 uses."""
        return EncoderDecoder(self.encoder(network), self.decoder(network))

    def as_backbone(self) -> Self:
        """Return the configuration without layers that only the loss of Task 1 uses.

        Task 3 trains such a network, because distributed training fails if a weight gets no
        gradient.
        """
        return self

    def backbone_weights(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return those weights of a Task 1 network that the network of `as_backbone` has too."""
        return dict(weights)


class HpvNetworkConfig(NetworkConfig, ABC):
    """The configuration of a Task 3 network, a head on the encoder of a Task 1 network."""

    clinical_width: PositiveInt = 32
    """Number of features of the clinical branch."""
    dropout: float = 0.0
    """Probability of dropout in head and clinical branch. The Task 1 network has its own value."""

    @abstractmethod
    def build(
        self, backbone: SegmentationNetworkConfig, *, in_channels: int, clinical_features: int
    ) -> HpvNetworkBase:
        """Return the network with fresh weights.

        Parameters
        ----------
        in_channels : number of channels of the image, as in the Task 1 network.
        clinical_features : length of the clinical vector.
        """

    @abstractmethod
    def channels(self, image_channels: Sequence[ImageChannel]) -> tuple[Channel, ...]:
        """Return the channels in order: those of the Task 1 network, then any lesion masks."""

    def reference(self, network: nn.Module) -> nn.Module:
        """Return the part that predicts the HPV status."""
        return cast(HpvNetworkBase, network).classifier()


class HpvNetworkBase(nn.Module, ABC):
    """A Task 3 network as it is trained, with layers that serving may not need."""

    @abstractmethod
    def classifier(self) -> nn.Module:
        """Return the part that serving needs; it shares this network's weights.

        It maps the image, shape (n, channels, z, y, x), and the clinical vector, shape
        (n, features), to HPV logits, shape (n, 1); a positive logit means HPV+.
        """

    @abstractmethod
    def load_segmentation(self, weights: Mapping[str, Tensor]) -> None:
        """Load the `state_dict` of a Task 1 network of the same configuration.

        Raises
        ------
        RuntimeError
            From torch, if a weight is missing, unknown or of a different shape.
        """


class EncoderDecoder(nn.Module):
    """Maps an image to features and then to logits."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, shape (n, 3, z, y, x), of images, shape (n, in_channels, z, y, x)."""
        return cast(Tensor, self.decoder(self.encoder(image)))
