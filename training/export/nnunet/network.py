"""Builds nnU-Net's networks from the arguments in `plans.json`, and their parts for serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.conventions import Label
from shared.errors import InputError
from shared.models.networks.base import EncoderDecoder, NetworkConfig
from shared.models.networks.nnunet import build_unet, serving_unet
from shared.preprocessing.intensity import IMAGE_CHANNELS
from training.export.nnunet.results import NetworkArguments


class NnunetConfig(NetworkConfig):
    """An imported network: its class and its arguments."""

    residual: bool
    network: NetworkArguments

    def build(self) -> nn.Module:
        """Return the network with fresh weights, without deep supervision."""
        return build_unet(
            residual=self.residual,
            in_channels=len(IMAGE_CHANNELS),
            classes=len(Label),
            **self.network.model_dump(
                exclude={"conv_op", "norm_op", "nonlin"},
                exclude_unset=True,
            ),
        )

    def serving(self, network: nn.Module) -> nn.Module:
        """Return encoder and decoder for serving; the decoder has fewer operations."""
        return EncoderDecoder(*serving_unet(network))


def load_network(
    config: NnunetConfig, weights: Mapping[str, Tensor], class_order: Sequence[int], path: Path
) -> nn.Module:
    """Return the network with these weights, and with its outputs in the order of our labels.

    Parameters
    ----------
    class_order : for each of our labels, the index of the output channel of nnU-Net's network.
    path : the file of the weights, for the error message.

    Raises
    ------
    InputError
        If the weights do not fit the network.
    """
    order = torch.tensor(class_order)
    try:
        network = config.build()
        network.load_state_dict(
            {
                name: weight[order] if ".seg_layers." in name else weight
                for name, weight in weights.items()
            }
        )
    except (RuntimeError, AssertionError, IndexError, TypeError) as error:
        raise InputError(
            f"the weights in {path} do not fit the network of plans.json "
            f"({str(error).strip().splitlines()[-1].strip()[:200]}); a trainer that changes the "
            "network is not supported"
        ) from None
    return network.eval()
