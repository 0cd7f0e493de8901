"""inference/folding.py, fast_gradients.py, compiled.py: the prepared copy of every model computes the same logits."""

import copy
import shutil

import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from ferlib.inference import compiled
from ferlib.inference.compiled import CompiledIfWorth, compile_or_keep
from ferlib.inference.fast_gradients import GlobalAverage, StridedDepthwise, StridedStem, speed_up_gradients
from ferlib.inference.folding import find_pairs, prepare
from ferlib.runtime.devices import autocast
from models import create_model
from zoo import KINDS, LIGHT, make_classifier, random_faces, slow_unless, small_spec

OTHER_BATCH_NORMS = {"densenet121": 62, "rmn": 6, "googlenet": 2, "inception_v3": 2}  # no convolution alone before them


def make_trained(name):
    """Random weights, and batch norms with random statistics and weights."""
    model = copy.deepcopy(make_classifier(name))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return model.eval()


@pytest.mark.parametrize("name", slow_unless(LIGHT, KINDS))
def test_the_prepared_copy_gives_the_same_logits(name):
    model, spec = make_trained(name), small_spec(name)
    images = random_faces(2, spec.image_size, spec.channels)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = prepare(model, images, torch.float32)
    with torch.inference_mode():
        expected, found = model(images), fast(images)
        assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())
        with autocast(images.device, torch.bfloat16):
            half = prepare(model, images, torch.bfloat16)(images)
    assert (half.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert not find_pairs(fast, images)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules()) == OTHER_BATCH_NORMS.get(name, 0)
    assert fast.get_submodule(spec.cam_layer) is not None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model was changed"


class Strided(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return self.layers(images).flatten(1)


def compare_gradients(plain, kind, size, generator):
    """The gradients of a first layer's input N×3×size are those of the class `kind`."""
    plain = plain.double()
    images = torch.rand(2, 3, *size, dtype=torch.double, generator=generator, requires_grad=True)
    fast = prepare(plain, images.detach(), torch.double)
    assert type(fast.layers[0]) is kind
    assert type(plain.layers[0]) is nn.Conv2d, "the model was changed"
    weights = torch.randn(plain(images).shape, dtype=torch.double, generator=generator)
    expected, found = (torch.autograd.grad((model(images) * weights).sum(), images)[0] for model in (plain, fast))
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (5, 2, 2), (3, 3, 0), (1, 2, 0), (4, (3, 1), 1)])
@pytest.mark.parametrize("size", [(12, 9), (11, 13)])
def test_gradients_through_strided_depthwise_layers(kernel, stride, padding, size, generator):
    torch.manual_seed(0)
    compare_gradients(Strided(nn.Conv2d(3, 3, kernel, stride, padding, groups=3)), StridedDepthwise, size, generator)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 2, 1), (7, 2, 3), (11, 4, 2), (4, 4, 0), (3, 3, 0), (1, 2, 0), ((5, 3), 2, (1, 2)), (2, 3, 2)],
)
@pytest.mark.parametrize("size", [(24, 19), (16, 17), (21, 22)])
def test_gradients_through_strided_stems(kernel, stride, padding, size, generator):
    torch.manual_seed(0)
    compare_gradients(Strided(nn.Conv2d(3, 8, kernel, stride, padding)), StridedStem, size, generator)


def test_gradients_through_squeeze_and_excitation(generator):
    torch.manual_seed(0)
    block = SqueezeExcitation(8, 4).double()
    images = torch.rand(2, 8, 5, 6, dtype=torch.double, generator=generator).requires_grad_()
    fast = copy.deepcopy(block)
    speed_up_gradients(fast)
    assert type(fast.avgpool) is GlobalAverage
    weights = torch.randn(2, 8, 5, 6, dtype=torch.double, generator=generator)
    expected, found = (torch.autograd.grad((model(images) * weights).sum(), images)[0] for model in (block, fast))
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.equal(fast(images), block(images))


def test_other_convolutions_stay():
    layers = [
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 3, 2, groups=4),
        nn.Conv2d(8, 4, 3, 2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 2, (2, 1)),
    ]
    fast = prepare(Strided(*layers), torch.rand(1, 4, 20, 20), torch.float32)
    assert [type(layer) for layer in fast.layers] == [nn.Conv2d] * 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_where_it_pays(monkeypatch):
    model = prepare(make_trained("mini_resnet"), torch.rand(1, 1, 48, 48), torch.float32)
    images = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(compiled, "COMPILE_WORTH", 0)
    fast = CompiledIfWorth(model, images.shape, passes=4)
    with torch.inference_mode():
        for batch in (images, images, images, images[:3]):
            assert torch.allclose(fast(batch), model(batch), atol=1e-5)
    assert fast.chosen is not model
    monkeypatch.setattr(compiled, "COMPILE_WORTH", 1e9)
    short = CompiledIfWorth(model, images.shape, passes=4)
    with torch.inference_mode():
        short(images)
        short(images)
    assert short.chosen is model


def test_without_a_compiler_the_model_stays(monkeypatch, capsys):
    def refuse(*_, **__):
        def call(images):
            raise RuntimeError("no compiler\nmore")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    model = nn.Linear(2, 2)
    assert compile_or_keep(model, torch.rand(1, 2)) is model
    assert "no compiler" in capsys.readouterr().err


def test_a_convolution_whose_output_goes_elsewhere_too_is_not_folded():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4).eval()

        def forward(self, images):
            cells = self.convolution(images)
            return (cells + self.norm(cells)).mean((2, 3))

    model, images = Both().eval(), torch.rand(2, 1, 3, 3)
    model.norm.running_mean.fill_(3.0)
    with torch.no_grad():
        torch.testing.assert_close(prepare(model, images, torch.float32)(images), model(images))


def test_timm_s_batch_norms_keep_their_activation(generator):
    model, images = create_model("timm/mobilenetv3_small_050").eval(), torch.rand(2, 1, 64, 64, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(prepare(model, images, torch.float32)(images), model(images), rtol=1e-3, atol=1e-4)


def test_a_convolution_that_is_used_twice_keeps_its_batch_norm():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

        def forward(self, images):
            return self.norm(self.convolution(self.convolution(images)))

    assert find_pairs(Twice().eval(), torch.rand(1, 1, 2, 2)) == {}
