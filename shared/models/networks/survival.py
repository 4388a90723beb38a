"""The Task 2 network: a 3-D ResNet18 and a clinical branch, fused before one linear output.

It uses batch norm for two reasons. First, a risk depends on the amount of tumour. Instance norm
would remove this information from the mask and PET channels before the average pooling; batch norm
keeps it. Second, the large batches that batch norm needs are used in any case, because Cox's
partial likelihood compares the patients of a batch (16 in the paper). At export, batch norm is
folded into the convolutions.

References
----------
He et al. 2016, Deep residual learning for image recognition, CVPR.
"""

from __future__ import annotations

from typing import cast

import torch
from monai.networks.nets.resnet import ResNet
from pydantic import PositiveInt
from torch import Tensor, nn

from shared.models.networks.base import NetworkConfig
from shared.models.networks.clinical import clinical_mlp


class SurvivalConfig(NetworkConfig):
    """The configuration of the survival network."""

    block_inplanes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256, 512)
    """Channels of the four stages; the default is that of ResNet18, with 33 M parameters in 3-D."""
    clinical_width: PositiveInt = 32
    dropout: float = 0.0
    """Dropout before the output and in the clinical branch."""

    def build(self, *, in_channels: int, clinical_features: int) -> SurvivalNetwork:
        """Return the network with fresh weights."""
        return SurvivalNetwork(self, in_channels=in_channels, clinical_features=clinical_features)


class SurvivalNetwork(nn.Module):
    """Maps an image and a clinical vector to the risk of recurrence."""

    def __init__(self, config: SurvivalConfig, *, in_channels: int, clinical_features: int) -> None:
        super().__init__()
        self.image = ResNet(
            block="basic",
            layers=[2, 2, 2, 2],
            block_inplanes=list(config.block_inplanes),
            n_input_channels=in_channels,
            conv1_t_stride=2,
            # Shortcut "A" detaches its branch from the gradient (`.data` in MONAI 1.6).
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        self.clinical = clinical_mlp(clinical_features, config.clinical_width, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.block_inplanes[-1] + config.clinical_width, 1)

    def forward(self, image: Tensor, clinical: Tensor) -> Tensor:
        """Return risks, shape (n, 1); higher = earlier recurrence.

        Parameters
        ----------
        image : shape (n, channels, z, y, x), with at least 32 voxels along z, y and x.
        clinical : shape (n, features), from `shared.clinical.encode`.
        """
        fused = torch.cat([self.image(image), self.clinical(clinical)], dim=1)
        return cast(Tensor, self.output(self.dropout(fused)))
