"""How models are trained: the settings of a recipe, each a flag of train.py, and recipes, our own and published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; every field is a flag of train.py."""

    weights: str = "imagenet"  # imagenet, none, or a file: torchvision weights or a checkpoint of this project
    init_from: str = ""  # name of a run, such as fer_resnet_rafdb, whose backbone to start from; the head is new
    epochs: int = 30
    batch_size: int = 64  # of all processes and accumulated parts together
    accumulate: int = 1  # parts of a batch that go through the model one after the other, to save memory
    max_steps: int | None = None  # bounds an epoch; for trying things
    # optimiser
    optimizer: Literal["sgd", "adam", "adamw", "radam", "muon"] = "adamw"
    lr: float = 1e-4
    backbone_lr: float | None = None  # a smaller rate for the backbone than for the head
    momentum: float = 0.9  # of SGD, with Nesterov's correction
    weight_decay: float = 1e-4
    sam_rho: float = 0.0  # radius of sharpness-aware minimisation; 0: none
    ema_decay: float = 0.0  # exponential moving average of the weights per step; 0: none
    clip_norm: float = 1.0  # of the gradient; 0: none
    # learning rate
    schedule: Literal["cosine", "one_cycle", "warm_restarts", "step", "plateau", "constant"] = "cosine"
    t_max: int | None = 30  # epochs of the half cosine; None: all epochs
    warmup_epochs: float = 0.0  # linear rise of the learning rate
    min_lr: float = 1e-6
    restart_epochs: int = 10  # of warm_restarts: length of the first cycle; each further one is twice as long
    step_epochs: int = 10  # of step: epochs between two drops
    plateau_patience: int = 3  # of plateau: epochs without a better value of the monitor before a drop
    drop: float = 0.5  # of step and plateau: factor of a drop
    # loss
    loss: Literal["cross_entropy", "focal", "votes"] = (
        "cross_entropy"  # votes: KL divergence from the annotators' votes
    )
    focal_gamma: float = 2.0
    label_smoothing: float = 0.1
    class_weights: bool = True  # faces weighted by the inverse frequency of their class
    balanced_sampling: bool = False  # every class is drawn equally often
    conflicts: Literal["keep", "drop", "share"] = (
        "keep"  # identical training faces of different labels; share: soft label
    )
    # regularisation
    dropout: float = 0.4
    stochastic_depth: float = 0.0  # probability of skipping the last residual block; earlier ones less
    # choice of the epoch
    monitor: Literal["loss", "accuracy", "macro_f1"] = "loss"  # on val: chooses the best epoch and stops early
    patience: int = 8  # epochs without a better value before the run stops; 0: never
    # faces
    image_size: int | None = None  # side in pixels of the faces that the model sees; None: the model's own
    flip: float = 0.5  # probability
    rotation: float = 10.0  # degrees, ±
    shift: float = 0.0  # fraction of the side, ±
    scale: float = 0.0  # relative, ±
    brightness: float = 0.2  # relative, ±
    contrast: float = 0.2  # relative, ±
    erasing: float = 0.0  # probability of a random rectangle set to grey
    mixup: float = 0.0  # alpha of the Beta distribution; 0: none
    cutmix: float = 0.0  # the same; with both, each batch takes one of them
    start_size: float = 1.0  # side of the first epoch's faces as a share of the full one, reached after 70 % of epochs


FAST = Recipe(
    weights="none",
    epochs=13,
    batch_size=128,
    optimizer="muon",
    lr=5e-3,
    weight_decay=0.1,
    schedule="one_cycle",
    warmup_epochs=0.5,
    t_max=None,
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
IMAGENET = Recipe(
    epochs=30,
    lr=5e-4,
    backbone_lr=1e-4,
    weight_decay=0.05,
    t_max=None,
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
    # FER_XAI: 70.88 % (resnet50) and 71.08 % (efficientnet_b0) on FER2013. Not run here: it needs ImageNet weights.
    # python train.py --model resnet50 --dataset fer2013
    "fer_xai": Recipe(),
    # The VGG of Khaireddin & Chen 2021: 73.28 % with ten crops; its code picks the epoch on PrivateTest. Not run here:
    # 300 epochs take a GPU. It trains on ten crops of each face at a step; ours on one.
    # python train.py --model fer_vgg --dataset fer2013 --recipe fer_vgg
    # python evaluate.py --model fer_vgg --dataset fer2013 --views ten_crop
    "fer_vgg": Recipe(
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
    "residual_masking": Recipe(
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
    "emotion_xai": Recipe(
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
    # The best accuracy of a quarter of an hour on 2 CPU cores: 68.0 % on PrivateTest (PublicTest 67.7 %), 12.5 minutes
    # python train.py --model fer_resnet --dataset fer2013
    "fast": FAST,
    # The best accuracy from random weights, three seeds: 70.9 ± 0.5 % on PrivateTest (PublicTest 69.9 ± 0.6 %), with
    # ten crops 71.8 ± 0.3 % (70.9 ± 0.6 %); 80 minutes on 2 CPU cores
    # python train.py --model fer_resnet_wide --dataset fer2013 --recipe scratch
    "scratch": replace(
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
    # What we would try first with ImageNet weights; never run, as there were none to be had: no result is claimed
    # python train.py --model resnet50 --dataset fer2013 --recipe imagenet
    "imagenet": IMAGENET,
    # AffectNet's eight classes first, then FER2013 with a new head, as the ResNet-34 with spatial attention is trained:
    # what it states of rates and epochs was not to be found, so these are ours. Never run, no result is claimed
    # python train.py --model resnet34_sa --dataset affectnet8 --recipe two_phase
    # python train.py --model resnet34_sa --dataset fer2013 --recipe two_phase --init-from resnet34_sa_affectnet8
    "two_phase": replace(IMAGENET, epochs=20, backbone_lr=5e-5, cutmix=0.0),
    # The same short training for every model of the zoo, to compare them: rmn 54.0 % on PrivateTest (PublicTest
    # 52.8 %), 22 networks together 55.6 % (54.6 %). AdamW, as Muon's steps are dear where layers are large
    # python benchmarks/bench_zoo.py --dataset fer2013 --ensemble
    "zoo": replace(FAST, epochs=3, optimizer="adamw", lr=1e-3, weight_decay=0.05, ema_decay=0.99, erasing=0.0),
    # A few minutes of a laptop; for the embedded faces: python train.py
    "quick": Recipe(
        weights="none",
        epochs=8,
        batch_size=32,
        lr=3e-3,
        t_max=None,
        warmup_epochs=0.5,
        class_weights=False,
        dropout=0.1,
        monitor="accuracy",
        patience=0,
        shift=0.05,
    ),
}
