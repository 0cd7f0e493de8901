"""inference/int8/quantization.py: nearly the same outputs in 8 bits, whatever follows the convolutions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

import explain_lime
from ferlib.inference.folding import frozen_copy
from ferlib.inference.int8 import quantization
from ferlib.inference.int8.graphs import trace
from ferlib.inference.int8.operations import Steps
from ferlib.inference.int8.quantization import WholeBatches, change, convert, half_hidden, in_batches, quantize
from ferlib.inference.int8.rewriting import Watch
from ferlib.inference.int8.units import find_units
from ferlib.runtime.errors import UserError
from zoo import KINDS, make_classifier, random_faces, slow_unless, small_spec

pytestmark = pytest.mark.skipif(
    not quantization.is_available(torch.device("cpu")), reason="needs an x86 processor with VNNI"
)


class Layers(nn.Module):
    """Four convolutions and a ReLU."""

    def __init__(self, side=3):
        super().__init__()
        self.first, self.second, self.third, self.fourth = (
            nn.Conv2d(16 if i else 3, 16, side, padding=side // 2) for i in range(4)
        )
        self.relu = nn.ReLU(inplace=True)


class Plain(Layers):
    """A sum with what no convolution made, in place as torchvision's."""

    def forward(self, images):
        out = self.second(self.relu(self.first(images)))
        out += images.mean(1, keepdim=True)
        return self.third(self.relu(out)).mean((2, 3))


class Residual(Layers):
    """A residual block behind a pooled stem."""

    def forward(self, images):
        stem = F.max_pool2d(self.relu(self.first(images)), 3, 2, 1)
        out = self.third(self.relu(self.second(stem)))
        out += stem
        return self.fourth(self.relu(out)).mean((2, 3))


class Pointwise(Residual):
    """One whose convolutions are products."""

    def __init__(self):
        super().__init__(side=1)


class Downsampled(Layers):
    """Both sides of the sum are convolutions without a ReLU, and no convolution reads it."""

    def forward(self, images):
        stem = self.first(images)
        return self.relu(self.second(stem) + self.third(stem)).mean((2, 3))


class Short(Layers):
    """The convolution reads what its output is added to, which must not be overwritten meanwhile."""

    def forward(self, images):
        stem = self.first(images).relu()
        return self.third((self.second(stem) + stem).relu()).mean((2, 3))


class Late(Layers):
    """The stem is read after the sum."""

    def forward(self, images):
        stem = self.first(images).relu()
        total = self.third(self.second(stem).relu()) + stem
        return (self.fourth(total) * stem).mean((2, 3))


class Crossed(Layers):
    """The last sum comes when its convolution's input has been overwritten by the one before."""

    def forward(self, images):
        stem = self.first(images).relu()
        left, right = self.second(self.third(stem).relu()), self.fourth(stem)
        total = left + stem
        return self.third((right + total).relu()).mean((2, 3))


class Inverted(Layers):
    """As of MobileNet: wide and depthwise convolutions, each with its activation, and a sum without one."""

    def __init__(self):
        super().__init__()
        self.second, self.third = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.fourth = nn.Conv2d(32, 16, 1)

    def forward(self, images):
        stem = F.silu(self.first(images))
        return (self.fourth(F.hardswish(self.third(F.silu(self.second(stem))))) + stem).relu().mean((2, 3))


class Swish(Layers):
    """After a sum oneDNN knows no activation but a ReLU."""

    def forward(self, images):
        stem = self.first(images).relu()
        return self.fourth(F.silu(self.third(self.second(stem).relu()) + stem)).mean((2, 3))


class Function(Layers):
    """A ReLU that is no module and not in place, read by two convolutions and by another operation."""

    def forward(self, images):
        stem = self.first(images).relu()
        return (self.second(stem) * self.third(stem) + stem).mean((2, 3))


# the activation that each convolution takes, whether it takes a sum, whether it hands its output on in 8 bits
BARE, HANDED_ON, RELU = ("none", 0, 0), ("none", 0, 1), ("relu", 0, 1)
SUM, SUM_RELU, SWISH, HARD_SWISH = ("none", 1, 1), ("relu", 1, 1), ("swish", 0, 1), ("hardswish", 0, 1)
UNITS = {
    Plain: [RELU, BARE, BARE],
    Residual: [RELU, RELU, SUM_RELU, BARE],
    Pointwise: [RELU, RELU, SUM_RELU, BARE],
    Downsampled: [HANDED_ON, HANDED_ON, SUM_RELU],
    Short: [RELU, BARE, BARE],
    Late: [RELU, RELU, BARE, BARE],
    Crossed: [RELU, RELU, BARE, SUM, BARE],
    Inverted: [SWISH, SWISH, HARD_SWISH, SUM_RELU],
    Swish: [RELU, RELU, SUM, BARE],
    Function: [RELU, BARE, BARE],
}


