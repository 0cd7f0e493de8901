"""models.py: every row of the zoo, checkpoints, weights from elsewhere."""

import re
import urllib.error

import pytest
import timm
import torch
import torchvision

import models
from config import EMOTIONS
from ferlib.networks import timm_backbones
from ferlib.networks.checkpoints import load_backbone, load_backbone_of, save_checkpoint
from ferlib.networks.classifier import FaceClassifier
from ferlib.networks.costs import count_multiply_adds, measure_speed
from ferlib.networks.specs import IMAGENET_MEAN, IMAGENET_STD
from ferlib.runtime.errors import UserError
from models import MODELS, create_model, load_checkpoint
from zoo import TIMM, ZOO, make_classifier, random_faces, small_spec

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ZOO)
def test_every_model_takes_grey_and_rgb_faces(name):
    spec, model = small_spec(name), make_classifier(name)
    grey = random_faces(2, spec.image_size)
    with torch.inference_mode():
        logits = model(grey)
        assert logits.shape == (2, len(EMOTIONS))
        assert logits.isfinite().all()
        torch.testing.assert_close(model(grey.expand(-1, 3, -1, -1)), logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ZOO)
def test_cam_layer_is_a_grid(name):
    spec, model = small_spec(name), make_classifier(name)
    outputs = []
    handle = model.get_submodule(spec.cam_layer).register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.inference_mode():
        model(random_faces(1, spec.image_size))
    handle.remove()
    grid = spec.to_grid(outputs[0]) if spec.to_grid else outputs[0]
    assert grid.ndim == 4
    assert grid.shape[2] == grid.shape[3] > 1
    assert grid.shape[1] > grid.shape[2]


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].auxiliary])
def test_auxiliary_heads_take_part_in_training_only(name):
    model = create_model(name, classes=(*EMOTIONS, "Contempt"))
    faces = random_faces(2, MODELS[name].image_size)
    assert model.eval()(faces).shape == (2, 8)
    outputs = model.train()(faces)
    assert [output.shape for output in outputs] == [(2, 8)] * (1 + len(MODELS[name].auxiliary))
    outputs[-1].sum().backward()
    assert model.auxiliary_heads[-1].weight.grad is not None
    assert model.head[0].weight.grad is None


@pytest.mark.filterwarnings("ignore:for .* is a no-op", "ignore:The default weight init")
@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].imagenet])
def test_imagenet_weights_fit_every_model_that_has_them(name, monkeypatch):
    """The published weights have the layers of torchvision's own model; on the meta device, without values."""
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda url, **_: published_state(url))
    spec = MODELS[name]
    with torch.device("meta"):
        backbone = spec.backbone()
    state = spec.imagenet()
    load_backbone(backbone, state, name, spec.new_parts)
    missing = {key for key in backbone.state_dict() if key not in state}
    assert {part for key in missing for part in key.split(".")} >= set(spec.new_parts)
    assert bool(missing) == bool(spec.new_parts)
    if missing:
        with pytest.raises(UserError, match="do not fit"):
            load_backbone(backbone, state, name)


def test_attention_stays_random_beside_imagenet_weights(monkeypatch):
    zeros = {key: torch.zeros(value.shape) for key, value in published_state("resnet34-b627a593.pth").items()}
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *_, **__: zeros)
    backbone = create_model("resnet34_sa", "imagenet").backbone
    assert not backbone.layer1[0].conv1.weight.any()
    assert backbone.layer1[0].attention.convolution.weight.all()


def published_state(url):
    """The layers in the file that torchvision would load from `url`."""
    name = next(name for name in torchvision.models.list_models(torchvision.models) if find_weights(name, url))
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None).state_dict()


def find_weights(name, url):
    return any(weights.url.endswith(url) for weights in torchvision.models.get_model_weights(name))


def test_timm_weights(monkeypatch):
    name, create = "mobilenetv3_small_050", timm.create_model
    source = create(name, num_classes=0)
    monkeypatch.setattr(
        timm, "create_model", lambda *_, pretrained=False, **__: source if pretrained else create(name, num_classes=0)
    )
    model = create_model(f"timm/{name}", "imagenet")
    assert torch.equal(model.backbone.conv_stem.weight, source.conv_stem.weight)


