"""optimizers.py: rates, averages and sharpness-aware steps computed by hand."""

import math
from dataclasses import replace

import pytest
import torch

from ferlib.training.optimizers import OPTIMIZERS, Muon, ema_function, orthogonalized, parameter_groups, uphill
from ferlib.training.schedules import SCHEDULES, finished_cycle, learning_rate, set_learning_rate
from models import create_model
from recipes import Recipe


def rates(recipe, *epochs):
    return [learning_rate(recipe, epoch, []) for epoch in epochs]


def test_cosine():
    recipe = Recipe(lr=1.0, min_lr=0.1, schedule="cosine", t_max=10, epochs=30)
    expected = [1, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2, 0.55, 0.1, 0.1]
    assert rates(recipe, 0, 2.5, 5, 10, 20) == pytest.approx(expected)


def test_one_cycle():
    recipe = Recipe(lr=1.0, min_lr=0, schedule="one_cycle", t_max=None, epochs=10, warmup_epochs=2)
    assert rates(recipe, 0, 1, 2, 6, 10) == pytest.approx([0.01, 0.5, 1, 0.5, 0])


def test_warm_restarts():
    recipe = Recipe(lr=1.0, min_lr=0, schedule="warm_restarts", restart_epochs=2)
    assert rates(recipe, 0, 1, 2, 4, 6) == pytest.approx([1, 0.5, 1, 0.5, 1])


def test_ends_of_the_cycles():
    recipe = Recipe(schedule="warm_restarts", restart_epochs=2)
    assert [finished_cycle(recipe, epoch) for epoch in range(1, 16)] == [0, 1, 0, 0, 0, 2, *[0] * 7, 3, 0]
    late = replace(recipe, warmup_epochs=0.5)
    assert [finished_cycle(late, epoch) for epoch in range(1, 8)] == [0, 1, 0, 0, 0, 2, 0]


def test_step():
    recipe = Recipe(lr=1.0, min_lr=0, schedule="step", step_epochs=5, drop=0.1)
    assert rates(recipe, 0, 4.9, 5, 10) == pytest.approx([1, 1, 0.1, 0.01])


def test_plateau_follows_the_history():
    recipe = Recipe(lr=1.0, min_lr=0, schedule="plateau", plateau_patience=1, drop=0.5, monitor="accuracy")
    values = [0.1, 0.3, 0.3, 0.2, 0.4, 0.4, 0.4]
    epochs = [{"val_accuracy": value} for value in values]
    found = [learning_rate(recipe, number, epochs[:number]) for number in range(len(epochs) + 1)]
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    falling = replace(recipe, monitor="loss")
    assert learning_rate(falling, 3, [{"val_loss": value} for value in (3, 2, 1)]) == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_its_ends(name):
    recipe = Recipe(lr=1.0, min_lr=0.01, schedule=name, warmup_epochs=1, epochs=20)
    assert all(0.01 <= rate <= 1 for rate in rates(recipe, *(epoch / 4 for epoch in range(4, 80))))
    assert rates(recipe, 0.5) == [0.5]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    recipe = Recipe(optimizer=name, lr=0.05)
    weight = torch.nn.Parameter(torch.tensor([[3.0]]))
    optimizer = OPTIMIZERS[name]([{"params": [weight], "weight_decay": 0.0}], recipe)
    for _ in range(100):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.abs().item() < 1.5


def test_groups_of_backbone_and_head():
    model = create_model("mini_resnet")
    groups = parameter_groups(model, Recipe(weight_decay=0.1, lr=1.0, backbone_lr=0.25))
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0)
        assert len({parameter.ndim > 1 for parameter in group["params"]}) == 1
    optimizer = torch.optim.SGD(groups, 1.0)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125, 0.5, 0.5]


def test_moving_average_by_hand():
    update = ema_function(0.5)
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
    with uphill(model, rho=0.5):
        assert model.weight.item() == pytest.approx(2.5)
        model.zero_grad()
        model.weight.square().sum().backward()
    assert model.weight.item() == 2.0
    assert model.weight.grad.item() == pytest.approx(5.0)


def test_batch_norm_statistics_stand_still_uphill():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    faces = torch.rand(4, 1, 8, 8)
    model(faces).sum().backward()
    before = model[1].running_mean.clone()
    with uphill(model, rho=0.1):
        model(faces + 5)
    assert torch.equal(model[1].running_mean, before)
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("shape", [(20, 90), (90, 20)])
def test_orthogonalized_keeps_directions_and_evens_out_their_sizes(shape, generator):
    matrix = torch.randn(shape, generator=generator)
    result = orthogonalized(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = left.T @ result @ right.T
    assert (aligned.diagonal() - 0.9).abs().max() < 0.35
    assert (aligned - aligned.diagonal().diag()).abs().max() < 0.05


def test_muon_is_adamw_for_all_but_kernels(generator):
    values = torch.randn(7, 5, generator=generator)
    ours, theirs = (torch.nn.Parameter(values.clone()) for _ in range(2))
    group = {"lr": 0.1, "weight_decay": 0.2}
    optimizers = (
        Muon([{"params": [ours], **group}], 0.1),
        torch.optim.AdamW([{"params": [theirs], **group}], betas=(0.9, 0.99)),
    )
    for _ in range(4):
        gradient = torch.randn(7, 5, generator=generator)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_muon_moves_a_kernel_as_far_as_adamw_would(generator):
    kernel = torch.nn.Parameter(torch.zeros(16, 8, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=generator) * 1e-3
    Muon([{"params": [kernel]}], lr=0.1).step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.02, rel=0.2)
