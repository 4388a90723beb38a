"""The Task 3 network: a Task 1 network with a wide linear head at its bottleneck.

In training it segments and classifies at once, so that the shared encoder keeps looking at the
lesions. Serving leaves the decoder out, which changes no logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from shared.models.networks.base import NetworkConfig, SegmentationNetworkConfig
from shared.models.networks.clinical import clinical_mlp


class HpvConfig(NetworkConfig):
    """The shape of the head; that of the rest is the configuration of a Task 1 network."""

    head_width: PositiveInt = 512
    """Width of the linear layer on the pooled bottleneck features."""
    clinical_width: PositiveInt = 32
    dropout: float = 0.0
    """In the head and the clinical branch; the Task 1 network has its own."""

    def build(
        self, backbone: SegmentationNetworkConfig, *, in_channels: int, clinical_features: int
    ) -> HpvNetwork:
        """Return the network with fresh weights."""
        return HpvNetwork(
            self, backbone, in_channels=in_channels, clinical_features=clinical_features
        )

    def reference(self, network: nn.Module) -> nn.Module:
        """Return the network without its decoder."""
        return cast(HpvNetwork, network).classifier()


class HpvHead(nn.Module):
    """From bottleneck features and clinical vector to the HPV logit.

    The maximum is pooled in addition to the mean: instance norm fixes each channel's mean over the
    window before the activation, so the mean alone says little about a lesion that fills a small
    part of it.
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
    """Encoder and head: all that serving needs."""

    def __init__(self, encoder: nn.Module, head: HpvHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, image: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1); positive speaks for HPV+.

        Parameters
        ----------
        image : shape (n, channels, z, y, x).
        clinical : shape (n, features), missing values encoded.
        """
        return cast(Tensor, self.head(self.encoder(image)[-1], clinical))


class HpvNetwork(nn.Module):
    """The network in training: a whole Task 1 network and the head on its bottleneck."""

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
        """Return the part that serving needs; it shares this network's weights."""
        encoder = self.config.encoder(self.backbone)
        return HpvClassifier(encoder, self.head).train(self.training)

    def load_segmentation(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the `state_dict` of a Task 1 network of the same configuration.

        Raises
        ------
        RuntimeError
            From torch, if a weight is missing, unknown or of another shape.
        """
        self.backbone.load_state_dict(self.config.backbone_weights(weights))
