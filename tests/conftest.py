"""A small drawn data set and one tiny trained run, shared by all tests."""

from dataclasses import replace

import pytest
import torch

import config
import datasets
import train

TINY = replace(config.RECIPES["quick"], epochs=2, batch_size=16, max_steps=4)


@pytest.fixture(scope="session", autouse=True)
def few_faces():
    """Every test that reads the synthetic set reads 210 faces of 30 subjects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "SYNTHETIC_FACES", 210)
        patch.setattr(config, "SYNTHETIC_SUBJECTS", 30)
        yield


@pytest.fixture(scope="session")
def shared_outputs(tmp_path_factory, few_faces):
    """An outputs folder that already holds the cache of the synthetic faces."""
    outputs = tmp_path_factory.mktemp("outputs")
    datasets.load_faces("synthetic", outputs, outputs)
    return outputs


@pytest.fixture(scope="session")
def synthetic(shared_outputs):
    return datasets.load_faces("synthetic", shared_outputs, shared_outputs)


@pytest.fixture
def train_flags(shared_outputs):
    """Flags of a run of a few steps in float32; keyword arguments change them, recipe fields included."""

    def make(tag, **changes):
        recipe = {name: changes.pop(name) for name in list(changes) if hasattr(TINY, name)}
        flags = {"tag": tag, "outputs_dir": shared_outputs, "device": "cpu", "amp": False, "recipe": "quick"}
        return config.Train(**flags | changes, settings=replace(TINY, **recipe))

    return make


@pytest.fixture(scope="session")
def tiny_run(shared_outputs):
    """A mini_resnet that saw a few batches."""
    flags = config.Train(tag="tiny", outputs_dir=shared_outputs, device="cpu", recipe="quick", settings=TINY)
    train.fit(flags)
    return flags.run


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
