"""The Task 3 network: a Task 1 network with a wide linear head at its bottleneck.

In training the network segments and classifies at once, so that the encoder still has to recognise
lesions. Serving leaves out the decoder, which does not affect the HPV logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from shared.models.networks.base import (
    HpvNetworkBase,
    HpvNetworkConfig,
    SegmentationNetworkConfig,
)
from shared.models.networks.clinical import clinical_mlp
from shared.preprocessing.intensity import Channel, ImageChannel


class HpvConfig(HpvNetworkConfig):
    """The configuration of the head; the rest has the configuration of a Task 1 network."""

    head: Literal["bottleneck"] = "bottleneck"
    head_width: PositiveInt = 512
    """Width of the linear layer on the pooled bottleneck features."""

    def build(
        self, backbone: SegmentationNetworkConfig, *, in_channels: int, clinical_features: int
    ) -> HpvNetwork:
        """Return the network with fresh weights."""
        return HpvNetwork(
            self, backbone, in_channels=in_channels, clinical_features=clinical_features
        )

    def channels(self, image_channels: Sequence[ImageChannel]) -> tuple[Channel, ...]:
        """Return the channels of the Task 1 network."""
        return tuple(image_channels)


class HpvHead(nn.Module):
    """Maps bottleneck features and the clinical vector to the HPV logit.

    The pooling uses the maximum in addition to the mean. Instance norm fixes the mean of each
    channel over the window before the activation, so the mean alone says little about a lesion that
    fills a small part of the window.
    """

    def __init__(
        self, config: HpvConfig, *, bottleneck_channels: int, clinical_features: int
    ) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Linear(2 * bottleneck_channels, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.clinical = clinical_mlp(clinical_features, config.clinical_width, config.dropout)
        self.output = nn.Linear(config.head_width + config.clinical_width, 1)

    def forward(self, bottleneck: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1), from features of shape (n, channels, z, y, x)."""
        pooled = torch.cat([bottleneck.mean((2, 3, 4)), bottleneck.amax((2, 3, 4))], dim=1)
        fused = torch.cat([self.image(pooled), self.clinical(clinical)], dim=1)
        return cast(Tensor, self.output(fused))


class HpvClassifier(nn.Module):
    """Encoder and head, which are all that serving needs."""

    def __init__(self, encoder: nn.Module, head: HpvHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, image: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1); a positive logit means HPV+.

        Parameters
        ----------
        image : shape (n, channels, z, y, x).
        clinical : shape (n, features), from `shared.clinical.encode`.
        """
        return cast(Tensor, self.head(self.encoder(image)[-1], clinical))


class HpvNetwork(HpvNetworkBase):
    """The network in training: a whole Task 1 network, and the head at its bottleneck."""

    def __init__(
        self,
        config: HpvConfig,
        backbone: SegmentationNetworkConfig,
        *,
        in_channels: int,
        clinical_features: int,
    ) -> None:
        super().__init__()
        self.config = backbone.as_backbone()
        self.backbone = self.config.build(in_channels)
        self.head = HpvHead(
            config,
            bottleneck_channels=self.config.bottleneck_channels,
            clinical_features=clinical_features,
        )

    def forward(self, image: Tensor, clinical: Tensor) -> tuple[Tensor, Tensor]:
        """Return segmentation logits, shape (n, 3, z, y, x), and HPV logits, shape (n, 1)."""
        features = self.config.encoder(self.backbone)(image)
        logits = self.config.decoder(self.backbone)(features)
        return logits, self.head(features[-1], clinical)

    def classifier(self) -> HpvClassifier:
        """Return the network without its decoder."""
        encoder = self.config.encoder(self.backbone)
        return HpvClassifier(encoder, self.head).train(self.training)

    def load_segmentation(self, weights: Mapping[str, Tensor]) -> None:
        """Load the `state_dict` of a Task 1 network."""
        self.backbone.load_state_dict(self.config.backbone_weights(weights))
