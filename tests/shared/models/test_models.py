"""The three tasks' models on small networks with random weights."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import softmax as scipy_softmax

from shared.clinical import ClinicalRecord, encode
from shared.conventions import Label, LabelVolume, Volume
from shared.errors import ModelError
from shared.lesions import MEASURES, measure_lesions
from shared.models import ensemble
from shared.models.card import BaseCard
from shared.models.chain import Chain
from shared.models.hpv import HpvCard, HpvModel
from shared.models.networks.linear import LinearModel
from shared.models.segmentation import SegmentationModel, softmax
from shared.models.sliding_window import nnunet_weight, sliding_window
from shared.models.survival import SurvivalModel
from shared.preprocessing.intensity import network_channels, scale_images
from shared.preprocessing.pipeline import Prepared
from tests.shared.models.small_networks import (
    HPV,
    REGION_XYZ,
    WINDOW_ZYX,
    hpv_member,
    linear_member,
    random_hpv,
    random_survival,
    random_unet,
)
from training.export.model_folder import export

SHAPE_ZYX = REGION_XYZ[::-1]
Make = Callable[..., Prepared]
AGE_50 = ClinicalRecord(age=50)


def channels_of(prepared: Prepared, card: BaseCard, labels: LabelVolume | None = None) -> Volume:
    images = scale_images(prepared.ct_hu, prepared.pet_suv, card.intensity)
    return network_channels(images, card.channels, labels)


def with_card(folder: Path, to: Path, **changes: object) -> Path:
    """Return a copy of a model folder with changed entries in its card."""
    shutil.copytree(folder, to)
    card = json.loads((to / "model.json").read_text())
    (to / "model.json").write_text(json.dumps({**card, **changes}))
    return to


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that receives the file name of each network that is loaded."""
    names: list[str] = []
    real = ensemble.Network

    def counting(path: Path, **options: Any) -> object:
        names.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(ensemble, "Network", counting)
    return names


def test_probabilities_equal_those_of_torch(
    segmentation_pair_folder: Path, make_prepared: Make
) -> None:
    model = SegmentationModel.load(segmentation_pair_folder)
    prepared = make_prepared()
    card = model.card
    image = channels_of(prepared, card)

    def torch_probabilities(seed: int) -> np.ndarray:
        network = random_unet(seed)
        with torch.no_grad():
            logits = sliding_window(
                lambda w: network(torch.from_numpy(w)).numpy(),
                image,
                window_zyx=WINDOW_ZYX,
                overlap=card.overlap,
                outputs=3,
            )
        return scipy_softmax(logits, axis=0)

    found = model.predict_probabilities(prepared)
    expected = (torch_probabilities(0) + torch_probabilities(1)) / 2
    assert found.shape == (3, *SHAPE_ZYX)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


NNUNET = {
    "kind": "nnunet",
    "ct_range_hu": (-300.0, 400.0),
    "ct_mean_hu": 40.0,
    "ct_std_hu": 60.0,
    "pet_nonzero_only": False,
}


def test_nnunet_averages_logits_of_mirrored_windows_and_networks(
    segmentation_pair_folder: Path, tmp_path: Path, make_prepared: Make
) -> None:
    """Images that are 0 outside a box are cropped to the box; outside it, all is background."""
    folder = with_card(
        segmentation_pair_folder,
        tmp_path / "model",
        tiling="nnunet",
        mirror_axes=["z", "x"],
        intensity=NNUNET,
    )
    prepared = make_prepared()
    box = (slice(2, 20), slice(0, 20), slice(3, 28))
    for image in (prepared.ct_hu, prepared.pet_suv):
        inside = image[box].copy()
        image[...] = 0
        image[box] = inside
    ct, pet = prepared.ct_hu[box], prepared.pet_suv[box]
    scaled = np.stack([(np.clip(ct, -300, 400) - 40) / 60, (pet - pet.mean()) / pet.std()])
    total = torch.zeros(3, 18, 20, 25, dtype=torch.float64)
    weight = torch.from_numpy(nnunet_weight(WINDOW_ZYX)).double()
    sums = torch.zeros_like(total)
    for z, y, x in itertools.product((0, 2), (0, 4), (0, 4, 9)):
        part = (slice(None), slice(z, z + 16), slice(y, y + 16), slice(x, x + 16))
        window = torch.from_numpy(scaled[part][None].astype(np.float32))
        for seed, axes in itertools.product((0, 1), ((), (2,), (4,), (2, 4))):
            with torch.no_grad():
                logits = random_unet(seed)(window.flip(axes)).flip(axes)[0]
            total[part] += logits * weight / 8
        sums[part] += weight
    expected = np.zeros((3, *SHAPE_ZYX))
    expected[0] = 1
    expected[:, *box] = torch.softmax(total / sums, dim=0)

    found = SegmentationModel.load(folder).predict_probabilities(prepared)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_probabilities_sum_to_one(segmentation_folder: Path, make_prepared: Make) -> None:
    model = SegmentationModel.load(segmentation_folder)
    total = model.predict_probabilities(make_prepared()).sum(axis=0)
    np.testing.assert_allclose(total, 1, atol=1e-5)