def quantized_error(model, images):
    """Root mean square of the change, as a share of the outputs' spread."""
    with torch.inference_mode():
        expected = model(images)
        found = quantize(model, images, len(images))(images).float()
    return ((found - expected).square().mean().sqrt() / expected.std()).item()


@pytest.mark.parametrize("kind", UNITS)
def test_blocks_in_8_bits(kind):
    torch.manual_seed(0)
    assert quantized_error(kind().eval(), torch.rand(16, 3, 12, 12)) < 0.05


@pytest.mark.parametrize("kind", UNITS)
def test_what_is_done_with_a_convolution(kind):
    with torch.no_grad():
        packed = convert(kind().eval(), torch.rand(2, 3, 12, 12), 2).packed
    found = [(unit.after, unit.added is not None, unit.dtype == torch.uint8) for unit in packed]
    assert found == UNITS[kind]


def test_compiled_the_answers_are_the_same():
    """The compiler may order and copy, but what a sum overwrites must not be read afterwards."""
    torch.manual_seed(0)
    images = torch.rand(4, 3, 12, 12)
    model = quantize(nn.Sequential(Residual(), nn.Unflatten(1, (16, 1, 1)), nn.Flatten()).eval(), images, 4)
    with torch.inference_mode():
        torch.testing.assert_close(WholeBatches(model, images)(images).float(), model(images).float())


@pytest.mark.parametrize("name", slow_unless(("mini_resnet", "resnet18"), KINDS))
def test_every_model_in_8_bits(name):
    """Random networks magnify every rounding, so bfloat16's error is the measure."""
    torch.manual_seed(0)
    model, spec = make_classifier(name), small_spec(name)
    images = half_hidden(random_faces(8, spec.image_size, spec.channels))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = in_batches(frozen_copy(model), images)
        rounded = change(frozen_copy(model), images, expected)
        error = change(convert(model, images, 8), images, expected)
    assert error < 5 * rounded + 0.02
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model was changed"


def test_ranges_contain_zero_and_the_extremes():
    images = torch.tensor([-1.0, 4.1]).view(1, 1, 1, 2)
    traced = trace(nn.Sequential(nn.Conv2d(1, 16, 1), nn.Flatten()), images)
    watch = Watch(traced, find_units(traced.graph))
    watch.run(images)
    entry, output = watch.ranges.values()
    assert entry == (-1.0, pytest.approx(4.1))
    assert output[0] <= 0 <= output[1]
    assert Steps.of(*entry) == (pytest.approx(0.02), 50)


def test_a_network_that_does_not_bear_8_bits_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 16, 1, bias=False), nn.Flatten()).eval()
    images = torch.full((4, 1, 2, 2), 0.5)
    images[0, 0, 0, 0] = 1e6  # one huge value leaves no steps for the rest
    images += torch.arange(4).view(4, 1, 1, 1) * 1e-3

    class Late(nn.Module):
        def forward(self, outputs):
            return outputs.unflatten(1, (16, 4))[..., 1:].flatten(1) * 1e3

    with pytest.raises(UserError, match="leave --int8 out"):
        quantize(nn.Sequential(*model, Late()).eval(), images, 4)


def lime_maps(run, int8, **flags):
    shared = {"model": run.model, "dataset": run.dataset, "tag": run.tag, "outputs_dir": run.outputs_dir}
    few = {"samples": 7, "lime_samples": 400, "figures": False, "device": "cpu"}
    summary = explain_lime.explain(explain_lime.ExplainLime(**shared, **few, int8=int8, **flags))
    with np.load(run.explanation_maps("lime")) as saved:
        return summary, saved["maps"].astype(np.float32)


def test_lime_in_8_bits_ranks_the_same(tiny_run):
    _, exact = lime_maps(tiny_run, int8=False)
    summary, found = lime_maps(tiny_run, int8=True)
    assert summary["settings"]["int8"]
    ranks = [spearmanr(first.ravel(), second.ravel()).statistic for first, second in zip(exact, found, strict=True)]
    assert 0.9 < np.mean(ranks) < 1


def test_int8_in_float32_is_refused(tiny_run):
    with pytest.raises(UserError, match="--int8 needs an x86 processor with VNNI, and not --no-amp"):
        lime_maps(tiny_run, int8=True, amp=False)


def test_batches_are_made_whole():
    torch.manual_seed(0)
    images = torch.rand(11, 3, 12, 12)
    model = quantize(Residual().eval(), images, 4)
    with torch.inference_mode():
        whole = WholeBatches(model, images[:4])
        assert torch.allclose(whole(images).float(), model(images).float(), atol=0.02)
        assert len(whole(images[:1])) == 1


def test_half_hidden_copies():
    images = torch.rand(3, 1, 16, 16)
    both = half_hidden(images)
    assert torch.equal(both[:3], images)
    hidden = (both[3:] == 0.5).float().mean().item()
    assert 0.3 < hidden < 0.7
    assert torch.equal(both, half_hidden(images))
