"""nnU-Net's results become a model folder, or are refused in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from shared.errors import HecktorError
from shared.geometry import Grid
from shared.models.onnx import Network
from shared.models.segmentation import SegmentationCard, SegmentationModel
from shared.preprocessing.intensity import NnunetIntensity
from shared.preprocessing.pipeline import Prepared, Undo
from tests.training.export.nnunet import fabricated
from tests.training.export.nnunet.fabricated import random_network, results_folder
from training.config import load_configuration
from training.export.model_folder import MemberModel
from training.export.nnunet import importing
from training.export.nnunet.importing import import_nnunet
from training.export.parity import compare_masks
from training.export.record import Provenance

NO_TEXTS = Provenance()


def import_into(folder: Path, results: Path, **options: Any) -> SegmentationCard:
    return import_nnunet(results, folder, provenance=NO_TEXTS, **options)


@dataclass
class Exported:
    """The members that `export` gets; no graph is written, because that takes seconds."""

    members: list[MemberModel] = field(default_factory=list)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Let the import check everything and make the card, but write no graph."""
    record = Exported()

    def export(
        folder: Path,
        card_type: type[SegmentationCard],
        *,
        members: list[MemberModel],
        fields: dict[str, Any],
    ) -> SegmentationCard:
        record.members = members
        entries = [{"file": f"{m.name}.onnx", "sha256": "0" * 64} for m in members]
        return card_type.model_validate({**fields, "members": entries})

    monkeypatch.setattr(importing, "export", export)
    return record


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model folder of two plain networks with mirroring along z and x."""
    folder = tmp_path_factory.mktemp("pair")
    results = results_folder(folder / "results", folds=("0", "1"), axes=(0, 2))
    import_into(folder / "model", results)
    return folder / "model"


def prepared_case() -> Prepared:
    rng = np.random.default_rng(0)
    region = Grid((28, 24, 20), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    return Prepared(
        ct_hu=rng.uniform(-1000, 1000, region.shape_zyx).astype(np.float32),
        pet_suv=rng.gamma(1, 3, region.shape_zyx).astype(np.float32),
        body=np.ones(region.shape_zyx, bool),
        undo=Undo(region, region),
        remarks=(),
    )


def assert_equals_torch(graph: Path, network: nn.Module) -> None:
    window = np.random.default_rng(1).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    logits = Network(graph)(image=window)
    with torch.no_grad():
        expected = network(torch.from_numpy(window)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    compare_masks(logits[0], expected[0], "the imported network")


def test_logits_of_plain_networks_equal_those_of_torch(pair: Path) -> None:
    for seed in (0, 1):
        graph = pair / f"segmentation_fold{seed}.onnx"
        assert_equals_torch(graph, random_network(False, seed))


def test_logits_of_a_residual_encoder_equal_those_of_torch(tmp_path: Path) -> None:
    card = import_into(tmp_path / "model", results_folder(tmp_path / "results", residual=True))
    assert [member.file for member in card.members] == ["segmentation.onnx"]
    assert_equals_torch(tmp_path / "model/segmentation.onnx", random_network(True, 0))


def test_card_states_how_nnunet_segments(pair: Path) -> None:
    card = SegmentationModel.load(pair).card
    assert [member.file for member in card.members] == [
        "segmentation_fold0.onnx",
        "segmentation_fold1.onnx",
    ]
    assert card.intensity == NnunetIntensity(
        kind="nnunet",
        ct_range_hu=(-310, 420),
        ct_mean_hu=41.5,
        ct_std_hu=63.25,
        pet_nonzero_only=False,
    )
    assert (card.window_zyx, card.overlap, card.tiling) == ((16, 16, 16), 0.5, "nnunet")
    assert (card.channels, card.mirror_axes) == (("CT", "PET"), ("z", "x"))
    assert card.preparation.model_dump(mode="json") == fabricated.PREPARATION
    assert card.configuration == "Dataset025_HECKTOR nnUNetPlans 3d_fullres"
    assert (card.training.patients, card.training.seed) == (10, None)
    assert card.training.data == "nnU-Net data set Dataset025_HECKTOR"
    assert "not for patients" in card.notice
    assert (card.min_component_mm3, any(card.rules.model_dump().values())) == ({}, False)


@pytest.mark.usefixtures("exported")
def test_texts_of_the_user_are_in_the_card(tmp_path: Path) -> None:
    texts = Provenance(notice="Ours.", data="HECKTOR 2025", licence="CC-BY-4.0")
    results = results_folder(tmp_path / "results")
    card = import_nnunet(results, tmp_path / "model", provenance=texts)
    assert (card.notice, card.training.data, card.licence) == ("Ours.", "HECKTOR 2025", "CC-BY-4.0")


def test_channels_and_labels_may_have_another_order(tmp_path: Path, exported: Exported) -> None:
    """The network gets the PET first, and its outputs are reordered to this project's labels."""
    swapped = fabricated.configuration(residual=False)
    swapped["normalization_schemes"] = ["ZScoreNormalization", "CTNormalization"]
    intensities = {"0": {**fabricated.CT, "mean": 6.0}, "1": fabricated.CT}
    results = results_folder(
        tmp_path / "results",
        plans_changes={
            "configurations": {"3d_fullres": swapped},
            "foreground_intensity_properties_per_channel": intensities,
        },
        dataset_changes={
            "channel_names": {"0": "pet", "1": "CT"},
            "labels": {"background": 0, "gtvn": 1, "gtvp": 2},
        },
    )
    card = import_into(tmp_path / "model", results)
    assert card.channels == ("PET", "CT")
    assert isinstance(card.intensity, NnunetIntensity)
    assert card.intensity.ct_mean_hu == 41.5
    window = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = random_network(False, 0)(window)[:, [0, 2, 1]]
        torch.testing.assert_close(exported.members[0].model(window), expected)


