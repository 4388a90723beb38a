"""How far exported networks differ from torch: `python -m tests.benchmarks.parity`.

The command exports the repository's trained Task 1 network for windows of several sizes, and runs
it on a random image like the one with which the export checks a graph. It prints the largest
differences on every execution provider that works on this machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from shared.models.card import load_card
from shared.models.networks.base import NetworkConfig
from shared.models.segmentation import SegmentationCard, softmax
from tests.training.export.trained import on_every_provider, trained_segmentation
from training.export.model_folder import MemberModel, export_model
from training.export.run import model_folder
from training.tasks.segmentation import Segmentation


def main(
    size: Annotated[list[int], typer.Option(help="Side of the window; may be repeated.")] = [  # noqa: B006
        80,
        128,
        192,
    ],
) -> None:
    """Print a table."""
    print("| window | provider | logit | probability | other label, share of the voxels |")
    print("|---|---|---|---|---|")
    network = trained_segmentation()
    card = load_card(model_folder(Segmentation()), SegmentationCard)
    for side in size:
        image = torch.randn(1, 2, side, side, side, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(image)[0].numpy()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            member = MemberModel(name="network", model=network, config=NetworkConfig())
            export_model(member, path, card.model_copy(update={"window_zyx": (side, side, side)}))
            for graph in on_every_provider(path):
                logits = graph(image=image.numpy())[0]
                differing = np.mean(logits.argmax(axis=0) != expected.argmax(axis=0))
                logit = np.abs(logits - expected).max()
                probability = np.abs(softmax(logits) - softmax(expected.copy())).max()
                print(
                    f"| {side}³ | {graph.provider} | {logit:.2g} | {probability:.2g} "
                    f"| {differing:.1g} |",
                    flush=True,
                )


if __name__ == "__main__":
    typer.run(main)