def test_softmax_of_large_logits_is_finite() -> None:
    logits = np.array([[1000.0], [-1000.0], [1000.0]], np.float32)
    np.testing.assert_array_equal(softmax(logits), [[0.5], [0], [0.5]])


def test_label_map_is_the_most_probable(segmentation_folder: Path, make_prepared: Make) -> None:
    model = SegmentationModel.load(segmentation_folder)
    labels = model.segment(make_prepared()).labels
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2}
    np.testing.assert_array_equal(labels, model.predict_probabilities(make_prepared()).argmax(0))


def test_small_components_are_removed_by_their_volume(
    segmentation_folder: Path, tmp_path: Path, make_prepared: Make
) -> None:
    minimum = {"GTVp": 1e9}
    folder = with_card(segmentation_folder, tmp_path / "model", min_component_mm3=minimum)
    labels = SegmentationModel.load(folder).segment(make_prepared()).labels
    assert set(np.unique(labels)) == {Label.BACKGROUND, Label.GTVN}


def test_case_without_body_is_background(segmentation_folder: Path, make_prepared: Make) -> None:
    prepared = replace(make_prepared(), body=np.zeros(SHAPE_ZYX, bool))
    assert not SegmentationModel.load(segmentation_folder).segment(prepared).labels.any()


def test_single_network_stays_loaded(
    segmentation_folder: Path, make_prepared: Make, loads: list[str]
) -> None:
    model = SegmentationModel.load(segmentation_folder)
    for _ in range(2):
        model.segment(make_prepared())
    assert loads == ["model.onnx"]


def test_several_networks_are_loaded_in_turn_and_results_repeat_exactly(
    segmentation_pair_folder: Path, make_prepared: Make, loads: list[str]
) -> None:
    model = SegmentationModel.load(segmentation_pair_folder)
    first = model.predict_probabilities(make_prepared())
    assert loads == ["fold0.onnx", "fold1.onnx"]
    np.testing.assert_array_equal(model.predict_probabilities(make_prepared()), first)


def test_one_network_is_in_memory_while_the_next_one_loads(
    segmentation_pair_folder: Path, make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref[object]] = []
    alive: list[int] = []

    class Watched(ensemble.Network):
        def __init__(self, path: Path, **options: Any) -> None:
            alive.append(sum(network() is not None for network in networks))
            super().__init__(path, **options)
            networks.append(weakref.ref(self))

    monkeypatch.setattr(ensemble, "Network", Watched)
    SegmentationModel.load(segmentation_pair_folder).segment(make_prepared())
    assert alive == [0, 0]


def test_model_works_again_after_a_member_failed_to_load(
    segmentation_pair_folder: Path, tmp_path: Path, make_prepared: Make
) -> None:
    folder = with_card(segmentation_pair_folder, tmp_path / "model")
    model = SegmentationModel.load(folder)
    first, description = model.predict_probabilities(make_prepared()), model.describe()
    (folder / "fold0.onnx").rename(tmp_path / "elsewhere.onnx")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"fold0\.onnx"):
            model.predict_probabilities(make_prepared())
        assert model.describe() == description
    (tmp_path / "elsewhere.onnx").rename(folder / "fold0.onnx")
    np.testing.assert_array_equal(model.predict_probabilities(make_prepared()), first)


