"""Export of model folders: graphs, cards, and errors after which nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from shared.errors import ExportError, ModelError
from shared.lesions import MEASURES
from shared.models.card import (
    Score,
    load_card,
    write_card,
)
from shared.models.hpv import HpvCard
from shared.models.networks.base import NetworkConfig
from shared.models.networks.dynunet import DynUNetConfig
from shared.models.networks.hpv import HpvConfig
from shared.models.networks.linear import LinearModel
from shared.models.networks.survival import SurvivalConfig
from shared.models.onnx import Network
from shared.models.segmentation import SegmentationCard
from shared.models.survival import SurvivalCard
from training.export import model_folder as module
from training.export.model_folder import MemberModel, export, export_model

UNET = DynUNetConfig(filters=(4, 8, 12))
HEADS = DynUNetConfig(filters=(4, 8, 8, 8), deep_supervision_heads=2)
FIELDS: dict[str, Any] = {
    "configuration": "demo",
    "notice": "Random weights, for tests only.",
    "licence": "Apache-2.0",
    "preparation": {"spacing_mm": 2, "size_xyz": (16, 16, 16), "interpolation": "linear"},
    "intensity": {"ct_window_hu": (-200, 300), "pet_max_suv": 20, "pet_unit_suv": 5},
    "window_zyx": (16, 16, 16),
    "channels": ("CT", "PET"),
    "training": {"data": "none", "patients": 1, "command": "-", "revision": "-", "seed": 0},
}
SEGMENTATION = {**FIELDS, "labels": ("background", "GTVp", "GTVn")}
CLINICAL = ({"key": "age"}, {"key": "gender"})


def unet(seed: int = 0, name: str = "model") -> MemberModel:
    torch.manual_seed(seed)
    return MemberModel(name=name, model=UNET.build(in_channels=2), config=UNET)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_holds_what_its_card_says(tmp_path: Path) -> None:
    members = [unet(seed, f"fold{seed}") for seed in (0, 1)]
    card = export(
        tmp_path / "new" / "model", SegmentationCard, members=members, fields=SEGMENTATION
    )
    assert sorted(files(tmp_path / "new" / "model")) == ["fold0.onnx", "fold1.onnx", "model.json"]
    assert load_card(tmp_path / "new" / "model", SegmentationCard) == card


def test_graph_is_self_contained_and_holds_no_path_of_this_machine(tmp_path: Path) -> None:
    export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert [opset.version for opset in graph.opset_import] == [module.OPSET]
    assert all(
        tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer
    )
    content = (tmp_path / "model.onnx").read_bytes()
    for word in (str(Path(module.__file__).parents[2]), "site-packages", "forward"):
        assert word.encode() not in content


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(tmp_path / name, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_scores_are_kept_only_for_the_same_model(tmp_path: Path) -> None:
    score = Score(metric="gtvp_dice", value=0.5, standard_error=0.1, patients=3, cohort="some")
    card = export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    write_card(tmp_path, card.model_copy(update={"scores": (score,)}))
    again = export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    assert again.scores == (score,)
    other = export(tmp_path, SegmentationCard, members=[unet(1)], fields=SEGMENTATION)
    assert other.scores == ()


def test_network_trained_with_deep_supervision_is_exported_without_its_heads(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = HEADS.build(in_channels=2).train()
    network(torch.randn(1, 2, 16, 16, 16)).mean().backward()
    member = MemberModel(name="model", model=network, config=HEADS)
    export(tmp_path, SegmentationCard, members=[member], fields=SEGMENTATION)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert len(graph.output) == 1
    assert not any("head" in tensor.name for tensor in graph.initializer)


def test_hpv_network_is_exported_without_its_decoder(tmp_path: Path) -> None:
    head = HpvConfig(head_width=16)
    network = head.build(UNET, in_channels=2, clinical_features=2)
    fields = {**FIELDS, "clinical": CLINICAL, "threshold": 0.5}
    export(
        tmp_path,
        HpvCard,
        members=[MemberModel(name="model", model=network, config=head)],
        fields=fields,
    )
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [i.name for i in graph.input] == ["image", "clinical"]
    assert [o.name for o in graph.output] == ["logit"]
    assert "ConvTranspose" not in {node.op_type for node in graph.node}


def test_survival_card_keeps_the_scale_of_the_risks(tmp_path: Path) -> None:
    config = SurvivalConfig(block_inplanes=(4, 4, 8, 8))
    network = config.build(in_channels=4, clinical_features=2)
    fields = {**FIELDS, "channels": ("CT", "PET", "GTVp", "GTVn"), "clinical": CLINICAL}
    member = MemberModel(name="model", model=network, config=config, risk_mean=0.25, risk_std=2.0)
    card = export(tmp_path, SurvivalCard, members=[member], fields=fields)
    assert (card.members[0].risk_mean, card.members[0].risk_std) == (0.25, 2.0)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [o.name for o in graph.output] == ["risk"]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_old_model_is_replaced_and_other_files_stay_but_keep_it_from_loading(
    tmp_path: Path,
) -> None:
    members = [unet(seed, f"fold{seed}") for seed in (0, 1)]
    export(tmp_path, SegmentationCard, members=members, fields=SEGMENTATION)
    (tmp_path / "README.md").write_text("kept")
    export(tmp_path, SegmentationCard, members=[unet(2)], fields=SEGMENTATION)
    assert sorted(files(tmp_path)) == ["README.md", "model.json", "model.onnx"]
    with pytest.raises(ModelError, match=r"found 'README\.md'; remove it"):
        load_card(tmp_path, SegmentationCard)
    (tmp_path / "README.md").unlink()
    load_card(tmp_path, SegmentationCard)


class Shifted(Network):
    """A graph that adds `by` to the logits of the first label."""

    by = 0.0

    def __call__(self, **inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        output = super().__call__(**inputs)
        output[:, 0] += np.float32(self.by)
        return output


@pytest.mark.parametrize("by", [0.1, float("nan")])
def test_graph_that_differs_leaves_the_folder_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    before = files(tmp_path)
    monkeypatch.setattr(Shifted, "by", by)
    monkeypatch.setattr(module, "Network", Shifted)
    with pytest.raises(ExportError, match=r"fold0\.onnx on \w+ differs from torch.*nothing was"):
        export(tmp_path, SegmentationCard, members=[unet(0, "fold0")], fields=SEGMENTATION)
    assert files(tmp_path) == before


def test_incomplete_card_writes_nothing(tmp_path: Path) -> None:
    fields = {key: value for key, value in SEGMENTATION.items() if key != "licence"}
    with pytest.raises(ValidationError, match="licence"):
        export(tmp_path, SegmentationCard, members=[unet()], fields=fields)
    assert files(tmp_path) == {}


class Unsteady(nn.Module):
    """A network that changes with every call, which a graph cannot do."""

    calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return image.repeat(1, 2, 1, 1, 1)[:, :3] * float(self.calls)


def test_graph_that_differs_from_its_network_is_refused(tmp_path: Path) -> None:
    card = SegmentationCard.model_validate(
        {**SEGMENTATION, "members": [{"file": "model.onnx", "sha256": "0" * 64}]}
    )
    member = MemberModel(name="model", model=Unsteady(), config=NetworkConfig())
    with pytest.raises(ExportError, match="differs from torch"):
        export_model(member, tmp_path / "model.onnx", card)


class Unfaithful(NetworkConfig):
    """A configuration whose serving part computes something else than the reference."""

    def serving(self, network: nn.Module) -> nn.Module:
        return nn.Sequential(network, nn.Hardtanh())


def test_serving_part_that_differs_from_the_reference_is_refused(tmp_path: Path) -> None:
    config = Unfaithful()
    network = nn.Conv3d(2, 3, 1, bias=True)
    nn.init.constant_(network.bias, 5.0)
    member = MemberModel(name="model", model=network, config=config)
    with pytest.raises(ExportError, match="differs from torch"):
        export(tmp_path, SegmentationCard, members=[member], fields=SEGMENTATION)
    assert files(tmp_path) == {}


def test_linear_model_is_a_member_with_the_lesion_measures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    member = MemberModel(name="model", model=LinearModel(2, len(MEASURES)), config=None)
    fields = {**FIELDS, "clinical": CLINICAL}
    card = export(tmp_path, SurvivalCard, members=[member], fields=fields)
    assert (card.members[0].kind, card.measures) == ("linear", MEASURES)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [i.name for i in graph.input] == ["clinical", "measures"]


def test_card_holds_only_the_fields_of_its_task(tmp_path: Path) -> None:
    export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    card = json.loads((tmp_path / "model.json").read_text())
    assert not {"clinical", "measures", "threshold"} & set(card)


def test_card_is_readable(tmp_path: Path) -> None:
    export(tmp_path, SegmentationCard, members=[unet()], fields=SEGMENTATION)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["window_zyx"] == [16, 16, 16]
    assert len(card["members"][0]["sha256"]) == 64
