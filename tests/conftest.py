"""A small drawn data set and one tiny trained run, shared by all tests."""

import gc
import os
import signal

import numpy as np
import pytest
import timm
import torch

import config
import datasets
import recipes
import train
from browsing import browser  # noqa: F401 — a fixture
from ferlib.data.synthetic.faces import draw_faces
from ferlib.faces import face_model
from ferlib.faces.face_model import open_face_model
from ferlib.inference import openvino_network
from ferlib.runtime.cores import OVERRIDE, share_cores
from ferlib.runtime.interrupts import ENDS
from zoo import make_classifier

TINY = recipes.changed(recipes.RECIPES["quick"], epochs=2, batch_size=16)


def pytest_configure() -> None:
    """The processes of pytest -n share the cores: one thread for each, and for each process that its tests start.

    Alone, as many threads as cores are free at the start.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault(OVERRIDE, "1")
        torch.set_num_threads(1)
    share_cores()
    os.environ.setdefault(OVERRIDE, str(torch.get_num_threads()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that ask for the browser are marked so."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session", autouse=True)
def few_faces():
    """Every test that reads the synthetic set reads 210 faces of 30 subjects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "SYNTHETIC_FACES", 210)
        patch.setattr(datasets, "SYNTHETIC_SUBJECTS", 30)
        yield


@pytest.fixture(scope="module", autouse=True)
def own_networks():
    """The untrained networks of a module's tests leave the memory with it: all of the zoo take 4 GB."""
    yield
    make_classifier.cache_clear()
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Converted networks are kept in a folder of the module: its tests do not depend on those of others."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_network, "user_cache", lambda: folder)
        yield folder


@pytest.fixture(scope="session")
def shared_outputs(tmp_path_factory, few_faces):
    """An outputs folder that already holds the cache of the synthetic faces."""
    outputs = tmp_path_factory.mktemp("outputs")
    datasets.load_faces("synthetic", outputs, outputs)
    return outputs


@pytest.fixture(scope="session")
def synthetic(shared_outputs):
    return datasets.load_faces("synthetic", shared_outputs, shared_outputs)


@pytest.fixture(scope="session")
def few_real(tmp_path_factory):
    """70 random faces as a FER2013 CSV."""
    rng = np.random.default_rng(0)
    lines = ["emotion,pixels,Usage"]
    for number in range(70):
        usage = ("Training", "Training", "Training", "PublicTest", "PrivateTest")[number % 5]
        smooth = np.kron(rng.integers(0, 256, (6, 6)), np.ones((8, 8), int))
        lines.append(f"{number // 5 % 7},{' '.join(map(str, smooth.ravel()))},{usage}")
    folder = tmp_path_factory.mktemp("data")
    (folder / "fer2013.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def train_flags(shared_outputs):
    """Flags of a run of a few steps in float32; keyword arguments change them, recipe fields included."""

    def make(tag, **changes):
        recipe = {name: changes.pop(name) for name in list(changes) if name in recipes.SETTINGS}
        flags = {"tag": tag, "outputs_dir": shared_outputs, "device": "cpu", "amp": False, "recipe": "quick"}
        return config.Train(**{"max_steps": 4} | flags | changes, settings=recipes.changed(TINY, **recipe))

    return make


@pytest.fixture(scope="session")
def tiny_run(shared_outputs):
    """A mini_resnet that saw a few batches."""
    flags = config.Train(
        tag="tiny", outputs_dir=shared_outputs, device="cpu", recipe="quick", max_steps=4, settings=TINY
    )
    train.fit(flags)
    return flags.run


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, here and in processes started here, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signals():
    """The signals that end a process do afterwards what they did before, and so does the terminal."""
    before = {number: signal.getsignal(number) for name in ENDS if (number := getattr(signal, name, None))}
    copies = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)  # also where pytest runs under nohup
    yield
    for descriptor, copy in copies.items():
        os.dup2(copy, descriptor)
        os.close(copy)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def shipped():
    """The shipped network, as photos are predicted with it."""
    return open_face_model(device="cpu")


@pytest.fixture(scope="module")
def one_model(shipped):
    """The scripts take the shipped network instead of loading it each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face_model, "open_face_model", lambda *_, **__: shipped)
        yield shipped


@pytest.fixture(scope="module")
def crops():
    """Five drawn faces, uint8 5×48×48×3."""
    return draw_faces(5, 48, subjects=5, workers=1).images


@pytest.fixture
def no_hub(monkeypatch):
    """timm reaches no hub for weights."""

    def offline(*_, pretrained=False, **options):
        if pretrained:
            raise FileNotFoundError("no network")
        return create(*_, **options)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