@pytest.mark.usefixtures("exported")
def test_configuration_that_inherits_is_resolved(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", configuration_name="3d_larger_batch")
    card = import_into(tmp_path / "model", results)
    assert card.configuration.endswith("3d_larger_batch")
    assert card.window_zyx == (16, 16, 16)


def test_imported_ensemble_segments_a_case(pair: Path) -> None:
    prepared, model = prepared_case(), SegmentationModel.load(pair)
    probabilities = model.predict_probabilities(prepared)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    labels = model.segment(prepared).labels
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))


@pytest.mark.usefixtures("exported")
def test_folds_and_checkpoint_may_be_chosen(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", folds=("0", "1", "2"))
    final = results / "fold_1/checkpoint_final.pth"
    final.rename(results / "fold_1/checkpoint_best.pth")
    card = import_into(tmp_path / "model", results, folds=("1",), checkpoint="best")
    assert [member.file for member in card.members] == ["segmentation.onnx"]


@pytest.mark.usefixtures("exported")
def test_fold_of_all_patients_is_taken_alone(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", folds=("all",))
    assert len(import_into(tmp_path / "model", results).members) == 1


@pytest.mark.usefixtures("exported")
def test_preparation_may_come_from_a_configuration(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", dataset_changes={"hecktor_preparation": None})
    demo = load_configuration("demo").preparation
    assert import_into(tmp_path / "model", results, preparation=demo).preparation == demo
    with pytest.raises(HecktorError, match=r"expected the preparation of the images in .*dataset"):
        import_into(tmp_path / "model", results)


def truncate(results: Path) -> None:
    path = results / "fold_0/checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-2000])


def cut_to_nothing(results: Path) -> None:
    (results / "fold_0/checkpoint_final.pth").write_bytes(b"")


class Hostile:
    """An object whose pickle runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch hacked",)


def with_code(results: Path) -> None:
    path = results / "fold_0/checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), "logging": Hostile()}, path)


def no_weights(results: Path) -> None:
    path = results / "fold_0/checkpoint_final.pth"
    torch.save({**torch.load(path, weights_only=False), "network_weights": 1}, path)


def another_program(results: Path) -> None:
    torch.save({"state_dict": {}}, results / "fold_0/checkpoint_final.pth")


def another_network(results: Path) -> None:
    content = fabricated.checkpoint(random_network(True, 0), "3d_fullres", None)
    torch.save(content, results / "fold_0/checkpoint_final.pth")


def no_checkpoint(results: Path) -> None:
    (results / "fold_0/checkpoint_final.pth").unlink()


def gap(results: Path) -> None:
    (results / "fold_2").mkdir()


def no_fold(results: Path) -> None:
    (results / "fold_0").rename(results / "elsewhere")


def no_plans(results: Path) -> None:
    (results / "plans.json").unlink()


def no_json(results: Path) -> None:
    (results / "plans.json").write_text("{")


def trained_as(name: str) -> Callable[[Path], None]:
    def change(results: Path) -> None:
        content = fabricated.checkpoint(random_network(False, 0), name, None)
        torch.save(content, results / "fold_0/checkpoint_final.pth")

    return change


def change_json(name: str, changes: Mapping[str, Any]) -> Callable[[Path], None]:
    def change(results: Path) -> None:
        path = results / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def change_fullres(**changes: Any) -> Callable[[Path], None]:
    configuration = {**fabricated.configuration(residual=False), **changes}
    return change_json("plans.json", {"configurations": {"3d_fullres": configuration}})


def change_architecture(name: str = "unet.PlainConvUNet", **changes: Any) -> Callable[[Path], None]:
    arguments = {**fabricated.arguments(residual=False), **changes}
    return change_fullres(architecture={"network_class_name": name, "arch_kwargs": arguments})


REFUSALS = {
    "2d": (trained_as("2d"), "has the 2d configuration '2d', which is not supported; supported: 3"),
    "cascade": (trained_as("3d_cascade_fullres"), "has the cascade '3d_cascade_fullres'"),
    "unknown configuration": (trained_as("4d"), "expected the configuration '4d' in .*plans"),
    "missing fold": (gap, "found no fold_1; train it, or choose the folds"),
    "no fold": (no_fold, "found no fold_0"),
    "unfinished fold": (no_checkpoint, "expected a trained fold with checkpoint_final.pth in"),
    "truncated": (truncate, r"checkpoint_final.pth is damaged or cut short \(.*\); copy it again"),
    "empty": (cut_to_nothing, "checkpoint_final.pth is damaged or cut short"),
    "code": (with_code, r"holds more than numbers \(.*system.*\) and was not read"),
    "no weights": (no_weights, "is not a checkpoint of nnU-Net v2: it has no network_weights"),
    "another program": (another_program, "not a checkpoint of nnU-Net v2: trainer_name"),
    "another network": (another_network, "do not fit the network of plans.json .*changes the net"),
    "no plans": (no_plans, "expected plans.json in .*, found none; give nnU-Net's folder"),
    "no JSON": (no_json, r"plans\.json: .*JSON"),
    "regions": (
        change_json("dataset.json", {"labels": {"background": 0, "any": [1, 2], "GTVn": 2}}),
        "has overlapping region classes, which is not supported",
    ),
    "other labels": (
        change_json("dataset.json", {"labels": {"background": 0, "tumour": 1}}),
        "has the labels 'background, tumour'.*supported: background, GTVp, GTVn",
    ),
    "one channel": (
        change_json("dataset.json", {"channel_names": {"0": "CT"}}),
        "has the channels 'CT', which is not supported; supported: CT and PET",
    ),
    "other normalisation": (
        change_fullres(normalization_schemes=["ZScoreNormalization", "ZScoreNormalization"]),
        "has the normalisations 'ZScoreNormalization, ZScoreNormalization'",
    ),
    "other spacing": (
        change_fullres(spacing=[3.0, 2.0, 2.0]),
        r"has a spacing of \[3.0, 2.0, 2.0\] mm, .* regions, 2 mm along each axis",
    ),
    "transposed axes": (
        change_json("plans.json", {"transpose_forward": [2, 0, 1]}),
        r"has the transposed axes \[2, 0, 1\]",
    ),
    "unknown preprocessor": (
        change_fullres(preprocessor_name="MyPreprocessor"),
        r"configurations\.3d_fullres\.preprocessor_name: .*; supported are the networks that",
    ),
    "unknown network": (
        change_architecture("primus.Primus"),
        "has the architecture 'Primus', which is not supported; supported: PlainConvUNet and",
    ),
    "unknown argument": (
        change_architecture(attention=True),
        r"arch_kwargs\.attention: Extra inputs are not permitted",
    ),
    "batch norm": (
        change_architecture(norm_op="torch.nn.modules.batchnorm.BatchNorm3d"),
        r"arch_kwargs\.norm_op: Input should be 'torch.nn.modules.instancenorm",
    ),
    "plans of old": (
        change_json("plans.json", {"configurations": {"3d_fullres": {"patch_size": [16] * 3}}}),
        "has plans without an architecture, .*supported: plans of nnU-Net 2.4 or newer",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), list(REFUSALS.values()), ids=list(REFUSALS))
def test_what_is_not_supported_is_refused_in_one_line(
    spoil: Callable[[Path], None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    results = results_folder(tmp_path / "results")
    spoil(results)
    with pytest.raises(HecktorError, match=message) as error:
        import_into(tmp_path / "model", results)
    assert str(error.value).isprintable()
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "hacked").exists()


def test_folds_of_different_trainings_are_refused(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", folds=("0", "1"))
    content = fabricated.checkpoint(random_network(False, 1), "3d_fullres", (0,))
    torch.save(content, results / "fold_1/checkpoint_final.pth")
    with pytest.raises(HecktorError, match="expected folds of one training"):
        import_into(tmp_path / "model", results)
