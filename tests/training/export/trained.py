"""Networks in torch with the weights of the repository's Task 1 graph."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shared.models.card import load_card
from shared.models.hpv import HpvCard
from shared.models.networks.hpv_lesions import LesionHpvNetwork
from shared.models.onnx import PROVIDERS, Network
from training.config import load_configuration
from training.export.run import model_folder
from training.studies.adopt import encoder_weights
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation

DEMO = load_configuration("demo")


def weights_of(graph: Path) -> dict[str, Tensor]:
    """Return the weights in a graph by the names that torch gave them."""
    initializers = onnx.load(graph).graph.initializer
    return {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in initializers}


def trained_segmentation() -> nn.Module:
    """Return the network of the repository's Task 1 model as it was exported."""
    settings = DEMO.segmentation
    network = settings.network.serving(settings.network.build(len(settings.channels)))
    weights = weights_of(model_folder(Segmentation()) / "segmentation.onnx")
    missing, unknown = network.load_state_dict(weights, strict=False)
    assert not unknown
    assert all(name.endswith("block.conv1.conv.weight") for name in missing)  # fused, so unused
    return network.eval()


def hpv_on_trained_encoder() -> LesionHpvNetwork:
    """Return a Task 3 network with a fresh head on the encoder of the repository's Task 1."""
    torch.manual_seed(0)
    features = load_card(model_folder(Hpv()), HpvCard).clinical
    network = cast(LesionHpvNetwork, Hpv().network(DEMO, features))
    network.load_encoder(encoder_weights(model_folder(Segmentation()) / "segmentation.onnx"))
    return network.eval()


def on_every_provider(path: Path) -> list[Network]:
    """Return a graph on each provider that works here."""
    graphs = [Network(path, (provider,)) for provider in PROVIDERS]
    return [graph for graph, name in zip(graphs, PROVIDERS, strict=True) if graph.provider == name]