def test_description_begins_with_the_notice(segmentation_pair_folder: Path) -> None:
    lines = SegmentationModel.load(segmentation_pair_folder).describe()
    assert lines[0] == "Random weights, for tests only."
    assert lines[1].startswith("segmentation model: demo configuration, 2 networks, ")


def test_graph_that_does_not_fit_its_card_is_refused(
    segmentation_folder: Path, tmp_path: Path
) -> None:
    folder = with_card(segmentation_folder, tmp_path / "model", window_zyx=(16, 16, 24))
    with pytest.raises(ModelError, match=r"\(1, 2, 16, 16, 24\).*found.*\(1, 2, 16, 16, 16\)"):
        SegmentationModel.load(folder)


def test_labels_in_another_order_are_refused(segmentation_folder: Path, tmp_path: Path) -> None:
    labels = ("background", "GTVn", "GTVp")
    folder = with_card(segmentation_folder, tmp_path / "model", labels=labels)
    with pytest.raises(ModelError, match="expected the labels"):
        SegmentationModel.load(folder)


def test_component_rule_for_an_unknown_label_is_refused(
    segmentation_folder: Path, tmp_path: Path
) -> None:
    folder = with_card(segmentation_folder, tmp_path / "model", min_component_mm3={"GTV": 1})
    with pytest.raises(ModelError, match="GTV"):
        SegmentationModel.load(folder)


def test_hpv_is_the_mean_logit_of_the_central_window(hpv_folder: Path, make_prepared: Make) -> None:
    model = HpvModel.load(hpv_folder)
    prepared = make_prepared()
    image = channels_of(prepared, model.card)
    central = torch.from_numpy(image[None, :, 2:18, 4:20, 6:22].copy())
    clinical = torch.from_numpy(encode(AGE_50, model.card.clinical)[None])
    with torch.no_grad():
        logits = [random_hpv(seed)(central, clinical)[1].item() for seed in (0, 1)]
    found = model.predict(prepared, AGE_50)
    assert found.logit == pytest.approx(np.mean(logits), abs=1e-4)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-found.logit)))


def singles(folder: Path, tmp_path: Path) -> list[Path]:
    """Return a model folder for each member of an ensemble."""
    members = json.loads((folder / "model.json").read_text())["members"]
    folders = [with_card(folder, tmp_path / m["file"], members=[m]) for m in members]
    for single, member in zip(folders, members, strict=True):
        for path in single.glob("*.onnx"):
            if path.name != member["file"]:
                path.unlink()
    return folders


def test_hpv_model_with_one_member_returns_its_logit(
    hpv_folder: Path, tmp_path: Path, make_prepared: Make
) -> None:
    logits = [
        HpvModel.load(folder).predict(make_prepared(), AGE_50).logit
        for folder in singles(hpv_folder, tmp_path)
    ]
    pair = HpvModel.load(hpv_folder)
    image = channels_of(make_prepared(), pair.card)
    inputs = {
        "image": image[None, :, 2:18, 4:20, 6:22],
        "clinical": encode(AGE_50, pair.card.clinical)[None],
    }
    assert logits == [logit for _, logit in pair.for_each(lambda network: network(**inputs).item())]
    assert pair.predict(make_prepared(), AGE_50).logit == pytest.approx(np.mean(logits))


def test_survival_ensemble_is_the_mean_of_its_members(
    survival_folder: Path, tmp_path: Path, make_prepared: Make
) -> None:
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    folders = [survival_folder, *singles(survival_folder, tmp_path)]
    pair, *alone = (
        SurvivalModel.load(folder).predict(make_prepared(), labels, AGE_50) for folder in folders
    )
    assert alone[0] != alone[1]
    assert pair == pytest.approx(np.mean(alone))


