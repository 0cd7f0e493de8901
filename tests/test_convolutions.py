"""training/convolutions.py: the same gradients as nn.Conv2d's, and which layers are exchanged."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ferlib.training.convolutions import InFloat32, KernelGradient, WideConv2d, kernel_gradient, use_fast_gradients
from models import create_model


@pytest.mark.parametrize(("side", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 2, 2), (3, 1, 0), (2, 2, 0)])
@pytest.mark.parametrize("shape", [(7, 7), (6, 9)])
def test_kernel_gradient_is_autograds(side, stride, padding, shape):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 4, *shape, generator=generator, dtype=torch.float64)
    kernel = torch.randn(5, 4, side, side, generator=generator, dtype=torch.float64, requires_grad=True)
    output = F.conv2d(images, kernel, None, stride, padding)
    gradient = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(output, kernel, gradient)
    torch.testing.assert_close(kernel_gradient(gradient, images, side, stride, padding), expected)


def test_both_gradients_of_the_function():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: KernelGradient.apply(x, w, 2, 1), (images, kernel))


def test_which_convolutions_are_exchanged():
    model = nn.Sequential(
        nn.Conv2d(128, 128, 3, padding=1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),  # few channels
        nn.Conv2d(128, 128, 1, bias=False),  # no patches
        nn.Conv2d(128, 128, 3, padding=1),  # with a bias
        nn.Conv2d(128, 128, 3, padding="same", bias=False),
        nn.Conv2d(128, 128, 3, dilation=2, bias=False),
        nn.Conv2d(128, 128, (3, 1), bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
    )
    names = list(model.state_dict())
    use_fast_gradients(model)
    assert [type(layer) is WideConv2d for layer in model] == [True] + 7 * [False]
    assert [isinstance(layer, InFloat32) for layer in model] == 7 * [False] + [True]
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("name", ["fer_resnet_wide", "timm/tf_efficientnet_lite0"])
def test_gradients_in_bfloat16_are_those_of_the_model_as_it_was(name):
    """No farther from those in float32 than the model's own are."""
    torch.manual_seed(0)
    plain = create_model(name, image_size=48, dropout=0.0).train()
    fast = copy.deepcopy(plain)
    use_fast_gradients(fast)
    assert any(type(layer) is WideConv2d or isinstance(layer, InFloat32) for layer in fast.modules())
    faces = torch.rand(8, 1, 48, 48)

    def gradient(model, enabled):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = F.cross_entropy(model(faces).float(), torch.arange(8) % 7)
        loss.backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    exact, usual, found = gradient(plain, False), gradient(plain, True), gradient(fast, True)
    assert (found - exact).norm() < 1.2 * (usual - exact).norm()


def test_the_mean_of_the_weights_can_be_copied_and_evaluated():
    model = create_model("fer_resnet_wide")
    use_fast_gradients(model)
    copied = copy.deepcopy(model).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(copied(torch.ones(1, 1, 44, 44)), model.eval()(torch.ones(1, 1, 44, 44)))
