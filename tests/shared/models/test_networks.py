"""The torch networks: their shapes and their parts for serving, and that every weight learns."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from shared.models.networks.base import EncoderDecoder, SegmentationNetworkConfig
from shared.models.networks.discovery import SEGMENTATION_NETWORKS
from shared.models.networks.dynunet import DynUNetConfig
from shared.models.networks.hpv import HpvNetwork
from shared.models.networks.nnunet import UpBlock, build_unet
from shared.models.networks.resenc_unet import ResEncUNet, ResEncUNetConfig
from shared.models.networks.segresnet import SegResNetConfig
from shared.models.networks.survival import SurvivalConfig
from tests.shared.models.small_networks import (
    HPV_HEAD,
    UNET,
    random_hpv,
    random_survival,
    random_unet,
)

HEADS = DynUNetConfig(filters=(4, 8, 8, 8), deep_supervision_heads=2)
SEGRESNET = SegResNetConfig(filters=8, blocks_down=(1, 1, 2), blocks_up=(1, 1), dropout=0.2)
RESENC = ResEncUNetConfig(filters=(4, 8, 8), blocks_down=(1, 2, 1))
RESENC_HEADS = RESENC.model_copy(update={"deep_supervision_heads": 1})
EACH_NETWORK = pytest.mark.parametrize(
    "config",
    [UNET, HEADS, SEGRESNET, RESENC, RESENC_HEADS],
    ids=["dynunet", "dynunet with heads", "segresnet", "resenc", "resenc with heads"],
)


def image(channels: int = 2, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def network_of(config: SegmentationNetworkConfig) -> nn.Module:
    torch.manual_seed(0)
    return config.build(in_channels=2).eval()


def hpv_network(backbone: SegmentationNetworkConfig) -> HpvNetwork:
    torch.manual_seed(0)
    return HPV_HEAD.build(backbone, in_channels=2, clinical_features=1).eval()


def without_gradient(network: nn.Module) -> list[str]:
    return [name for name, weight in network.named_parameters() if weight.grad is None]


def test_networks_are_found_by_name() -> None:
    expected = {
        "dynunet": DynUNetConfig,
        "resenc_unet": ResEncUNetConfig,
        "segresnet": SegResNetConfig,
    }
    assert expected == SEGMENTATION_NETWORKS


@EACH_NETWORK
def test_segmentation_network_gives_one_logit_per_class_and_voxel(
    config: SegmentationNetworkConfig,
) -> None:
    assert network_of(config)(image(batch=2)).shape == (2, 3, 16, 16, 16)


@EACH_NETWORK
def test_reference_is_the_network_in_evaluation_mode(config: SegmentationNetworkConfig) -> None:
    network = network_of(config)
    with torch.no_grad():
        assert torch.equal(config.reference(network)(image()), network(image()))


@EACH_NETWORK
def test_serving_equals_the_reference(config: SegmentationNetworkConfig) -> None:
    network = network_of(config)
    with torch.no_grad():
        expected, logits = config.reference(network)(image()), config.serving(network)(image())
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@EACH_NETWORK
def test_bottleneck_has_the_channels_and_size_of_the_configuration(
    config: SegmentationNetworkConfig,
) -> None:
    bottleneck = config.encoder(network_of(config))(image())[-1]
    side = 16 // config.divisor
    assert bottleneck.shape == (1, config.bottleneck_channels, side, side, side)


@EACH_NETWORK
def test_parts_share_the_weights_of_the_network(config: SegmentationNetworkConfig) -> None:
    network = network_of(config)
    weights = {id(weight) for weight in network.parameters()}
    for part in (config.encoder(network), config.decoder(network)):
        assert {id(weight) for weight in part.parameters()} < weights


@pytest.mark.parametrize(("config", "levels"), [(HEADS, 3), (RESENC_HEADS, 2)])
def test_deep_supervision_gives_more_logits_in_training_only(
    config: SegmentationNetworkConfig, levels: int
) -> None:
    network = network_of(config)
    logits = network.train()(image())
    assert logits.shape == (1, levels, 3, 16, 16, 16)
    if config is RESENC_HEADS:  # It has no dropout, so the finest level is that of serving.
        torch.testing.assert_close(logits[:, 0], network.eval()(image()))
    assert network.eval()(image()).shape == (1, 3, 16, 16, 16)


def test_resenc_equals_the_network_of_the_package() -> None:
    torch.manual_seed(0)
    unet = build_unet(
        residual=True,
        in_channels=2,
        classes=3,
        n_stages=3,
        features_per_stage=(4, 8, 8),
        kernel_sizes=3,
        strides=(1, 2, 2),
        n_blocks_per_stage=(1, 2, 1),
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin_kwargs={"inplace": True},
    ).eval()
    with torch.no_grad():
        torch.testing.assert_close(network_of(RESENC)(image()), unet(image()))


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_fused_block_carries_a_bias_through_the_border(bias: float) -> None:
    """The bias is 0 before training. Beyond the border, the convolution reads padding instead."""
    network = network_of(RESENC)
    assert isinstance(network, ResEncUNet)
    for block in network.decoder.blocks:
        assert isinstance(block, UpBlock)
        assert block.enlarge.bias is not None
        nn.init.constant_(block.enlarge.bias, bias)
    serving = RESENC.serving(network)
    assert isinstance(serving, EncoderDecoder)
    assert [block.has_ones for block in serving.decoder.blocks] == [bias > 0] * 2
    with torch.no_grad():
        torch.testing.assert_close(serving(image()), network(image()), atol=1e-4, rtol=0)


def test_resenc_of_the_preset_m_has_102_million_parameters() -> None:
    with torch.device("meta"):
        network = ResEncUNetConfig().build(in_channels=2)
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(102e6, rel=0.01)


@pytest.mark.parametrize("strides", [(1, 2, 2, 2), (1, 2, 1, 2), (1, 3, 2, 2)])
def test_fused_decoder_equals_the_trained_one_for_any_strides(strides: tuple[int, ...]) -> None:
    config = DynUNetConfig(filters=HEADS.filters, strides=strides, deep_supervision_heads=2)
    network = network_of(config)
    voxels = torch.randn(2, 2, 24, 24, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, logits = config.reference(network)(voxels), config.serving(network)(voxels)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_only_levels_of_stride_2_are_fused() -> None:
    config = DynUNetConfig(filters=(4, 8, 8, 8), strides=(1, 2, 1, 2))
    serving = config.serving(network_of(config))
    assert isinstance(serving, EncoderDecoder)
    names = [type(block).__name__ for block in serving.decoder.blocks]
    assert names == ["FusedUpBlock", "UnetUpBlock", "FusedUpBlock"]


def test_dynunet_halves_each_level_but_the_first_by_default() -> None:
    assert DynUNetConfig(filters=(4, 8, 12)).strides == (1, 2, 2)
    assert DynUNetConfig().divisor == 16
    assert DynUNetConfig(filters=(4, 8, 12), strides=(1, 3, 2)).divisor == 6


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (DynUNetConfig, {"strides": (1, 2)}, "one stride each, found 5 levels and 2 strides"),
        (DynUNetConfig, {"filters": (8,)}, "at least two levels"),
        (DynUNetConfig, {"filters": "wide"}, "filters"),
        (DynUNetConfig, {"deep_supervision_heads": -1}, "deep_supervision_heads"),
        (SegResNetConfig, {"blocks_up": (1, 1)}, "than the 4 of blocks_down, found 2"),
        (SegResNetConfig, {"filters": 12}, "expected filters that form 8 groups, found 12"),
        (SegResNetConfig, {"strides": (1, 2)}, "strides"),
        (ResEncUNetConfig, {"filters": (8, 8)}, "found 2 filters and 6 numbers of blocks"),
        (ResEncUNetConfig, {"deep_supervision_heads": 5}, "expected at most 4"),
    ],
)
def test_impossible_shape_is_refused(
    config: type[SegmentationNetworkConfig], fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        config.model_validate(fields)


def test_dynunet_of_the_paper_has_16_million_parameters() -> None:
    network = DynUNetConfig().build(in_channels=2)
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(16.5e6, rel=0.01)


@EACH_NETWORK
def test_removing_the_decoder_changes_no_hpv_logit(config: SegmentationNetworkConfig) -> None:
    network = hpv_network(config)
    clinical = torch.tensor([[0.3]])
    with torch.no_grad():
        _, logit = network(image(), clinical)
        alone = HPV_HEAD.serving(network)(image(), clinical)
    assert alone.shape == (1, 1)
    torch.testing.assert_close(alone, logit, atol=1e-5, rtol=0)


@EACH_NETWORK
def test_hpv_network_segments_like_its_backbone(config: SegmentationNetworkConfig) -> None:
    network = hpv_network(config)
    with torch.no_grad():
        logits, _ = network(image(), torch.zeros(1, 1))
        torch.testing.assert_close(logits, network.backbone(image()))


@EACH_NETWORK
def test_classifier_has_no_weight_of_the_decoder(config: SegmentationNetworkConfig) -> None:
    network = hpv_network(config)
    weights = {id(weight) for weight in network.parameters()}
    decoder = {id(w) for w in config.decoder(network.backbone).parameters()}
    assert {id(weight) for weight in network.classifier().parameters()} == weights - decoder


@pytest.mark.parametrize("mode", [True, False])
def test_classifier_is_in_the_mode_of_its_network(mode: bool) -> None:
    network = random_hpv(0).train(mode)
    assert {module.training for module in network.classifier().modules()} == {mode}


@EACH_NETWORK
def test_hpv_network_starts_from_a_segmentation_network(config: SegmentationNetworkConfig) -> None:
    torch.manual_seed(5)
    segmentation = config.build(in_channels=2).eval()
    network = hpv_network(config)
    network.load_segmentation(segmentation.state_dict())
    with torch.no_grad():
        logits, _ = network(image(), torch.zeros(1, 1))
        torch.testing.assert_close(logits, segmentation(image()))


def test_segmentation_network_of_another_shape_is_refused() -> None:
    other = random_unet(0, DynUNetConfig(filters=(4, 8, 16)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        random_hpv(0).load_segmentation(other.state_dict())


def test_hpv_logit_depends_on_image_and_clinical_values() -> None:
    part = random_hpv(0).classifier()
    with torch.no_grad():
        logit = part(image(), torch.zeros(1, 1))
        assert part(2 * image() ** 2, torch.zeros(1, 1)) != logit
        assert part(image(), torch.ones(1, 1)) != logit


@EACH_NETWORK
def test_every_weight_of_the_segmentation_network_learns(config: SegmentationNetworkConfig) -> None:
    network = network_of(config).train()
    network(image(batch=2)).square().mean().backward()
    assert without_gradient(network) == []


@EACH_NETWORK
def test_every_weight_of_the_hpv_network_learns(config: SegmentationNetworkConfig) -> None:
    network = hpv_network(config).train()
    logits, logit = network(image(batch=2), torch.randn(2, 1))
    (logits.mean() + logit.mean()).backward()
    assert without_gradient(network) == []


def test_every_weight_of_the_survival_network_learns() -> None:
    network = random_survival(0).train()
    network(torch.randn(4, 4, 32, 32, 32), torch.randn(4, 2)).var().backward()
    assert without_gradient(network) == []


def test_survival_risk_depends_on_masks_and_clinical_values() -> None:
    network = random_survival(0)
    clinical = torch.zeros(1, 2)
    mask = torch.zeros(1, 4, 32, 32, 32)
    mask[:, 2, 8:24, 8:24, 8:24] = 1
    with torch.no_grad():
        risk = network(torch.zeros_like(mask), clinical)
        assert risk.shape == (1, 1)
        assert network(mask, clinical) != risk
        assert network(torch.zeros_like(mask), clinical + 1) != risk


def test_survival_network_has_by_default_the_size_of_resnet18() -> None:
    network = SurvivalConfig().build(in_channels=4, clinical_features=8)
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters == pytest.approx(33.2e6, rel=0.01)
