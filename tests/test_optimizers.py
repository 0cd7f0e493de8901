"""optimizers.py and schedules.py: rates, averages and sharpness-aware steps computed by hand."""

import math

import pytest
import torch

from ferlib.training.optimizers import (
    OPTIMIZERS,
    ema_update,
    layers_of,
    muon,
    parameter_groups,
    perturbed_weights,
)
from ferlib.training.schedules import (
    SCHEDULES,
    cosine,
    finished_cycle,
    learning_rate,
    one_cycle,
    plateau,
    set_learning_rate,
    step,
    warm_restarts,
)
from ferlib.training.state import make_optimizer
from models import create_model
from recipes import RECIPES, LearningRate, changed

# ── learning rate ────────────────────────────────────────────────────────────────────────────────────────────────────


def rates(rate, epochs, *points):
    return [learning_rate(rate, epoch, epochs) for epoch in points]


def test_cosine():
    rate = LearningRate(lr=1.0, min_lr=0.1, schedule="cosine")
    expected = [1, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2, 0.55, 0.1, 0.1]
    assert rates(rate, 10, 0, 2.5, 5, 10, 20) == pytest.approx(expected)
    assert [cosine(progress) for progress in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_one_cycle():
    rate = LearningRate(lr=1.0, min_lr=0, schedule="one_cycle", warmup_epochs=2)
    assert rates(rate, 10, 0, 1, 2, 6, 10) == pytest.approx([0.01, 0.5, 1, 0.5, 0])
    assert one_cycle(0.25) == 0.75


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize("epochs", [8, 50])
def test_the_decay_follows_the_number_of_epochs(name, epochs):
    rate = LearningRate(lr=1.0, min_lr=0.01, schedule=name)
    halfway, last = rates(rate, epochs, epochs / 2, epochs)
    assert (halfway, last) == pytest.approx((0.505, 0.01))


def test_warm_restarts():
    rate = LearningRate(lr=1.0, min_lr=0, schedule="warm_restarts", restart_epochs=2)
    assert rates(rate, 30, 0, 1, 2, 4, 6) == pytest.approx([1, 0.5, 1, 0.5, 1])
    assert warm_restarts(1.5, warmup_epochs=0.5, first_cycle=2) == pytest.approx(0.5)


def test_a_rate_per_epoch_is_that_of_torch_s_scheduler_and_constant_within_an_epoch():
    rate = LearningRate(lr=1e-4, min_lr=1e-6, schedule="cosine", per_epoch=True)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], rate.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=rate.min_lr)
    for epoch in range(30):
        found = rates(rate, 30, *(epoch + step / 449 for step in range(449)))
        assert set(found) == {found[0]}
        assert found[0] == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    warming = LearningRate(lr=1.0, min_lr=0.0, schedule="one_cycle", warmup_epochs=2, per_epoch=True)
    assert rates(warming, 10, 0.9, 1.9, 2.9, 6.5) == pytest.approx([0.01, 0.5, 1, 0.5])


def test_ends_of_the_cycles():
    assert [finished_cycle(epoch, 0, 2) for epoch in range(1, 16)] == [0, 1, 0, 0, 0, 2, *[0] * 7, 3, 0]
    assert [finished_cycle(epoch, 0.5, 2) for epoch in range(1, 8)] == [0, 1, 0, 0, 0, 2, 0]


def test_step():
    rate = LearningRate(lr=1.0, min_lr=0, schedule="step", step_epochs=5, drop=0.1)
    assert rates(rate, 30, 0, 4.9, 5, 10) == pytest.approx([1, 1, 0.1, 0.01])
    assert step(12, step_epochs=5, drop=0.5) == 0.25


