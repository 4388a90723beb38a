"""The networks of the repository's model folders in torch, with the weights of their graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shared.models.hpv import HpvModel
from shared.models.onnx import PROVIDERS, Network
from shared.models.survival import SurvivalModel
from training.config import load_configuration
from training.export.run import model_folder
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival

DEMO = load_configuration("demo")


def weights_of(graph: Path) -> dict[str, Tensor]:
    """Return the weights in a graph by the names that torch gave them."""
    initializers = onnx.load(graph).graph.initializer
    return {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in initializers}


def trained_segmentation() -> nn.Module:
    """Return the network of the repository's Task 1 model as it was exported."""
    settings = DEMO.segmentation
    network = settings.network.serving(settings.network.build(len(settings.channels)))
    weights = {}
    for name, weight in weights_of(model_folder(Segmentation()) / "segmentation.onnx").items():
        # The names of the revision that exported it.
        now = name.replace("decoder.", "decoder.blocks.").replace("output.", "decoder.output.")
        weights[now] = weight
    missing, unknown = network.load_state_dict(weights, strict=False)
    assert not unknown
    assert all(name.endswith("block.conv1.conv.weight") for name in missing)  # fused, so unused
    return network.eval()


def trained_hpv() -> nn.Module:
    """Return the network of the repository's Task 3 model as it was exported."""
    model = HpvModel.load(model_folder(Hpv()))
    network = Hpv().network(DEMO, model.card.clinical).classifier()
    weights = weights_of(model_folder(Hpv()) / "hpv.onnx")
    _, unknown = network.load_state_dict(weights, strict=False)
    assert len(unknown) == 1  # a constant of the graph
    return network.eval()


def trained_survival() -> nn.Module:
    """Return the network of the repository's Task 2 model, its batch norm in the convolutions."""
    model = SurvivalModel.load(model_folder(Survival()))
    network = Survival().network(DEMO, model.card.clinical).eval()
    weights = weights_of(model_folder(Survival()) / "survival.onnx")
    network.load_state_dict(weights, strict=False)
    modules = dict(network.named_modules())
    for name, bias in weights.items():
        if name.endswith(".weight_bias"):
            convolution = name.removesuffix(".weight_bias")
            norm = convolution.replace("conv", "bn").replace("downsample.0", "downsample.1")
            layer = modules[norm]
            assert isinstance(layer, nn.BatchNorm3d)
            assert layer.running_var is not None
            layer.running_var.fill_(1 - layer.eps)
            layer.bias.data = bias
    return network


def on_every_provider(path: Path) -> list[Network]:
    """Return a graph on each provider that works here."""
    graphs = [Network(path, (provider,)) for provider in PROVIDERS]
    return [graph for graph, name in zip(graphs, PROVIDERS, strict=True) if graph.provider == name]
