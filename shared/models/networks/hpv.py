"""The HPV network: the segmentation network with a wide linear head at its bottleneck.

In training it segments and classifies at once, so that the shared encoder keeps looking at the
lesions. For serving, `classifier()` leaves the decoder out, which changes no logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from shared.models.networks.clinical import clinical_mlp
from shared.models.networks.dynunet import DynUNetConfig, build, decode, encode, encoder_blocks


@dataclass(frozen=True)
class HpvConfig:
    """What decides the shape of the HPV network."""

    unet: DynUNetConfig = field(default_factory=DynUNetConfig)
    clinical_features: int = 4
    """Age, gender, tobacco, alcohol."""
    head_width: int = 512
    """Width of the linear layer on the pooled bottleneck features."""
    clinical_width: int = 32
    dropout: float = 0.0
    """In the head and the clinical branch; the U-Net has its own."""


class HpvHead(nn.Module):
    """From bottleneck features and clinical vector to the HPV logit.

    The maximum is pooled beside the mean: instance norm fixes each channel's mean over the window
    before the activation, so the mean alone says little of a lesion that fills a small part of it.
    """

    def __init__(self, config: HpvConfig) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Linear(2 * config.unet.filters[-1], config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )
        self.clinical = clinical_mlp(
            config.clinical_features, config.clinical_width, config.dropout
        )
        self.output = nn.Linear(config.head_width + config.clinical_width, 1)

    def forward(self, bottleneck: Tensor, clinical: Tensor) -> Tensor:
        """Return the HPV logits, shape (n, 1), from features of shape (n, filters, z, y, x)."""
        pooled = torch.cat([bottleneck.mean((2, 3, 4)), bottleneck.amax((2, 3, 4))], dim=1)
        fused = torch.cat([self.image(pooled), self.clinical(clinical)], dim=1)
        return cast(Tensor, self.output(fused))


class HpvClassifier(nn.Module):
    """Encoder and head: all that serving needs."""

    def __init__(self, encoder: nn.ModuleList, head: HpvHead) -> None:
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
        return cast(Tensor, self.head(encode(list(self.encoder), image)[-1], clinical))


class HpvNetwork(nn.Module):
    """The network in training: the whole U-Net and the head on its bottleneck."""

    def __init__(self, config: HpvConfig) -> None:
        super().__init__()
        # Heads of deep supervision would get no gradient here, and DDP refuses idle parameters.
        self.unet = build(replace(config.unet, deep_supervision_heads=0))
        self.head = HpvHead(config)

    def forward(self, image: Tensor, clinical: Tensor) -> tuple[Tensor, Tensor]:
        """Return segmentation logits, shape (n, 3, z, y, x), and HPV logits, shape (n, 1)."""
        features = encode(encoder_blocks(self.unet), image)
        logits = decode(self.unet.upsamples, self.unet.output_block, features)
        return logits, self.head(features[-1], clinical)

    def classifier(self) -> HpvClassifier:
        """Return the part that serving needs; it shares this network's weights."""
        part = HpvClassifier(nn.ModuleList(encoder_blocks(self.unet)), self.head)
        part.training = self.training
        return part

    def load_segmentation(self, weights: Mapping[str, Tensor]) -> None:
        """Start the U-Net from the `state_dict` of a segmentation network of the same shape.

        Heads of deep supervision are left out.

        Raises
        ------
        RuntimeError
            From torch, where a weight is missing, unknown or of another shape.
        """
        self.unet.load_state_dict(
            {
                name: weight
                for name, weight in weights.items()
                if "deep_supervision_heads" not in name and "super_head" not in name
            }
        )
