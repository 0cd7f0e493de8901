"""Two processes on the CPU do what one does: training, evaluation, explanations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import config
from ferlib.runtime import distributed
from ferlib.training import state
from recipes import Recipe, changed

ROOT = Path(__file__).parents[1]
TRAIN = "train.py --epochs 2 --batch-size 16 --max-steps 3 --dropout 0 --no-amp --mixup 0.2 --ema-decay 0.9 --lr 0.01"
EVALUATE = "evaluate.py --no-amp --no-figures"
EXPLAIN = "explain_lime.py --samples 3 --lime-samples 30 --no-amp --no-figures"


def run(processes, few_real, outputs):
    """Trains, evaluates and explains with so many processes; returns the outputs' JSON files."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    where = ["--dataset", "fer2013", "--data-dir", str(few_real), "--outputs-dir", str(outputs), "--device", "cpu"]
    for command in (TRAIN, EVALUATE, EXPLAIN):
        script = command.split()
        start = launcher if processes > 1 else [sys.executable]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*start, *script, *where], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return outputs


@pytest.fixture(scope="module")
def outputs(few_real, tmp_path_factory):
    return [run(count, few_real, tmp_path_factory.mktemp(f"outputs{count}")) for count in (1, 2)]


def load(outputs, name):
    return json.loads((outputs / name).read_text())


@pytest.mark.process
def test_same_loss_curve(outputs):
    one, two = (load(folder, "checkpoints/mini_resnet_fer2013_history.json") for folder in outputs)
    assert (one["processes"], two["processes"]) == (1, 2)
    for name in ("train_loss", "val_loss"):
        curves = [[epoch[name] for epoch in history["epochs"]] for history in (one, two)]
        assert curves[0] == pytest.approx(curves[1], rel=2e-4)
    assert one["epochs"][-1]["train_loss"] != one["epochs"][0]["train_loss"]


@pytest.mark.process
def test_same_evaluation(outputs):
    one, two = (np.load(folder / "checkpoints/mini_resnet_fer2013_predictions.npz") for folder in outputs)
    assert np.array_equal(one["names"], two["names"])
    np.testing.assert_allclose(one["probabilities"], two["probabilities"], atol=2e-3)


@pytest.mark.process
def test_same_explanations(outputs):
    summaries = [load(folder, "explanations/lime/mini_resnet_fer2013/lime_summary.json") for folder in outputs]
    one, two = (np.load(folder / "explanations/lime/mini_resnet_fer2013/maps.npz") for folder in outputs)
    assert np.array_equal(one["indices"], two["indices"])
    assert [face["name"] for face in summaries[0]["faces"]] == [face["name"] for face in summaries[1]["faces"]]
    assert np.corrcoef(one["maps"].ravel(), two["maps"].ravel())[0, 1] > 0.95
    assert not list(outputs[1].rglob(".*.tmp*")), "nothing half-written"


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_a_batch_norm_sees_the_parts_of_all_processes(kind, monkeypatch):
    torch.manual_seed(0)
    parts = [torch.randn(6, 3, 4, 4) * scale + scale for scale in (1, 2)]
    alone, shared = (nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), kind(3)) for _ in range(2))
    shared.load_state_dict(alone.state_dict())
    distributed.synchronize_batch_norm(shared, torch.device("cpu"))
    expected = alone(torch.cat(parts))

    others: list[torch.Tensor] = []  # the sums of the process whose turn it was
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "differentiable_all_reduce", lambda own: (others.append(own), sum(others))[1])
    statistics = {name: value.clone() for name, value in shared.state_dict().items()}
    shared(parts[1])  # leaves its sums for the first process, whose statistics they are not yet
    shared.load_state_dict(statistics)
    found = shared(parts[0])

    torch.testing.assert_close(found, expected[:6], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared[1].running_var, alone[1].running_var)
    torch.testing.assert_close(shared[1].running_mean, alone[1].running_mean)
    assert shared[1].num_batches_tracked == 1
    shared.eval()
    torch.testing.assert_close(shared(parts[0]), alone.eval()(parts[0]), rtol=1e-4, atol=1e-5)


def test_on_gpus_batch_norms_become_those_of_torch():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), BatchNormAct2d(3))
    before = model.state_dict()
    parameters = list(model.parameters())
    distributed.synchronize_batch_norm(model, torch.device("cuda", 0))
    assert [type(module) for module in model[1:]] == [nn.SyncBatchNorm, SyncBatchNormAct]
    assert model.state_dict().keys() == before.keys()
    assert all(found is parameter for found, parameter in zip(model.parameters(), parameters, strict=True))


def test_a_training_on_several_gpus_synchronises_before_it_collects_the_parameters(monkeypatch):
    """On a fake device: the conversion is asked for the device of the model, and its parameters are optimised."""
    asked = []

    def synchronize(model, device):
        asked.append(device.type)
        distributed.synchronize_batch_norm(model, torch.device("cuda"))

    monkeypatch.setattr(state, "synchronize_batch_norm", synchronize)
    monkeypatch.setattr(state, "world_size", lambda: 2)
    monkeypatch.setattr(state, "DistributedDataParallel", lambda model, **_options: model)
    flags = config.Train(settings=changed(Recipe(), weights="none", ema_decay=0.9))
    training = state.start_training(flags, torch.device("cpu"), torch.float32)
    assert asked == ["cpu"]
    kinds = {type(module) for module in training.model.modules() if isinstance(module, _BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
    optimised = {id(parameter) for group in training.optimizer.param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in training.model.parameters()}
    training.deployed.eval()(torch.rand(2, 1, 48, 48))
