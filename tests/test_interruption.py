"""What is stopped goes on where it was: a killed training to the same weights, explanations without doing any twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.process
FLAGS = "--epochs=4 --batch-size=8 --no-amp --ema-decay=0.9 --mixup=0.2"
RUN = "mini_resnet_fer2013"


def launch(script, few_real, outputs, *flags):
    folders = ["--data-dir", str(few_real), "--outputs-dir", str(outputs)]
    return subprocess.Popen(
        [sys.executable, script, "--device=cpu", "--dataset=fer2013", *folders, *flags],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a group of processes, as that of a terminal
    )


def start(few_real, outputs, *more):
    return launch("train.py", few_real, outputs, *FLAGS.split(), *more)


def finish(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]


def wait_for(process, pattern, folder):
    """Until a file is there."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_after_the_first_epoch(process, history):
    wait_for(process, history.name, history.parent)
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


@pytest.mark.skipif(sys.platform == "win32", reason="needs a group of processes")
def test_explanations_stopped_by_ctrl_c_go_on(few_real, tmp_path, ctrl_c):
    finish(start(few_real, tmp_path, "--max-steps=1"))
    flags = ("--model=mini_resnet", "--samples=12", "--lime-samples=1500")
    folder = tmp_path / "explanations" / "lime" / RUN
    stopped = launch("explain_lime.py", few_real, tmp_path, *flags)
    wait_for(stopped, "faces/[!.]*.npz", folder)
    os.killpg(stopped.pid, signal.SIGINT)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert errors.decode().rstrip().endswith("interrupted")
    assert b"Traceback" not in errors
    assert not list(folder.glob("*.json")), "no summary of half a run"
    assert not list(folder.rglob(".*.tmp*")), "nothing half-written"
    before = seconds_of_faces(folder)
    assert 0 < len(before) < 12
    finish(launch("explain_lime.py", few_real, tmp_path, *flags))
    after = seconds_of_faces(folder)
    assert len(after) == len(list(folder.glob("*.png"))) == 12
    assert before.items() <= after.items(), "a finished face was explained again"


def seconds_of_faces(folder):
    """How long each face took, by its key: no two runs take the same time."""
    found = {}
    for path in folder.glob("faces/[!.]*.npz"):
        with np.load(path) as saved:
            found[path.stem] = float(saved["seconds"])
    return found
