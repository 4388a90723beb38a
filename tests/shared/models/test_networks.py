from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from shared.models.networks.dynunet import DynUNetConfig, Serving, WithoutHeads, build
from shared.models.networks.hpv import HpvConfig, HpvNetwork
from shared.models.networks.survival import SurvivalConfig, SurvivalNetwork
from tests.shared.models.small_networks import UNET, random_hpv, random_survival, random_unet

HEADS = replace(UNET, filters=(4, 8, 8, 8), strides=(1, 2, 2, 2), deep_supervision_heads=2)


def image(channels: int = 2, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def without_gradient(network: nn.Module) -> list[str]:
    return [name for name, weight in network.named_parameters() if weight.grad is None]


def test_dynunet_gives_one_logit_a_class_and_voxel() -> None:
    assert random_unet(0)(image(batch=2)).shape == (2, 3, 16, 16, 16)


def test_deep_supervision_gives_more_logits_in_training_only() -> None:
    network = build(HEADS)
    assert network.train()(image()).shape == (1, 3, 3, 16, 16, 16)
    assert network.eval()(image()).shape == (1, 3, 16, 16, 16)


def test_leaving_out_the_heads_changes_no_logit() -> None:
    network = random_unet(0, HEADS)
    with torch.no_grad():
        assert torch.equal(WithoutHeads(network)(image()), network(image()))


@pytest.mark.parametrize("strides", [(1, 2, 2, 2), (1, 2, 1, 2), (1, 3, 2, 2)])
def test_the_network_that_serves_is_the_one_that_was_trained(strides: tuple[int, ...]) -> None:
    network = random_unet(0, replace(HEADS, strides=strides))
    voxels = torch.randn(2, 2, 24, 24, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = WithoutHeads(network)(voxels), Serving(network)(voxels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_divisor_is_the_product_of_the_strides() -> None:
    assert DynUNetConfig().divisor == 16


def test_filters_and_strides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one stride for each of 3 levels, found 5"):
        DynUNetConfig(filters=(4, 8, 12))


def test_removing_the_decoder_changes_no_hpv_logit() -> None:
    network = random_hpv(0)
    clinical = torch.tensor([[0.3]])
    with torch.no_grad():
        _, logit = network(image(), clinical)
        alone = network.classifier()(image(), clinical)
    assert alone.shape == (1, 1)
    torch.testing.assert_close(alone, logit, atol=1e-5, rtol=0)


def test_hpv_network_segments_as_its_unet_does() -> None:
    network = random_hpv(0)
    with torch.no_grad():
        logits, _ = network(image(), torch.zeros(1, 1))
        torch.testing.assert_close(logits, network.unet(image()))


def test_classifier_has_no_weight_of_the_decoder() -> None:
    network = random_hpv(0)
    everything = {id(weight) for weight in network.parameters()}
    part = {id(weight) for weight in network.classifier().parameters()}
    decoder = {
        id(w) for m in (network.unet.upsamples, network.unet.output_block) for w in m.parameters()
    }
    assert part == everything - decoder


def test_hpv_network_starts_from_a_segmentation_network_with_heads() -> None:
    segmentation = random_unet(5, HEADS)
    network = HpvNetwork(HpvConfig(unet=HEADS)).eval()
    network.load_segmentation(segmentation.state_dict())
    with torch.no_grad():
        logits, _ = network(image(), torch.zeros(1, 4))
        torch.testing.assert_close(logits, segmentation(image()))


def test_segmentation_network_of_another_shape_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        random_hpv(0).load_segmentation(
            random_unet(0, replace(UNET, filters=(4, 8, 16))).state_dict()
        )


def test_hpv_logit_depends_on_image_and_clinical_values() -> None:
    part = random_hpv(0).classifier()
    with torch.no_grad():
        logit = part(image(), torch.zeros(1, 1))
        assert part(2 * image() ** 2, torch.zeros(1, 1)) != logit
        assert part(image(), torch.ones(1, 1)) != logit


def test_every_weight_of_the_hpv_network_learns() -> None:
    network = random_hpv(0).train()
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


def test_survival_network_of_the_paper_has_the_size_of_a_resnet18() -> None:
    parameters = sum(weight.numel() for weight in SurvivalNetwork(SurvivalConfig()).parameters())
    assert parameters == pytest.approx(33.2e6, rel=0.01)