def test_linear_member_sees_the_lesion_measures(tmp_path: Path, make_prepared: Make) -> None:
    torch.manual_seed(0)
    linear, prepared = LinearModel(1, len(MEASURES)), make_prepared()
    export(tmp_path, HpvCard, members=[hpv_member(0, "a"), linear_member(linear, "b")], fields=HPV)
    model = HpvModel.load(tmp_path)
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    labels[2:5, 20:22, 20:26] = Label.GTVP
    labels[4, 2, 2] = Label.GTVN
    measures = measure_lesions(
        labels, prepared.ct_hu, prepared.pet_suv, prepared.undo.region
    ).vector()
    with torch.no_grad():
        expected = linear(torch.tensor([[-10 / 9]]), torch.from_numpy(measures).float()[None])
    outputs = {m.kind: value for m, value in model.outputs(prepared, AGE_50, labels)}
    assert outputs["linear"] == pytest.approx(expected.item(), abs=1e-4)
    logit = model.predict(prepared, AGE_50, labels).logit
    assert logit == pytest.approx((outputs["network"] + outputs["linear"]) / 2)
    assert "1 network and 1 linear model," in model.describe()[1]
    with pytest.raises(ValueError, match="this hpv model needs the lesions"):
        model.predict(prepared, AGE_50)


def test_unknown_measures_are_refused(tmp_path: Path) -> None:
    export(tmp_path, HpvCard, members=[linear_member(LinearModel(1, len(MEASURES)))], fields=HPV)
    folder = with_card(tmp_path, tmp_path / "model", measures=MEASURES[::-1])
    with pytest.raises(ModelError, match=r"expected the hpv model in .* the measures mtv_ml, "):
        HpvModel.load(folder)


def test_network_listed_as_linear_is_refused(hpv_folder: Path, tmp_path: Path) -> None:
    card = json.loads((hpv_folder / "model.json").read_text())
    members = [member | {"kind": "linear"} for member in card["members"]]
    folder = with_card(hpv_folder, tmp_path / "model", members=members, measures=MEASURES)
    with pytest.raises(ModelError, match=r"'measures': .* as its card says, found"):
        HpvModel.load(folder)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_hpv_decision_follows_the_threshold(
    hpv_folder: Path, tmp_path: Path, make_prepared: Make, threshold: float
) -> None:
    folder = with_card(hpv_folder, tmp_path / "model", threshold=threshold)
    decision = HpvModel.load(folder).predict(make_prepared(), AGE_50).decision
    assert decision is (threshold == 0)


def test_hpv_depends_on_image_and_clinical_record(hpv_folder: Path, make_prepared: Make) -> None:
    model = HpvModel.load(hpv_folder)
    logit = model.predict(make_prepared(0), AGE_50).logit
    assert model.predict(make_prepared(1), AGE_50).logit != logit
    assert model.predict(make_prepared(0), ClinicalRecord()).logit != logit


def test_risk_is_the_mean_of_standardised_risks(survival_folder: Path, make_prepared: Make) -> None:
    model = SurvivalModel.load(survival_folder)
    prepared = make_prepared()
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    labels[2, 20, 26] = Label.GTVP
    labels[4, 22, 27] = Label.GTVN
    record = ClinicalRecord(age=50, hpv=0.9)
    card = model.card
    image = channels_of(prepared, card, labels)
    # The lesions' centre is (3, 21, 26 or 27); the window of 16 is moved back into the region.
    window = torch.from_numpy(image[None, :, 0:16, 8:24, 12:28].copy())
    clinical = torch.from_numpy(encode(record, card.clinical)[None])
    with torch.no_grad():
        first, second = (random_survival(seed)(window, clinical).item() for seed in (0, 1))
    expected = ((first - 0.5) / 2.0 + (second + 1.0) / 0.5) / 2
    assert model.predict(prepared, labels, record) == pytest.approx(expected, abs=1e-3)


def test_risk_without_a_lesion_is_finite(survival_folder: Path, make_prepared: Make) -> None:
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    risk = SurvivalModel.load(survival_folder).predict(make_prepared(), labels, ClinicalRecord())
    assert isinstance(risk, float)
    assert math.isfinite(risk)


