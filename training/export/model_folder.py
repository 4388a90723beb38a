"""Writes a model folder from trained models: `.onnx` files and the card.

Each graph is first run in ONNX Runtime, on every provider that works on this machine, and compared
with torch (`parity.py`). A graph that differs is not written. The same weights give the same bytes,
which contain no path of this machine.
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
from shared.models.sealed import CARD_NAME, SIGNATURE_NAME
from training.export.parity import compare_masks, compare_numbers

OPSET: Final = 18
"""The exporter's default; ONNX Runtime 1.24 and 1.26 and their OpenVINO provider support it."""


@dataclass(frozen=True, kw_only=True)
class MemberModel:
    """One trained model of the ensemble.

    Attributes
    ----------
    name : name of the file in the model folder, without `.onnx`.
    model : the trained model. It is moved to the CPU, and its serving part is set to evaluation
        mode.
    config : the configuration that built the model and that returns the part for serving; None for
        a `LinearModel`, which serves as a whole.
    risk_mean, risk_std : mean and standard deviation of the model's risks on the training patients;
        only for survival.
    """

    name: str
    model: nn.Module
    config: NetworkConfig | None
    risk_mean: float = 0.0
    risk_std: float = 1.0

    @property
    def kind(self) -> MemberKind:
        """The kind that the card states."""
        return "linear" if self.config is None else "network"


def export(
    folder: Path,
    card_type: type[CardT],
    *,
    members: Sequence[MemberModel],
    fields: Mapping[str, Any],
) -> CardT:
    """Write a complete model folder, or nothing.

    Parameters
    ----------
    folder : created if absent. A model in it is replaced, and all its other `.onnx` files are
        removed. Files of any other kind stay, and the folder cannot be loaded as a model until they
        are removed. The scores of the card are kept if the model is the same.
    card_type : the class of the task's card.
    members : the models of the ensemble; there is at least one, and no two have the same name.
    fields : fields of the card in addition to `task`, `members` and `measures`.

    Returns
    -------
    The card that was written.

    Raises
    ------
    ExportError
        If a graph differs from its model; the folder is then unchanged.
    pydantic.ValidationError
        If the fields do not make a valid card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
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
        # The folder has no card until all files are in place, so it cannot be loaded half-replaced.
        (folder / CARD_NAME).unlink(missing_ok=True)
        for stale in folder.glob("*.onnx"):
            stale.unlink()
        for entry in entries:
            os.replace(draft / entry.file, folder / entry.file)
        (folder / SIGNATURE_NAME).unlink(missing_ok=True)  # It signs the replaced card.
        os.replace(draft / CARD_NAME, folder / CARD_NAME)
    return card


def _scores_to_keep(folder: Path, card: BaseCard) -> tuple[Score, ...]:
    """Return the scores of a folder's card if it is the card of the same model, otherwise none."""
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
        If the graph differs from the model by more than `parity.py` allows.
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
    for provider in PROVIDERS:
        graph = Network(path, (provider,))
        if graph.provider == provider:
            _compare(graph(**arrays), expected, member, f"{path.name} on {provider}")


def _compare(
    output: NDArray[np.float32], expected: NDArray[np.float32], member: MemberModel, name: str
) -> None:
    if output.ndim == 2:
        compare_numbers(output, expected, name, mean=member.risk_mean, std=member.risk_std)
    else:
        compare_masks(output[0], expected[0], name)


def _graph(network: nn.Module, inputs: Mapping[str, Tensor], output: str) -> onnx.ModelProto:
    """Return the graph with its weights, but without the exporter's notes on source files."""
    # The exporter warns about each torchvision operator that it cannot register.
    noisy = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls one of its own deprecated functions.
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
        raise ExportError("expected an ONNX graph from torch, found none")
    proto = program.model_proto
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return proto