def test_plateau_follows_the_history():
    rate = LearningRate(lr=1.0, min_lr=0, schedule="plateau", plateau_patience=1, drop=0.5)
    values = [0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4]
    found = [learning_rate(rate, number, 30, values[:number], max) for number in range(len(values) + 1)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert learning_rate(rate, 3, 30, [3, 2, 1], min) == 1
    assert plateau([1, 2, 3], min, patience=0, drop=0.1) == pytest.approx(0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_its_ends(name):
    rate = LearningRate(lr=1.0, min_lr=0.01, schedule=name, warmup_epochs=1)
    assert all(0.01 <= found <= 1 for found in rates(rate, 20, *(epoch / 4 for epoch in range(4, 80))))
    assert rates(rate, 20, 0.5) == [0.5]


# ── optimisers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    weight = torch.nn.Parameter(torch.tensor([[3.0]]))
    optimizer = OPTIMIZERS[name]([{"params": [weight], "weight_decay": 0.0}], 0.05, 0.9, torch.float32)
    for _ in range(100):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.abs().item() < 1.5


def test_groups_of_backbone_and_head():
    model = create_model("mini_resnet")
    groups = parameter_groups(model.backbone, model.heads, lr=1.0, backbone_lr=0.25, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0)
        assert len({parameter.ndim > 1 for parameter in group["params"]}) == 1
    optimizer = torch.optim.SGD(groups, 1.0)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125, 0.5, 0.5]


def test_all_parameters_decay_on_demand():
    model = create_model("mini_resnet")
    found = make_optimizer(model, changed(RECIPES["quick"], decay_all=True, weight_decay=0.1), torch.float32)
    assert [group["weight_decay"] for group in found.param_groups] == [0.1]
    parameters = {parameter for group in found.param_groups for parameter in group["params"]}
    assert parameters == set(model.parameters())
    apart = make_optimizer(
        model, changed(RECIPES["quick"], decay_all=True, weight_decay=0.1, backbone_lr=1e-5), torch.float32
    )
    assert [group["weight_decay"] for group in apart.param_groups] == [0.1, 0.1]
    kernels_only = make_optimizer(model, changed(RECIPES["quick"], weight_decay=0.1), torch.float32)
    assert [group["weight_decay"] for group in kernels_only.param_groups] == [0.1, 0.0]


def test_layers_nearer_to_the_input_learn_more_slowly():
    backbone = torch.nn.Sequential()
    for name, part in (
        ("stem", torch.nn.Linear(1, 1)),
        ("stages", torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])),
    ):
        backbone.add_module(name, part)
    head = torch.nn.Linear(1, 1)
    groups = parameter_groups(backbone, head, lr=1.0, backbone_lr=0.5, layer_decay=0.1, weight_decay=0.1)
    scales = {parameter: group["scale"] for group in groups for parameter in group["params"]}
    layers = (backbone.stem, *backbone.stages, head)
    assert [scales[layer.weight] for layer in layers] == pytest.approx([0.005, 0.05, 0.5, 1.0])
    assert [scales[layer.bias] for layer in layers] == pytest.approx([0.005, 0.05, 0.5, 1.0])


def test_layers_of_a_backbone_are_its_blocks():
    backbone = create_model("timm/tf_efficientnet_lite0").backbone
    layers = layers_of(backbone)
    assert sum(map(len, layers)) == len(list(backbone.parameters()))
    assert layers[0][0] is backbone.conv_stem.weight
    assert [len(layer) for layer in layers[2:9]] == [sum(1 for _ in block.parameters()) for block in backbone.blocks]


def test_layers_below_a_single_module():
    """densenet121 has all in `features`, whose parts have names; efficientnet_b0 numbers its parts."""
    backbone = create_model("densenet121").backbone
    names = dict.fromkeys(name.split(".")[1] for name, _ in backbone.named_parameters())
    assert len(layers_of(backbone)) == len(names) > 8
    assert len(layers_of(create_model("efficientnet_b0").backbone)) == 9


def test_moving_average_by_hand():
    update = ema_update(0.5)
    average, weights = [torch.tensor([0.0])], [torch.tensor([1.0])]
    update(average, weights, 0)  # decay 0.1 in the first update, min(0.5, 1 / 10)
    assert average[0].item() == pytest.approx(0.9)
    update(average, weights, 1000)
    assert average[0].item() == pytest.approx(0.95)
    counters = [torch.tensor(3)]
    update(counters, [torch.tensor(7)], 5)
    assert counters[0].item() == 7


def test_sharpness_aware_gradient_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(2.0)
    model.weight.square().sum().backward()  # gradient 4, direction 1
    with perturbed_weights(model, rho=0.5):
        assert model.weight.item() == pytest.approx(2.5)
        model.zero_grad()
        model.weight.square().sum().backward()
    assert model.weight.item() == 2.0
    assert model.weight.grad.item() == pytest.approx(5.0)


