"""inference.py: the prepared copy of every model computes the same logits."""

import pytest
import torch
from torch import nn

from devices import autocast
from inference import find_pairs, prepare
from models import MODELS, create_model


def make_trained(name):
    """Random weights, with batch norms that have seen something."""
    torch.manual_seed(0)
    model = create_model(name)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_prepared_copy_gives_the_same_logits(name):
    model, side = make_trained(name), MODELS[name].image_size
    images = torch.rand(2, MODELS[name].channels, side, side, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = prepare(model, images, torch.float32)
    with torch.inference_mode():
        expected, found = model(images), fast(images)
        assert torch.allclose(found, expected, atol=1e-4 * expected.abs().max())
        with autocast(images.device, torch.bfloat16):
            half = prepare(model, images, torch.bfloat16)(images)
    assert (half.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert fast.get_submodule(MODELS[name].cam_layer) is not None
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model was changed"


def test_a_convolution_that_is_used_twice_keeps_its_batch_norm():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

        def forward(self, images):
            return self.norm(self.convolution(self.convolution(images)))

    assert find_pairs(Twice().eval(), torch.rand(1, 1, 2, 2)) == {}
