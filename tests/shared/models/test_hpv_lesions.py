"""The Task 3 head on the lesions: pooling by hand, gradients, and serving."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.clinical import ClinicalRecord
from shared.conventions import Label
from shared.geometry import Grid
from shared.models.hpv import HpvCard, HpvModel
from shared.models.networks.base import SegmentationNetworkConfig
from shared.models.networks.dynunet import DynUNetConfig
from shared.models.networks.hpv_lesions import LesionHpvConfig, LesionHpvNetwork, LesionPooling
from shared.models.networks.segresnet import SegResNetConfig
from shared.preprocessing.intensity import network_channels, scale_images
from shared.preprocessing.pipeline import Prepared, Undo
from shared.preprocessing.window import lesion_centre, window_box
from tests.shared.models.small_networks import HPV, REGION_XYZ, WINDOW_ZYX
from training.export.model_folder import MemberModel, export

UNET = DynUNetConfig(filters=(4, 8, 12))
RESNET = SegResNetConfig(filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1))
EACH_NETWORK = pytest.mark.parametrize(
    "backbone", [UNET, RESNET], ids=lambda config: config.architecture
)
CHANNELS = ("CT", "PET", "GTVp", "GTVn")


def network_of(
    backbone: SegmentationNetworkConfig, encoder: Literal["frozen", "trained"] = "frozen"
) -> LesionHpvNetwork:
    torch.manual_seed(0)
    config = LesionHpvConfig(head="lesions", encoder=encoder, strides=(2, 4))
    network = config.build(backbone, in_channels=2, clinical_features=1)
    for name, value in network.head.image[0].named_buffers():  # as if trained
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 2.0) if name == "running_var" else None
    return network


def batch(count: int = 2) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    image = torch.randn(count, 4, 16, 16, 16, generator=rng)
    image[:, 2:] = 0
    image[:, 2, 2:8, 2:8, 2:8] = 1
    image[:, 3, 9:13, 9:15, 3:9] = 1
    return image, torch.randn(count, 1, generator=rng)


# Pooling


def pooled(level: Tensor, lesions: Tensor) -> list[float]:
    """Return the pooled features of one level with a single channel."""
    return LesionPooling([0])([level], lesions)[0].tolist()


def test_pooling_by_hand() -> None:
    level = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    lesions = torch.zeros(1, 2, 4, 4, 4)
    lesions[0, 0, 3, 3, 3] = 1  # one voxel, in the last coarse voxel
    lesions[0, 1, 0, 0, :] = 1  # two voxels in each of the first two coarse voxels
    lesions[0, 1, 0, 1, 3] = 1  # and a third in the second
    primary, nodes, *sizes = pooled(level, lesions)
    assert primary == pytest.approx(7)
    assert nodes == pytest.approx((2 * 0 + 3 * 1) / 5)
    assert sizes == pytest.approx([np.log1p(1), np.log1p(5)])


def test_pooling_of_an_absent_class_is_zero() -> None:
    level = torch.full((1, 1, 2, 2, 2), 5.0)
    assert pooled(level, torch.zeros(1, 2, 4, 4, 4)) == [0, 0, 0, 0]


def test_touching_lesions_share_a_coarse_voxel_by_their_parts() -> None:
    level = torch.zeros(1, 1, 2, 2, 2)
    level[0, 0, 0, 0] = torch.tensor([1.0, 3.0])
    lesions = torch.zeros(1, 2, 4, 4, 4)
    lesions[0, 0, :2, :2, 0] = 1  # GTVp fills half of the first coarse voxel
    lesions[0, 1, :2, :2, 1:4] = 1  # GTVn fills the rest of it, and the second one
    primary, nodes, *_ = pooled(level, lesions)
    assert primary == pytest.approx(1)
    assert nodes == pytest.approx((0.5 * 1 + 1 * 3) / 1.5)


def test_probabilities_weigh_like_parts_of_voxels() -> None:
    level = torch.zeros(1, 1, 1, 1, 2)
    level[..., 0], level[..., 1] = 2.0, 6.0
    lesions = torch.zeros(1, 2, 2, 2, 4)
    lesions[0, 0, ..., :2], lesions[0, 0, ..., 2:] = 0.25, 0.75
    primary, _, size, _ = pooled(level, lesions)
    assert primary == pytest.approx(0.25 * 2 + 0.75 * 6)
    assert size == pytest.approx(np.log1p(8 * 0.25 + 8 * 0.75))


def test_anisotropic_levels_are_pooled_along_each_axis() -> None:
    level = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 1, 2)
    lesions = torch.zeros(1, 2, 3, 2, 4)
    lesions[0, 0, 1, 1, 3] = 1
    assert pooled(level, lesions)[0] == pytest.approx(2)


# The network


@EACH_NETWORK
def test_features_are_those_of_the_chosen_levels(backbone: SegmentationNetworkConfig) -> None:
    network = network_of(backbone).eval()
    image, _ = batch()
    with torch.no_grad():
        levels = network.encoder(image[:, :2])
        found = network.classifier().pooled(image)
    expected = []
    for each in (levels[-2], levels[-1]):
        stride = 16 // each.shape[2]
        for lesion in (2, 3):
            weight = torch.nn.functional.avg_pool3d(image[:, lesion : lesion + 1], stride)
            expected.append((weight * each).sum((2, 3, 4)) / weight.sum((2, 3, 4)))
    torch.testing.assert_close(found[:, :-2], torch.cat(expected, dim=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0, -2:], torch.log1p(torch.tensor([216.0, 144.0])))


@EACH_NETWORK
@pytest.mark.parametrize("encoder", ["frozen", "trained"])
def test_gradient_reaches_the_encoder_only_if_it_is_trained(
    backbone: SegmentationNetworkConfig, encoder: Literal["frozen", "trained"]
) -> None:
    network = network_of(backbone, encoder).train()
    image, clinical = batch()
    network(image, clinical).sum().backward()
    used = [w for w in network.encoder.parameters() if w.grad is not None and w.grad.abs().sum()]
    assert bool(used) == (encoder == "trained")
    assert all(weight.grad is not None for weight in network.head.parameters())
    assert network.encoder.training == (encoder == "trained")


@EACH_NETWORK
def test_it_starts_from_the_encoder_of_a_task_1_network(
    backbone: SegmentationNetworkConfig,
) -> None:
    torch.manual_seed(7)
    task1 = backbone.build(2).eval()
    whole, part = network_of(backbone), network_of(backbone)
    whole.load_segmentation(task1.state_dict())
    part.load_encoder(backbone.encoder(task1).state_dict())
    image, _ = batch()
    with torch.no_grad():
        expected = backbone.encoder(task1)(image[:, :2])
        for network in (whole, part):
            for found, level in zip(network.encoder(image[:, :2]), expected, strict=True):
                assert torch.equal(found, level)


def test_a_stride_that_the_network_lacks_is_refused() -> None:
    config = LesionHpvConfig(head="lesions", strides=(4, 16))
    with pytest.raises(ValueError, match=r"that the Task 1 network has \(1, 2, 4\), found 16"):
        config.build(UNET, in_channels=2, clinical_features=1)


# Serving


@pytest.fixture
def prepared() -> Prepared:
    rng = np.random.default_rng(0)
    shape = REGION_XYZ[::-1]
    grid = Grid(REGION_XYZ, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    ct_hu = rng.uniform(-200, 300, shape).astype(np.float32)
    pet_suv = rng.uniform(0, 15, shape).astype(np.float32)
    return Prepared(
        ct_hu=ct_hu, pet_suv=pet_suv, body=ct_hu > -500, undo=Undo(grid, grid), remarks=()
    )


@EACH_NETWORK
def test_served_equals_trained(
    backbone: SegmentationNetworkConfig, prepared: Prepared, tmp_path: Path
) -> None:
    network = network_of(backbone).eval()
    config = LesionHpvConfig(head="lesions", strides=(2, 4))
    card = export(
        tmp_path,
        HpvCard,
        members=[MemberModel(name="hpv", model=network, config=config)],
        fields={**HPV, "channels": CHANNELS},
    )
    labels = np.zeros(prepared.ct_hu.shape, np.uint8)
    labels[2:6, 14:20, 15:24] = Label.GTVP
    labels[9:12, 20:23, 20:26] = Label.GTVN
    box = window_box(labels.shape, WINDOW_ZYX, lesion_centre(labels))
    images = scale_images(prepared.ct_hu, prepared.pet_suv, card.intensity)
    image = torch.from_numpy(network_channels(images, CHANNELS, labels)[:, *box][None])
    with torch.no_grad():
        expected = float(network(image, torch.tensor([[(50 - 60) / 9]])))
    model = HpvModel.load(tmp_path)
    record = ClinicalRecord(age=50.0)
    assert model.predict(prepared, record, labels).logit == pytest.approx(expected, abs=1e-4)
    assert np.isfinite(model.predict(prepared, record, labels * 0).logit)
    with pytest.raises(ValueError, match="this hpv model needs the lesions"):
        model.predict(prepared, record)


def test_networks_with_one_encoder_become_one_with_the_same_mean_logit() -> None:
    config = LesionHpvConfig(head="lesions", strides=(2, 4))
    first, second, third = (network_of(UNET).eval() for _ in range(3))
    for number, network in enumerate((first, second, third)):
        torch.nn.init.constant_(network.head.output.bias, float(number))
    image, clinical = batch()
    with torch.no_grad():
        logits = [network(image, clinical) for network in (first, second, third)]
        (merged,) = config.merged([first, second, third])
        torch.testing.assert_close(merged(image, clinical), sum(logits) / 3)


def test_networks_with_different_encoders_stay_apart() -> None:
    config = LesionHpvConfig(head="lesions", strides=(2, 4))
    first, second = network_of(UNET), network_of(UNET)
    with torch.no_grad():
        next(second.encoder.parameters()).add_(1)
    assert config.merged([first, second]) == [first, second]
