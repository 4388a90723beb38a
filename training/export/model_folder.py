"""From trained models to a model folder: `.onnx` files and the card, checked before written.

Every graph is run in ONNX Runtime, on the provider that serving would use on this machine and on
the plain CPU provider, and compared with torch. A graph that differs is not written. The same
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
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.errors import ExportError, ModelError
from shared.lesions import MEASURES
from shared.models.card import (
    CARD_NAME,
    BaseCard,
    CardT,
    Member,
    MemberKind,
    Score,
    load_card,
    sha256_of,
    write_card,
)
from shared.models.networks.base import NetworkConfig
from shared.models.onnx import PROVIDERS, Network

OPSET: Final = 18
"""The exporter's default; ONNX Runtime 1.24 and 1.26 and their OpenVINO provider support it."""

MAX_DIFFERENCE: Final = 2e-2
"""Largest difference of a logit or risk. Measured against torch at 192³: 2e-3 on the CPU provider,
1.7e-2 on OpenVINO; it grows with the voxels that instance norm averages over."""

MIN_AGREEMENT: Final = 0.999
"""Least part of the voxels with the same label; measured 0.9995 at 192³."""


@dataclass(frozen=True, kw_only=True)
class MemberModel:
    """One trained model of the ensemble.

    Attributes
    ----------
    name : its file in the model folder, without `.onnx`.
    model : the model as trained; it is moved to the CPU, and its serving part to evaluation mode.
    config : the configuration that built it, which knows the part that serves; None for a
        `LinearModel`, which serves as it is.
    risk_mean, risk_std : of its risks on the training patients; survival only.
    """

    name: str
    model: nn.Module
    config: NetworkConfig | None
    risk_mean: float = 0.0
    risk_std: float = 1.0

    @property
    def kind(self) -> MemberKind:
        """What the card calls it."""
        return "linear" if self.config is None else "network"


def export(
    folder: Path,
    card_type: type[CardT],
    *,
    members: Sequence[MemberModel],
    fields: Mapping[str, Any],
) -> CardT:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    folder : created if absent. A model in it is replaced, other `.onnx` files in it are removed,
        other files are kept. The scores of the card are kept if the model is the same.
    card_type : the class of the task's card.
    members : the ensemble, at least one model, names all different.
    fields : what the card says in addition to `task`, `members` and `measures`.

    Returns
    -------
    The card as written.

    Raises
    ------
    ExportError
        If a graph differs from its model; the folder is then as it was.
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
                kind=member.kind,
                risk_mean=member.risk_mean,
                risk_std=member.risk_std,
            )
            for member in members
        ]
        measures = {"measures": MEASURES} if any(e.kind == "linear" for e in entries) else {}
        card = card_type.model_validate({**fields, **measures, "members": entries})
        for member, entry in zip(members, entries, strict=True):
            export_model(member, draft / entry.file, card)
        hashed = [e.model_copy(update={"sha256": sha256_of(draft / e.file)}) for e in entries]
        card = card.model_copy(update={"members": tuple(hashed)})
        card = card.model_copy(update={"scores": _scores_to_keep(folder, card)})
        write_card(draft, card)
        # Without a card until all files are in place, a half-replaced folder cannot be loaded.
        (folder / CARD_NAME).unlink(missing_ok=True)
        for stale in folder.glob("*.onnx"):
            stale.unlink()
        for entry in entries:
            os.replace(draft / entry.file, folder / entry.file)
        os.replace(draft / CARD_NAME, folder / CARD_NAME)
    return card


def _scores_to_keep(folder: Path, card: BaseCard) -> tuple[Score, ...]:
    """Return the scores in a folder's card if it is of the same model, otherwise none."""
    try:
        before = load_card(folder, type(card))
    except ModelError:
        return ()
    return before.scores if before.model_copy(update={"scores": ()}) == card else ()


def export_model(member: MemberModel, path: Path, card: BaseCard) -> None:
    """Write one model as an ONNX graph of fixed input size, and compare the two.

    Raises
    ------
    ExportError
        If they differ by more than `MAX_DIFFERENCE` or agree in less than `MIN_AGREEMENT`.
    """
    model = member.model.cpu().float()
    serving = reference = model
    if member.config is not None:
        serving, reference = member.config.serving(model), member.config.reference(model)
    serving, reference = serving.eval(), reference.eval()
    rng = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(shape, generator=rng)
        for name, shape in card.input_shapes(member.kind).items()
    }
    onnx.save(_graph(serving, inputs, card.graph_output), path)
    with torch.inference_mode():
        expected = reference(*inputs.values()).numpy()
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    for providers in (PROVIDERS, ("CPU",)):
        graph = Network(path, providers)
        compare(graph(**arrays), expected, f"{path.name} on {graph.provider}")


def compare(output: NDArray[np.float32], expected: NDArray[np.float32], name: str) -> None:
    """Check the output of an exported graph against that of torch, both of shape (1, K, ...).

    Raises
    ------
    ExportError
        If a value is not finite, differs too much, or too many labels differ (if K > 1).
    """
    difference = float(np.abs(output - expected).max())
    agreement = float((output.argmax(axis=1) == expected.argmax(axis=1)).mean())
    if not difference <= MAX_DIFFERENCE or agreement < MIN_AGREEMENT:
        raise ExportError(
            f"{name} differs from torch: expected a difference of at most {MAX_DIFFERENCE:g} and "
            f"labels that agree in at least {MIN_AGREEMENT:.1%}, found {difference:.2g} and "
            f"{agreement:.2%}; nothing was written"
        )


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
