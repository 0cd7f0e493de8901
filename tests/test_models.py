"""models.py: every row of the zoo, checkpoints, weights from elsewhere."""

import urllib.error

import pytest
import torch
import torchvision

import models
from config import EMOTIONS
from models import MODELS, FaceClassifier, count_parameters, create_model, load_checkpoint, save_checkpoint
from utils import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_grey_and_rgb_faces(name, generator):
    spec, model = MODELS[name], create_model(name).eval()
    grey = torch.rand(2, 1, spec.image_size, spec.image_size, generator=generator)
    with torch.inference_mode():
        logits = model(grey)
        assert logits.shape == (2, len(EMOTIONS))
        torch.testing.assert_close(model(grey.expand(-1, 3, -1, -1)), logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_cam_layer_is_a_grid(name):
    spec, model = MODELS[name], create_model(name).eval()
    shapes = []
    model.get_submodule(spec.cam_layer).register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    with torch.inference_mode():
        model(torch.zeros(1, 1, spec.image_size, spec.image_size))
    assert len(shapes[0]) == 4
    assert shapes[0][2] == shapes[0][3] > 1


@pytest.mark.parametrize(
    ("name", "features", "published"), [("resnet50", 2048, 25557032), ("efficientnet_b0", 1280, 5288548)]
)
def test_parameters_of_the_torchvision_models(name, features, published):
    backbone = published - (features + 1) * 1000  # without the ImageNet classifier
    head = (features + 1) * 512 + 513 * 7
    assert count_parameters(create_model(name)) == backbone + head


def test_fer_vgg_as_published():
    model = create_model("fer_vgg")
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [
        (1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)
    ]  # fmt: skip
    assert all(m.kernel_size == (3, 3) for m in convolutions)
    assert [m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)] == [4096, 4096, 7]


def test_head_of_the_imagenet_models():
    head = create_model("resnet50", dropout=0.4).head
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert (head[0].out_features, head[2].p) == (512, 0.4)


def test_the_model_normalises_pixels():
    model = FaceClassifier(MODELS["resnet50"])
    seen = []
    model.backbone = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model.backbone.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model.head = torch.nn.Identity()
    model(torch.tensor(models.IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert seen[0].abs().max() < 1e-6


def test_colours_become_luma():
    model = create_model("mini_resnet").eval()
    colour = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 48, 48)
    grey = torch.full((1, 1, 48, 48), 0.299 * 0.2 + 0.587 * 0.5 + 0.114 * 0.9)
    with torch.inference_mode():
        torch.testing.assert_close(model(colour), model(grey), rtol=1e-4, atol=1e-5)


def test_unknown_model():
    with pytest.raises(UserError, match=r"unknown model 'resnet51'; did you mean resnet50\?.*fer_vgg"):
        create_model("resnet51")


def test_checkpoint_rebuilds_its_model(tmp_path, generator):
    model = create_model("mini_resnet").eval()
    save_checkpoint(tmp_path / "a.pth", "mini_resnet", model, epoch=3, metrics={"val_accuracy": 0.5})
    checkpoint = load_checkpoint(tmp_path / "a.pth", CPU)
    faces = torch.rand(3, 3, 48, 48, generator=generator)
    with torch.inference_mode():
        assert torch.equal(checkpoint.model(faces), model(faces))
    assert checkpoint.info["epoch"] == 3
    assert checkpoint.info["classes"] == list(EMOTIONS)
    assert not checkpoint.model.training


def test_broken_checkpoints(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(path, CPU)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read as a torch checkpoint"):
        load_checkpoint(path, CPU)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        load_checkpoint(path, CPU)
    torch.save({"state": {}}, path)
    with pytest.raises(UserError, match="not a checkpoint of this version"):
        load_checkpoint(path, CPU)
    save_checkpoint(path, "fer_vgg", create_model("mini_resnet"))
    with pytest.raises(UserError, match="does not fit fer_vgg"):
        load_checkpoint(path, CPU)


def test_a_model_of_other_classes_lends_its_backbone_only(tmp_path):
    path, classes = tmp_path / "eight.pth", (*EMOTIONS, "Contempt")
    source = create_model("mini_resnet", classes=classes)
    save_checkpoint(path, "mini_resnet", source, classes=classes)
    assert torch.load(path, weights_only=True)["classes"] == list(classes)
    with pytest.raises(UserError, match=r"pre-trained on 8 classes; fine-tune it with train\.py --init-from"):
        load_checkpoint(path, CPU)
    with pytest.raises(UserError, match="other classes"):
        create_model("mini_resnet", str(path))
    model = create_model("mini_resnet")
    models.load_backbone_of(model, "mini_resnet", path)
    assert torch.equal(model.backbone.stem[0].weight, source.backbone.stem[0].weight)
    assert model.head[-1].out_features == len(EMOTIONS)


def test_imagenet_weights_without_a_network(monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"could not be downloaded.*--weights none.*--weights FILE"):
        create_model("resnet50", "imagenet")
    with pytest.raises(UserError, match="fer_vgg has no ImageNet weights"):
        create_model("fer_vgg", "imagenet")


def test_imagenet_weights_from_the_cache_or_a_file(monkeypatch, tmp_path):
    torch.manual_seed(1)
    state = torchvision.models.efficientnet_b0(weights=None).state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *_, **__: state)
    torch.save(state, tmp_path / "weights.pth")
    for weights in ("imagenet", str(tmp_path / "weights.pth")):
        model = create_model("efficientnet_b0", weights)
        assert torch.equal(model.backbone.features[0][0].weight, state["features.0.0.weight"])
    with pytest.raises(UserError, match="do not fit"):
        create_model("resnet50", str(tmp_path / "weights.pth"))


def test_weights_from_a_checkpoint_of_this_project(tmp_path):
    source = create_model("mini_resnet")
    save_checkpoint(tmp_path / "a.pth", "mini_resnet", source)
    loaded = create_model("mini_resnet", str(tmp_path / "a.pth"))
    assert torch.equal(loaded.head[1].weight, source.head[1].weight)
    with pytest.raises(UserError, match="holds a mini_resnet, not a fer_vgg"):
        create_model("fer_vgg", str(tmp_path / "a.pth"))
