"""Searches that have a name: what is searched, and the flags and settings that all trials share."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Khaireddin & Chen, Facial Emotion Recognition: State of the Art Performance on FER2013 (2021, arXiv 2105.03588):
    # 73.28 % on test with SGD, Nesterov's momentum and a plateau schedule. Settings as in the authors' code
    # (github.com/usef-kh/fer): 300 epochs, lr 0.01, ×0.75 after 5 epochs on a plateau, steps of 20 epochs, restarts
    # after 10. Different here: AdamW and RAdam for Adagrad, Adadelta and ASGD; a warm-up for all, as it is the rise of
    # the one cycle; every step is ×0.75 (theirs ×0.5) and every restart's cycle twice as long as the one before.
    "vgg_paper": {
        "model": "fer_vgg",
        "dataset": "fer2013",
        "sampler": "grid",
        "pruner": "none",
        "search": (
            "optimizer=sgd,adam,adamw,radam",
            "schedule=plateau,cosine,one_cycle,warm_restarts,step,constant",
        ),
        "settings": {
            "epochs": 300,
            "batch_size": 64,
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "warmup_epochs": 2.0,
            "plateau_patience": 5,
            "drop": 0.75,
            "step_epochs": 20,
            "restart_epochs": 10,
            "ema_decay": 0.0,
            "clip_norm": 0.0,
            "label_smoothing": 0.0,
            "dropout": 0.1,
            "shift": 0.2,
            "scale": 0.2,
            "brightness": 0.0,
            "contrast": 0.0,
            "erasing": 0.5,
        },
    },
}
