"""architectures/: parameters as published, attention that weighs what it should, and training of every model."""

import pytest
import torch
import torch.nn.functional as F
import torchvision

import config
import models
from ferlib.networks.bam import BamResNet50, BottleneckAttention
from ferlib.networks.cbam import CbamResNet50, ChannelAttention
from ferlib.networks.checkpoints import load_backbone
from ferlib.networks.cifar_resnet import CifarResNet, PaddedBlock
from ferlib.networks.classifier import count_features, count_parameters
from ferlib.networks.residual_masking import Mask, ResidualMaskingNetwork
from ferlib.networks.spatial_attention import SpatialAttention, SpatialAttentionResNet34
from ferlib.runtime.errors import UserError
from ferlib.training import engine
from ferlib.training.batches import Faces
from ferlib.training.losses import Criterion, cross_entropy
from ferlib.training.state import start_training
from models import MODELS
from recipes import Recipe, changed
from zoo import KINDS, ZOO, make_classifier, random_faces, small_spec

CPU = torch.device("cpu")
PLAIN_LOSS = Criterion(cross_entropy, 7)
PLAIN = changed(
    Recipe(),
    weights="none",
    batch_size=4,
    optimizer="adam",
    lr=3e-4,
    dropout=0.0,
    schedule="constant",
    weight_decay=0.0,
    label_smoothing=0.0,
    class_weights=False,
    flip=0.0,
    rotation=0.0,
    brightness=0.0,
    contrast=0.0,
)


# ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────────────

OF_TORCHVISION = [name for name, spec in MODELS.items() if spec.imagenet and not spec.new_parts]


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_parameters_are_those_that_torchvision_publishes(name):
    """The backbone's and those of the classifiers that it was robbed of, auxiliary ones included."""
    spec = MODELS[name]
    with torch.device("meta"):
        backbone = spec.backbone()
    features = count_features(backbone, spec)
    classifiers = sum((width + 1) * 1000 for width in (features, *spec.auxiliary))
    unpublished = sum(p.numel() for n, p in backbone.named_parameters() if n.lower().startswith("aux"))
    if name == "googlenet":  # whose published number leaves the auxiliary branches out
        classifiers -= sum((width + 1) * 1000 for width in spec.auxiliary) + unpublished
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert count_parameters(backbone) + classifiers == published


@pytest.mark.parametrize(
    ("backbone", "features", "millions"),
    [
        (CbamResNet50, 2048, 28.09),  # Woo et al. 2018, table 4
        (BamResNet50, 2048, 25.92),  # Park et al. 2018, table 4
    ],
)
def test_parameters_are_those_of_the_papers(backbone, features, millions):
    with torch.device("meta"):
        assert round((count_parameters(backbone()) + (features + 1) * 1000) / 1e6, 2) == millions


def test_cbam_has_the_parameters_of_the_authors_code():
    with torch.device("meta"):
        assert count_parameters(CbamResNet50()) + 2049 * 1000 == 28_089_624


def test_spatial_attention_costs_next_to_nothing():
    """A 7×7 convolution of two maps and its batch norm in each of the sixteen blocks."""
    with torch.device("meta"):
        plain = count_parameters(torchvision.models.resnet34()) - 513 * 1000
        assert count_parameters(SpatialAttentionResNet34()) == plain + 16 * (2 * 7 * 7 + 2)


def test_residual_masking_has_the_parameters_of_the_authors_code():
    """137.8 million; 142.9 where, as in the authors' state dict, the shortcuts of the masks are there twice."""
    with torch.device("meta"):
        model = ResidualMaskingNetwork()
    parameters = count_parameters(model) + 513 * 7
    shortcuts = {n: p for n, p in model.named_parameters() if n.startswith("mask") and ".downsample." in n}
    assert parameters == 137_796_423
    assert round((parameters + sum(p.numel() for p in shortcuts.values())) / 1e6, 1) == 142.9


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_parameters_of_the_cifar_networks(depth, millions):
    """He et al. 2016, table 6: ten classes, colours."""
    with torch.device("meta"):
        parameters = count_parameters(CifarResNet(depth, channels=3)) + 65 * 10
    assert round(parameters / 1e6, 2 if depth < 100 else 1) == millions


def test_depths_of_the_cifar_networks():
    convolutions = [m for m in CifarResNet(32).modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) + 1 == 32
    for depth in (21, 2):
        with pytest.raises(ValueError, match="is not 6n \\+ 2"):
            CifarResNet(depth)


# ── what attention does ──────────────────────────────────────────────────────────────────────────────────────────────


def test_spatial_attention_by_hand(generator):
    attention, features = SpatialAttention().eval(), torch.randn(2, 5, 9, 8, generator=generator)
    maps = torch.stack([features.mean(1), features.max(1).values], 1)
    expected = F.conv2d(maps, attention.convolution.weight, padding=3) / (1 + attention.norm.eps) ** 0.5
    torch.testing.assert_close(attention(features), features * expected.sigmoid())


def test_channel_attention_by_hand(generator):
    attention, features = ChannelAttention(32), torch.randn(2, 32, 4, 4, generator=generator)
    first, _, second = attention.perceptron
    summed = sum(second(first(pooled).relu()) for pooled in (features.mean((2, 3)), features.flatten(2).max(2).values))
    torch.testing.assert_close(attention(features), features * summed.sigmoid().view(2, 32, 1, 1))


