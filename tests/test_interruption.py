"""A run killed by the system and resumed ends as the uninterrupted one: the same weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FLAGS = "--epochs=4 --batch-size=8 --no-amp --device=cpu --dataset=fer2013 --ema-decay=0.9 --mixup=0.2"
RUN = "mini_resnet_fer2013"


def start(few_real, outputs, *more):
    command = [
        sys.executable,
        "train.py",
        *FLAGS.split(),
        "--data-dir",
        str(few_real),
        "--outputs-dir",
        str(outputs),
        *more,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]


def kill_after_the_first_epoch(process, history):
    deadline = time.monotonic() + 120
    while not history.exists():
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_and_resumed(few_real, tmp_path):
    whole = start(few_real, tmp_path / "whole")
    broken = start(few_real, tmp_path / "broken")
    kill_after_the_first_epoch(broken, tmp_path / "broken" / "checkpoints" / f"{RUN}_history.json")
    finish(whole)
    finish(start(few_real, tmp_path / "broken", "--resume"))
    for kind in ("best", "last"):
        files = [tmp_path / name / "checkpoints" / f"{RUN}_{kind}.pth" for name in ("whole", "broken")]
        first, second = (torch.load(path, weights_only=True) for path in files)
        assert first["epoch"] == second["epoch"]
        assert all(torch.equal(first["state"][name], second["state"][name]) for name in first["state"])
    histories = [tmp_path / name / "checkpoints" / f"{RUN}_history.json" for name in ("whole", "broken")]
    curves = [json.loads(path.read_text()) for path in histories]
    losses = [[epoch["train_loss"] for epoch in history["epochs"]] for history in curves]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