def test_risk_depends_on_lesions_and_hpv(survival_folder: Path, make_prepared: Make) -> None:
    model = SurvivalModel.load(survival_folder)
    none = np.zeros(SHAPE_ZYX, np.uint8)
    # The lesion is in the middle of the region, so the window is the same without it.
    lesion = none.copy()
    lesion[8:13, 10:15, 12:17] = Label.GTVN
    risk = model.predict(make_prepared(), none, AGE_50)
    assert model.predict(make_prepared(), lesion, AGE_50) != risk
    assert model.predict(make_prepared(), none, replace(AGE_50, hpv=1.0)) != risk


@pytest.mark.parametrize("task", ["hpv", "survival"])
def test_window_larger_than_the_region_is_refused(
    task: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = {"hpv": HpvModel, "survival": SurvivalModel}[task]
    preparation = {"spacing_mm": 2, "size_xyz": (16, 16, 12), "interpolation": "linear"}
    folder = request.getfixturevalue(f"{task}_folder")
    folder = with_card(folder, tmp_path / "model", preparation=preparation)
    with pytest.raises(ModelError, match=r"region of \(12, 16, 16\) .*found \(16, 16, 16\)"):
        model.load(folder)


def test_model_of_another_task_is_refused(hpv_folder: Path) -> None:
    with pytest.raises(ModelError, match="expected a model for survival"):
        SurvivalModel.load(hpv_folder)


def test_serving_loads_no_training_library() -> None:
    code = """
import sys
import shared.models.hpv, shared.models.segmentation, shared.models.survival
print({"torch", "monai", "pandas", "sklearn", "scipy", "onnx"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("place", [".", "segmentation", "hpv"])
def test_each_bundled_folder_is_sealed(
    survival_folder: Path,
    segmentation_folder: Path,
    hpv_folder: Path,
    tmp_path: Path,
    place: str,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(survival_folder, model)
    shutil.copytree(segmentation_folder, model / "segmentation")
    shutil.copytree(hpv_folder, model / "hpv")
    folders = {
        "survival": model,
        "segmentation": model / "segmentation",
        "hpv": model / "hpv",
    }
    Chain.load(**folders)
    (model / place / "weights.bin").touch()
    with pytest.raises(ModelError, match=r"found 'weights\.bin'; remove it"):
        Chain.load(**folders)


# Kinds of members together


def prognosis_model(weights: dict[str, float], offset: float = 0.0) -> HpvModel:
    """Return a model of two networks and a linear model, without its graphs."""
    members = [
        {"file": "a.onnx", "sha256": "0" * 64, "kind": "network"},
        {
            "file": "b.onnx",
            "sha256": "0" * 64,
            "kind": "network",
            "risk_mean": 1.0,
            "risk_std": 2.0,
        },
        {"file": "c.onnx", "sha256": "0" * 64, "kind": "linear"},
    ]
    fields = {**HPV, "measures": MEASURES, "members": members, "weights": weights}
    model = object.__new__(HpvModel)
    model.card = HpvCard.model_validate({**fields, "offset": offset})
    return model


def test_kinds_are_weighted_as_the_card_says() -> None:
    model = prognosis_model({"network": 0.1, "linear": 2.0}, offset=-0.5)
    outputs = list(zip(model.card.members, (6.0, 9.0, 1.5), strict=True))
    assert model.weighted(outputs) == pytest.approx(0.1 * (6 + (9 - 1) / 2) / 2 + 2 * 1.5 - 0.5)
    assert model.combine(outputs).logit == model.weighted(outputs)
    # If all outputs are of one kind, no weights are used.
    assert model.weighted(outputs[:2]) == 5.0
    assert model.weighted(outputs[2:]) == 1.5


def test_without_weights_all_members_count_alike() -> None:
    model = prognosis_model({})
    outputs = list(zip(model.card.members, (6.0, 9.0, 1.5), strict=True))
    assert model.weighted(outputs) == (6.0 + 4.0 + 1.5) / 3


@pytest.mark.parametrize("weights", [{"network": 1.0}, {"network": 0.0, "linear": 0.0}])
def test_weights_that_do_not_fit_the_members_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="expected weights of linear and network, not all"):
        prognosis_model(weights)
