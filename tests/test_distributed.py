"""Two processes on the CPU do what one does: training, evaluation, explanations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


def test_same_loss_curve(outputs):
    one, two = (load(folder, "checkpoints/mini_resnet_fer2013_history.json") for folder in outputs)
    assert (one["processes"], two["processes"]) == (1, 2)
    for name in ("train_loss", "val_loss"):
        curves = [[epoch[name] for epoch in history["epochs"]] for history in (one, two)]
        assert curves[0] == pytest.approx(curves[1], rel=2e-4)
    assert one["epochs"][-1]["train_loss"] != one["epochs"][0]["train_loss"]


def test_same_evaluation(outputs):
    one, two = (np.load(folder / "checkpoints/mini_resnet_fer2013_predictions.npz") for folder in outputs)
    assert np.array_equal(one["names"], two["names"])
    np.testing.assert_allclose(one["probabilities"], two["probabilities"], atol=2e-3)


def test_same_explanations(outputs):
    summaries = [load(folder, "explanations/lime/mini_resnet_fer2013/lime_summary.json") for folder in outputs]
    one, two = (np.load(folder / "explanations/lime/mini_resnet_fer2013/maps.npz") for folder in outputs)
    assert np.array_equal(one["indices"], two["indices"])
    assert [face["name"] for face in summaries[0]["faces"]] == [face["name"] for face in summaries[1]["faces"]]
    assert np.corrcoef(one["maps"].ravel(), two["maps"].ravel())[0, 1] > 0.95
    assert not list(outputs[1].rglob("partial"))