@pytest.mark.usefixtures("no_hub")
def test_timm_weights_without_a_network():
    with pytest.raises(UserError, match=r"timm/vgg11 are not.*--weights none.*huggingface\.co/timm/vgg11"):
        models.model_spec("timm/vgg11").imagenet()


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("convnext_tiny", "backbone.stages.3", (768, 7, 7)),
        ("swin_tiny_patch4_window7_224", "backbone.norm", (768, 7, 7)),
        ("vit_small_patch16_224", "backbone.blocks.11.norm1", (384, 14, 14)),
        ("mixer_b16_224", "backbone.norm", (768, 14, 14)),
        ("vit_small_patch16_dinov3", "backbone.blocks.11.norm1", (384, 16, 16)),
        ("efficientnet_b0", "backbone.blocks.6", (320, 7, 7)),
    ],
)
def test_cam_layers_of_timm(name, layer, grid):
    spec = models.model_spec(f"timm/{name}")
    assert (spec.cam_layer, spec.recipe, spec.channels) == (layer, "finetune", 3)
    with torch.device("meta"):
        backbone = spec.backbone().eval()
    output = timm_backbones.output_of(
        backbone, layer.removeprefix("backbone."), (1, 3, spec.image_size, spec.image_size)
    )
    assert (spec.to_grid(output) if spec.to_grid else output).shape == (1, *grid)


def test_grids_keep_places():
    tokens = torch.arange(3 * 2 * 14).view(3, 14, 2)  # five tokens before nine cells
    grid = timm_backbones.tokens_to_grid(tokens)
    assert torch.equal(grid[1, :, 2, 0], tokens[1, 5 + 6])
    cells = torch.arange(2 * 3 * 3 * 5).view(2, 3, 3, 5)
    assert torch.equal(timm_backbones.channels_last_to_grid(cells)[1, :, 2, 0], cells[1, 2, 0])


def test_unknown_names_of_timm():
    with pytest.raises(UserError, match=r"timm has no model 'convnext_tinny'; did you mean convnext_tiny"):
        create_model("timm/convnext_tinny")


def test_dropout_of_the_backbone_is_the_recipe_s_where_there_is_any():
    model = create_model("alexnet", dropout=0.3)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    vit = create_model(TIMM[-1], dropout=0.3)
    assert {m.p for m in vit.backbone.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}


def test_inception_sees_what_torchvision_s_weights_were_trained_on():
    """torchvision turns ImageNet's normalisation into that of the Inception networks; the rows have the latter."""
    reference = torchvision.models.inception_v3(init_weights=False, transform_input=True, aux_logits=False)
    face = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    seen = reference._transform_input((face - mean) / std)
    for name in ("googlenet", "inception_v3"):
        own_mean, own_std = (torch.tensor(v).view(3, 1, 1) for v in (MODELS[name].mean, MODELS[name].std))
        torch.testing.assert_close((face - own_mean) / own_std, seen)


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
    model(torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 8, 8))
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
    with pytest.raises(UserError, match="is not a file of weights"):
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
    load_backbone_of(model, "mini_resnet", path)
    assert torch.equal(model.backbone.stem[0].weight, source.backbone.stem[0].weight)
    assert model.head[-1].out_features == len(EMOTIONS)


def test_weights_of_densenet121_under_the_names_of_their_file(tmp_path):
    """As torchvision's file has them: denselayer1.norm.1.weight."""
    state = torchvision.models.densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", name): value for name, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, path := tmp_path / "densenet121.pth")
    backbone = create_model("densenet121", str(path)).backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in backbone.items())


@pytest.mark.parametrize("name", ["inception_resnet_v2", "volo_d1_224", "vit_tiny_patch16_224", "convnext_tiny"])
def test_classifiers_of_timm_may_be_left_over(name):
    with torch.device("meta"):
        whole, backbone = timm.create_model(name), timm.create_model(name, num_classes=0)
    load_backbone(backbone, whole.state_dict(), name)


def test_weights_of_a_deeper_network(tmp_path):
    """ResNet-34 has all layers of ResNet-18, of the same shapes, and more; the classifier alone may be left over."""
    for name in ("resnet18", "resnet34"):
        torch.save(torchvision.models.get_model(name).state_dict(), tmp_path / f"{name}.pth")
    create_model("resnet18", str(tmp_path / "resnet18.pth"))
    with pytest.raises(UserError, match=r"this model has no layer1\.2\.conv1\.weight, nor \d+ other layers"):
        create_model("resnet18", str(tmp_path / "resnet34.pth"))


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


def test_the_zoo_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["models.py", "--timm", "convnext_tiny", "--no-speed", "--device", "cpu"])
    models.main()
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert set(MODELS) | {"timm/convnext_tiny"} <= set(rows)
    assert rows["resnet50"] == ["24.56", "4.09", "224", "RGB", "layer4", "yes"]
    assert rows["cbam_resnet50"][-1] == "partly"
    assert rows["fer_vgg"] == ["29.89", "0.35", "40", "grey", "features", "no"]


def test_speed_is_measured():
    assert measure_speed(MODELS["mini_resnet"], CPU, torch.float32, batch_size=2, seconds=0.01) > 0


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.imagenet and not spec.new_parts])
def test_multiply_adds_are_those_that_torchvision_publishes(name):
    with torch.device("meta"):
        model = FaceClassifier(MODELS[name]).eval()
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]  # in billions, with 1000 classes
    assert count_multiply_adds(model, MODELS[name]) / 1e9 == pytest.approx(published, rel=0.02)