def test_batch_norm_statistics_stand_still_perturbed_weights():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    faces = torch.rand(4, 1, 8, 8)
    model(faces).sum().backward()
    before = model[1].running_mean.clone()
    with perturbed_weights(model, rho=0.1):
        model(faces + 5)
    assert torch.equal(model[1].running_mean, before)
    assert model[1].momentum == 0.1


# ── Muon ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def orthogonalized(matrix):
    """Five Newton–Schulz steps in float32 with the coefficients of Jordan et al."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm()
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 0.03), (torch.float32, 1e-4)])
@pytest.mark.parametrize("shape", [(32, 1, 3, 3), (20, 10, 3, 3), (64, 5, 1, 1)])
def test_muon_steps_along_the_orthogonalised_momentum(shape, dtype, rounding, generator):
    kernel = torch.nn.Parameter(torch.randn(shape, generator=generator).to(memory_format=torch.channels_last))
    optimizer = muon([{"params": [kernel], "weight_decay": 0.1}], 0.01, 0.0, dtype)
    expected, momentum = kernel.detach().clone(), torch.zeros(shape)
    for _ in range(3):
        kernel.grad = torch.randn(shape, generator=generator) * 1e-3
        optimizer.step()
        momentum.lerp_(kernel.grad, 0.05)
        direction = orthogonalized(torch.lerp(kernel.grad, momentum, 0.95).flatten(1))
        update = 0.2 * max(direction.shape) ** 0.5 * direction.view(shape)
        moved = (1 - 0.01 * 0.1) * expected - 0.01 * update
        assert (kernel.detach() - moved).norm() < rounding * (0.01 * update).norm()
        expected = kernel.detach().clone()


def test_muon_is_adamw_for_all_but_kernels(generator):
    values = torch.randn(7, 5, generator=generator)
    found, expected = (torch.nn.Parameter(values.clone()) for _ in range(2))
    group = {"lr": 0.1, "weight_decay": 0.2}
    optimizers = (
        muon([{"params": [found], **group}], 0.1, 0.0, torch.float32),
        torch.optim.AdamW([{"params": [expected], **group}], betas=(0.9, 0.99)),
    )
    for _ in range(4):
        gradient = torch.randn(7, 5, generator=generator)
        for parameter, optimizer in zip((found, expected), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(found, expected, atol=1e-6)


def test_muon_moves_a_kernel_as_far_as_adamw_would(generator):
    kernel = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=generator) * 1e-3
    muon([{"params": [kernel]}], 0.1, 0.0, torch.float32).step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_state_of_muon_is_tensors_and_plain_python(tmp_path, dtype):
    model = create_model("mini_resnet")
    optimizer = muon(parameter_groups(model.backbone, model.heads, lr=0.1), 0.1, 0.0, dtype)
    model(torch.rand(2, 1, 48, 48)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pth")
    optimizer.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))


def test_muon_in_float32_goes_on_from_the_state_of_bfloat16(generator):
    gradients = torch.randn(3, 8, 4, 3, 3, generator=generator)
    ended = []
    for second in (torch.bfloat16, torch.float32):
        kernel = torch.nn.Parameter(torch.ones(8, 4, 3, 3))
        optimizer = muon([{"params": [kernel]}], 0.1, 0.0, torch.bfloat16)
        for number, gradient in enumerate(gradients):
            kernel.grad = gradient.clone()
            optimizer.step()
            if number == 0:
                state = optimizer.state_dict()
                optimizer = muon([{"params": [kernel]}], 0.1, 0.0, second)
                optimizer.load_state_dict(state)
        ended.append(kernel.detach())
    assert torch.allclose(*ended, atol=2e-3)


@pytest.mark.parametrize(("dtype", "emulated"), [(torch.bfloat16, True), (torch.float32, False)])
def test_muon_computes_nothing_in_bfloat16_where_the_run_does_not(dtype, emulated):
    model, recipe = create_model("mini_resnet"), RECIPES["fast"]
    optimizer = make_optimizer(model, recipe, dtype)
    model(torch.rand(2, 1, 48, 48)).sum().backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        optimizer.step()
    types = {kind for event in profile.events() for kind in event.input_dtypes}
    assert ("c10::BFloat16" in types) == emulated