def test_bottleneck_attention_adds_channels_and_places(generator):
    attention, features = BottleneckAttention(32).eval(), torch.randn(2, 32, 6, 5, generator=generator)
    channels, places = attention.channels(features), attention.places(features)
    assert channels.shape == (2, 32, 1, 1)
    assert places.shape == (2, 1, 6, 5)
    torch.testing.assert_close(attention(features), features + features * (channels + places).sigmoid())
    assert {m.dilation for m in attention.places if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)} == {
        (4, 4)
    }


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_masks_are_shares_of_the_channels(depth, generator):
    mask, features = Mask(4, depth).eval(), torch.rand(2, 4, 14, 9, generator=generator) + 0.1
    with torch.no_grad():
        shares = mask(features) / features - 1
    assert ((shares >= 0) & (shares <= 1)).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 14, 9))
    assert len(mask.encoder) == depth
    assert len(mask.upscalers) == len(mask.decoder) == depth - 1


def test_attention_that_lets_all_pass_leaves_the_plain_network(generator):
    """With the gates wide open, the networks are torchvision's ResNets with the same weights."""
    images = torch.rand(2, 3, 64, 64, generator=generator)
    for attentive, name in ((CbamResNet50, "resnet50"), (SpatialAttentionResNet34, "resnet34")):
        plain, model = torchvision.models.get_model(name).eval(), attentive().eval()
        plain.fc = torch.nn.Identity()
        load_backbone(model, plain.state_dict(), name, ("attention",))
        for block in model.modules():
            if hasattr(block, "attention"):
                block.attention = torch.nn.Identity()
        with torch.no_grad():
            torch.testing.assert_close(model(images), plain(images))


def test_padded_shortcuts(generator):
    block, features = PaddedBlock(3, 6, stride=2).eval(), torch.rand(1, 3, 7, 7, generator=generator)
    torch.nn.init.zeros_(block.residual[-1].weight)
    with torch.no_grad():
        output = block(features)
    torch.testing.assert_close(output[:, :3], features[:, :, ::2, ::2])
    assert not output[:, 3:].any()


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tiny_faces(count=4):
    images = torch.randint(0, 256, (count, 48, 48, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 7
    return Faces(images, F.one_hot(labels, 7).float(), labels, CPU)


def train_epochs(name, monkeypatch, epochs=2, **changes):
    """Losses of a few epochs of one step on the same four faces."""
    spec, recipe = small_spec(name), changed(PLAIN, **changes)
    if MODELS.get(name, spec).fixed_size:  # it needs its own size in training
        spec = MODELS.get(name, spec)
    monkeypatch.setattr(models, "model_spec", lambda _: spec)
    training = start_training(config.Train(model=name, settings=recipe), CPU, torch.float32)
    options = {"seed": 0, "dtype": torch.float32}
    return training, [
        engine.train_one_epoch(training, tiny_faces(), PLAIN_LOSS, spec, recipe, epoch=epoch, **options)["train_loss"]
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("name", ZOO)
def test_every_model_learns(name, monkeypatch):
    training, losses = train_epochs(name, monkeypatch)
    assert losses[1] < losses[0]
    assert all(parameter.grad is not None for parameter in training.model.parameters()), "a layer takes no part"
    trained = {id(parameter) for group in training.optimizer.param_groups for parameter in group["params"]}
    assert trained == set(map(id, training.model.parameters())), "a layer does not learn"


@pytest.mark.parametrize("changes", [{"ema_decay": 0.5}, {"sam_rho": 0.05}, {"accumulate": 2}])
def test_auxiliary_heads_with_other_settings(changes, monkeypatch):
    training, losses = train_epochs("googlenet", monkeypatch, **changes)
    assert losses[1] < losses[0]
    assert training.deployed.eval()(random_faces(2, 64)).shape == (2, 7)


def test_auxiliary_losses_have_their_published_weight(monkeypatch):
    """One step of plain gradient descent on the sum of the three losses, two of them times 0.3."""
    training, _ = train_epochs("googlenet", monkeypatch, epochs=0, optimizer="sgd", lr=1.0, clip_norm=0.0)
    faces = random_faces(4, 64)
    targets = F.one_hot(torch.tensor([0, 1, 2, 3]), 7).float()
    training.model.train()
    outputs = training.model(faces)
    losses = [F.cross_entropy(output, targets) for output in outputs]
    expected = torch.autograd.grad(losses[0] + 0.3 * (losses[1] + losses[2]), list(training.model.parameters()))
    totals = engine.compute_gradient(training, (faces, targets, torch.ones(4)), PLAIN_LOSS, dtype=torch.float32)
    assert totals[0].item() == pytest.approx(4 * losses[0].item(), rel=1e-4), (
        "the loss that is shown is the model's own"
    )
    for parameter, gradient in zip(training.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["inception_v3", "timm/vit_small_patch16_224"])
def test_faces_of_one_size_do_not_grow(name):
    spec = models.model_spec(name)
    assert engine.spec_of_epoch(spec, 1.0, epoch=1, epochs=30) is spec
    with pytest.raises(UserError, match="px only; use --start-size 1"):
        engine.spec_of_epoch(spec, 0.64, epoch=1, epochs=30)


@pytest.mark.parametrize("name", [name for name in KINDS if not models.model_spec(name).fixed_size])
def test_every_model_takes_the_small_faces_of_a_growing_recipe(name):
    spec = models.model_spec(name)
    small = engine.spec_of_epoch(spec, 0.64, epoch=1, epochs=30)
    assert small.image_size < 0.7 * spec.image_size
    with torch.inference_mode():
        assert make_classifier(name)(random_faces(2, small.image_size)).shape == (2, 7)
