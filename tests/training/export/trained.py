"""The networks of the repository's model folders in torch, with the weights of their graphs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shared.models.hpv import HpvModel
from shared.models.networks.hpv_lesions import LesionHpvNetwork, MeanHead
from shared.models.onnx import PROVIDERS, Network
from training.config import load_configuration
from training.export.run import model_folder
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
    """Return the network of the repository's Task 3 model, with the heads of all folds."""
    model = HpvModel.load(model_folder(Hpv()))
    network = cast(LesionHpvNetwork, Hpv().network(DEMO, model.card.clinical))
    weights = weights_of(model_folder(Hpv()) / "hpv.onnx")
    numbers = {name.split(".")[2] for name in weights if name.startswith("head.heads.")}
    network.head = MeanHead([copy.deepcopy(network.head) for _ in numbers])
    classifier = network.classifier()
    known = {name: weight for name, weight in weights.items() if "." in name}  # no constants
    missing, unknown = classifier.load_state_dict(known, strict=False)
    assert not unknown
    unused = ("encoder.4.", "num_batches_tracked")  # the bottleneck, and what only training needs
    assert all(any(word in name for word in unused) for name in missing)
    return classifier.eval()


def on_every_provider(path: Path) -> list[Network]:
    """Return a graph on each provider that works here."""
    graphs = [Network(path, (provider,)) for provider in PROVIDERS]
    return [graph for graph, name in zip(graphs, PROVIDERS, strict=True) if graph.provider == name]
