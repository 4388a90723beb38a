"""From trained networks to a model folder: `.onnx` files and the card, checked before written.

Every graph is run in ONNX Runtime, on the provider that serving would use on this machine and on
the plain CPU provider, and compared with torch. A network that departs is not written. The same
weights give the same bytes, with no path of this machine in them.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import torch
from monai.networks.nets.dynunet import DynUNet
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.errors import ExportError, ModelError
from shared.lesions import MEASURES
from shared.models.card import CARD_NAME, Card, Member, Score, load_card, sha256_of, write_card
from shared.models.networks.dynunet import Serving, WithoutHeads
from shared.models.networks.hpv import HpvNetwork
from shared.models.networks.linear import LinearModel
from shared.models.onnx import PROVIDERS, Network

OPSET: Final = 18
"""The exporter's own; ONNX Runtime 1.24 and 1.26 and their OpenVINO provider take it."""

MAX_DIFFERENCE: Final = 2e-2
"""Largest difference of a logit or risk. Measured against torch at 192³: 2e-3 on the CPU provider,
1.7e-2 on OpenVINO; it grows with the voxels that instance norm averages over."""

MIN_AGREEMENT: Final = 0.999
"""Least part of the voxels with the same label; measured 0.9995 at 192³."""

OUTPUTS: Final = {"segmentation": "logits", "hpv": "logit", "survival": "risk"}


@dataclass(frozen=True)
class Trained:
    """One trained network of the ensemble.

    Attributes
    ----------
    network : a DynUNet, an `HpvNetwork` (its decoder is left out), a `SurvivalNetwork` or a
        `LinearModel`; moved to the CPU and to evaluation mode.
    name : its file in the model folder, without `.onnx`.
    risk_mean, risk_std : of its risks on the training patients; survival only.
    """

    network: nn.Module
    name: str
    risk_mean: float = 0.0
    risk_std: float = 1.0


def export(
    folder: Path,
    task: Literal["segmentation", "survival", "hpv"],
    members: Sequence[Trained],
    fields: Mapping[str, Any],
) -> Card:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    folder : made if absent. A model in it is replaced, other `.onnx` files in it are removed, the
        rest is kept; so are the scores of the card, where the model is the same.
    task : what the networks do.
    members : the ensemble, at least one network, names all different.
    fields : what the card says besides `task`, `members` and `measures`.

    Returns
    -------
    The card as written.

    Raises
    ------
    ExportError
        If a network's graph departs from it; the folder is then as it was.
    pydantic.ValidationError
        If the fields do not make a card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as name:
        draft = Path(name)
        entries = [
            Member(
                file=f"{member.name}.onnx",
                sha256="0" * 64,
                kind="linear" if isinstance(member.network, LinearModel) else "network",
                risk_mean=member.risk_mean,
                risk_std=member.risk_std,
            )
            for member in members
        ]
        measures = MEASURES if any(entry.kind == "linear" for entry in entries) else ()
        stated = {**fields, "task": task, "members": entries, "measures": measures}
        card = Card.model_validate(stated)
        for member, entry in zip(members, entries, strict=True):
            export_network(member.network, draft / entry.file, card)
        hashed = [e.model_copy(update={"sha256": sha256_of(draft / e.file)}) for e in entries]
        card = card.model_copy(update={"members": tuple(hashed)})
        card = card.model_copy(update={"scores": _known_scores(folder, card)})
        write_card(draft, card)
        # Until the new card is in place there is none, so a folder half replaced cannot be loaded.
        (folder / CARD_NAME).unlink(missing_ok=True)
        for stale in folder.glob("*.onnx"):
            stale.unlink()
        for entry in entries:
            os.replace(draft / entry.file, folder / entry.file)
        os.replace(draft / CARD_NAME, folder / CARD_NAME)
    return card


def _known_scores(folder: Path, card: Card) -> tuple[Score, ...]:
    """Return the scores that a folder's card has of the same model; none if there is no such."""
    try:
        before = load_card(folder, card.task)
    except ModelError:
        return ()
    return before.scores if before.model_copy(update={"scores": ()}) == card else ()


def export_network(network: nn.Module, path: Path, card: Card) -> None:
    """Write one network as an ONNX graph of fixed input size, and compare the two.

    Raises
    ------
    ExportError
        If they depart by more than `MAX_DIFFERENCE` or agree in less than `MIN_AGREEMENT`.
    """
    network = network.cpu().float()
    served = network
    if isinstance(network, HpvNetwork):
        served = network = network.classifier()
    elif isinstance(network, DynUNet):
        served, network = Serving(network), WithoutHeads(network)
    served, network = served.eval(), network.eval()
    inputs = _random_inputs(network, card)
    onnx.save(_graph(served, inputs, OUTPUTS[card.task]), path)
    with torch.inference_mode():
        expected = network(*inputs.values()).numpy()
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    for providers in (PROVIDERS, ("CPU",)):
        graph = Network(path, providers)
        compare(graph(**arrays), expected, f"{path.name} on {graph.provider}")


def compare(found: NDArray[np.float32], expected: NDArray[np.float32], what: str) -> None:
    """Check an exported network's output against torch's, both of shape (1, K, ...).

    Raises
    ------
    ExportError
        If a value is not finite, differs too much, or too many labels differ (where K > 1).
    """
    difference = float(np.abs(found - expected).max())
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if not difference <= MAX_DIFFERENCE or agreement < MIN_AGREEMENT:
        raise ExportError(
            f"{what} departs from torch: expected a difference of at most {MAX_DIFFERENCE:g} and "
            f"labels that agree in at least {MIN_AGREEMENT:.1%}, found {difference:.2g} and "
            f"{agreement:.2%}; nothing was written"
        )


def _random_inputs(network: nn.Module, card: Card) -> dict[str, Tensor]:
    """Return inputs in the order in which the network takes them."""
    shapes: dict[str, tuple[int, ...]] = {}
    if not isinstance(network, LinearModel):
        shapes["image"] = (len(card.channels), *card.window_zyx)
    if card.clinical:
        shapes["clinical"] = (len(card.clinical),)
    if isinstance(network, LinearModel):
        shapes["measures"] = (len(card.measures),)
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randn((1, *shape), generator=rng) for name, shape in shapes.items()}


def _graph(network: nn.Module, inputs: Mapping[str, Tensor], output: str) -> onnx.ModelProto:
    """Return the graph with its weights inside, without the exporter's notes on source files."""
    # It warns once for each torchvision operator that it cannot register.
    noisy = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls a function of its own that it has deprecated.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            program = torch.onnx.export(
                network,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    if program is None:
        raise ExportError("torch gave no ONNX graph")
    proto = program.model_proto
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return proto
