"""Weight gradients of 3x3x3 convolutions equal torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from training import convolution
from training.convolution import use_fast_weight_gradients, weight_gradient


def gradients(layer: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Return the gradients of image, weight and bias of a sum of weighted results."""
    image = image.clone().requires_grad_()
    result = layer(image)
    weights = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
    parameters = [image, *layer.parameters()]
    return list(torch.autograd.grad((result * weights).sum(), parameters))


@pytest.mark.parametrize("inputs, outputs", [(2, 16), (16, 8), (5, 3)])
@pytest.mark.parametrize("shape", [(32, 32, 32), (17, 40, 51), (1, 5, 4)])
def test_weight_gradient_is_torchs(inputs: int, outputs: int, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, inputs, *shape, dtype=torch.float32)
    gradient = torch.randn(2, outputs, *shape)
    expected = nn.grad.conv3d_weight(
        image.double(), (outputs, inputs, 3, 3, 3), gradient.double(), padding=1
    )
    found = weight_gradient(image, gradient).double()
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_has_torchs_gradients(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1, bias=bias))
    fast = copy.deepcopy(plain)
    use_fast_weight_gradients(fast)
    assert type(fast[0]) is not nn.Conv3d
    image = torch.randn(2, 3, 33, 32, 34)
    for found, expected in zip(gradients(fast, image), gradients(plain, image), strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    with torch.no_grad():
        assert torch.equal(fast(image), plain(image))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(2, 2, 3, padding=1, stride=2),
        nn.Conv3d(2, 2, 1),
        nn.Conv3d(2, 2, 3, padding=2, dilation=2),
        nn.Conv3d(2, 2, 3, padding=1, groups=2),
        nn.ConvTranspose3d(2, 2, 3, padding=1),
    ],
)
def test_other_layers_stay_torchs(layer: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    kind = type(layer)
    use_fast_weight_gradients(layer)
    assert type(layer) is kind


def test_small_images_go_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(convolution, "weight_gradient", pytest.fail)
    layer = nn.Conv3d(1, 1, 3, padding=1)
    use_fast_weight_gradients(layer)
    gradients(layer, torch.randn(1, 1, 8, 8, 8))
